"""How a program that serves no HTTP reports that it is healthy: a file with the time until which it is.

As the container's health check, it exits 0 until that time. It runs every few seconds, so it starts fast:
`python -I -S`, and no imports beyond what the interpreter has loaded anyway.
"""

import os
import sys
import time

FILE = "/tmp/heartbeat"  # noqa: S108 - the container's own, in memory


def beat(seconds: float) -> None:
    """Promises another beat, or the program's end, within that many seconds."""
    unfinished = f"{FILE}.{os.getpid()}"  # without containers, workers share the folder
    with open(unfinished, "w") as file:  # noqa: PTH123 - pathlib takes 10 ms to import
        file.write(str(time.time() + seconds))
    os.replace(unfinished, FILE)  # noqa: PTH105


def main() -> int:
    try:
        with open(FILE) as file:  # noqa: PTH123
            late = time.time() - float(file.read())
    except (OSError, ValueError) as error:
        print(f"no heartbeat: {error}")
        return 1
    print(f"{abs(late):.1f} s {'late' if late > 0 else 'to the next beat'}")
    return 1 if late > 0 else 0


if __name__ == "__main__":
    sys.exit(main())

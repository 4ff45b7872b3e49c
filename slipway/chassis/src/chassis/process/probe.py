"""The container's health check: exits 0 if `/health/ready` (or the path given) answers 200.

It runs every few seconds, so it starts fast: `python -I -S` and the bare socket module take 21 ms of CPU, urllib 68.
The port is PORT, 8000 unless set.
"""

import _socket
import os
import sys

TIMEOUT = 2.5  # seconds


def main(path: str) -> int:
    connection = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
    connection.settimeout(TIMEOUT)
    try:
        connection.connect(("127.0.0.1", int(os.environ.get("PORT") or 8000)))
        connection.send(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        status = connection.recv(64).split(b"\r\n")[0]
    except (OSError, ValueError) as error:
        print(f"{path}: {error}")
        return 1
    print(f"{path}: {status.decode('latin-1')}")
    return 0 if status.split(b" ")[1:2] == [b"200"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "/health/ready"))

"""Scores an image against the contract: `IMAGE=any/image:tag slipway/proofs/contract/report.py`.

From the environment: IMAGE, and if the defaults don't fit, PORT=8000, HEALTH=/health/ready,
SLOW=/a/slow/route, MIGRATE="a command", ENV="A=b C=d". Exit codes: 0 if every promise is kept; 1 if not;
2 if there was nothing to judge.
"""

import os
import signal
import sys

from slipway.proofs.contract.container import shown
from slipway.proofs.contract.promises import PROMISES, Broken, NotJudged, Promise
from slipway.proofs.contract.subject import BadInput, Subject, Wanted

KEPT, NOT_KEPT, NOTHING = 0, 1, 2
GREEN, RED, YELLOW, FAINT, BOLD = 32, 31, 33, 2, 1


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        with Subject(Wanted.parse(os.environ)) as subject:
            return report(subject)
    except BadInput as error:
        print(f"contract: {error}", file=sys.stderr)
        return NOTHING
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def report(subject: Subject) -> int:
    """Prints the result of each promise as it becomes known, and the score."""
    say(style(BOLD, subject.image))
    group, verdicts = "", []
    for each in PROMISES:
        if each.group != group:
            group = each.group
            say(f"\n{style(BOLD, group)}")
        verdicts.append(judge(subject, each))
    unknown = f" ({verdicts.count(None)} not judged)" if None in verdicts else ""
    say(f"\nkept {verdicts.count(True)} of {len(PROMISES)} promises{unknown}")
    return KEPT if all(verdicts) else NOT_KEPT


def judge(subject: Subject, promise: Promise) -> bool | None:
    """Prints the promise's line, or lines; returns whether it is kept, None if that is not known."""
    try:
        note = promise.judge(subject)
    except Broken as broken:
        say(f"{mark(RED, '✗', promise)}\n       {broken.seen}")
        say(style(FAINT, f"       → {broken.advice or promise.advice}"))
        return False
    except NotJudged as unknown:
        say(f"{mark(YELLOW, '?', promise)}\n       not judged: {unknown}")
        return None
    except Exception as error:
        failed = shown(f"{type(error).__name__}: {error}")
        say(f"{mark(YELLOW, '?', promise)}\n       not judged, for the check itself failed: {failed}")
        return None
    say(mark(GREEN, "✓", promise) + (style(FAINT, f"  ({note})") if note else ""))
    return True


def mark(colour: int, sign: str, promise: Promise) -> str:
    return f"{style(colour, sign)} {promise.number:3}  {promise.text}"


def style(code: int, text: str) -> str:
    colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    return f"\033[{code}m{text}\033[0m" if colours else text


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8")  # the marks, whatever the locale
    sys.exit(main())

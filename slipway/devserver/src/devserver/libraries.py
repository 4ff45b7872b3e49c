"""What stays loaded from one state of the code to the next: the libraries, and the bytecode of what was not edited."""

import importlib
import importlib.machinery
import os
import sys
from contextlib import suppress
from pathlib import Path
from types import CodeType

from chassis.observe import timeseries
from devserver.sources import Seen, Stat

# The board's figures, which outlive a reload.
KEPT = ("chassis", timeseries.__name__)


def preload(root: Path, module: str) -> bool:
    """Imports each library that the module uses, so that a reload loads only our own code. False if it is broken.

    A child process finds out which libraries they are, so that this one keeps none of our own modules.
    """
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        status = 1
        with suppress(BaseException):  # a broken module has still imported some
            importlib.import_module(module)
            status = 0
        with suppress(BaseException), os.fdopen(writer, "w") as out:
            out.write("\n".join(name for name in list(sys.modules) if not is_ours(root, name)))
        os._exit(status)
    os.close(writer)
    with os.fdopen(reader) as names:
        libraries = names.read().split()
    _, status = os.waitpid(child, 0)
    for name in libraries:
        with suppress(Exception):
            importlib.import_module(name)
    return status == 0


def forget(root: Path) -> None:
    """Drops the modules of our own code that were inherited: the next import reads what was saved."""
    for name in [name for name in sys.modules if is_ours(root, name)]:
        if name not in KEPT:
            del sys.modules[name]


def is_ours(root: Path, name: str) -> bool:
    """Whether a module is the repository's: its file lies in a package's src/."""
    path = getattr(sys.modules.get(name), "__file__", None) or ""
    return path.startswith((f"{root}/libs/", f"{root}/services/", f"{root}/slipway/chassis/"))


class Compiled(dict[str, tuple[Stat, CodeType]]):
    """The bytecode of our own sources, by path, with what `stat` said of each. Forks inherit it."""

    def update_from(self, seen: Seen) -> None:
        """Compiles what is new; what does not compile is left to the import, which says why."""
        for path, stat in seen.items():
            if path.endswith(".py") and self.get(path, (None,))[0] != stat:
                self.pop(path, None)
                with suppress(OSError, SyntaxError, ValueError):
                    self[path] = stat, compile(Path(path).read_bytes(), path, "exec", dont_inherit=True)

    def use(self) -> None:
        """Makes imports in this process use them."""
        original = importlib.machinery.SourceFileLoader.get_code

        def get_code(loader: importlib.machinery.SourceFileLoader, name: str) -> CodeType | None:
            known = self.get(loader.get_filename(name))
            return known[1] if known else original(loader, name)

        importlib.machinery.SourceFileLoader.get_code = get_code  # type: ignore[method-assign, assignment]

"""Compiles a service's source below a root, `source.py ROOT`, and fails where a module of it can't be imported.

Both at once: while it imports what the service stands on, which takes most of the time, another process compiles.
"""

import compileall
import os
import sys
from importlib import import_module
from pathlib import Path

root = Path(sys.argv[1])
service = root / "app/services" / os.environ["SERVICE"]

if (compiler := os.fork()) == 0:
    os._exit(not compileall.compile_dir(service, quiet=1, stripdir=root))

sys.path.insert(0, str(service / "src"))
for path in service.glob("src/*/*.py"):
    import_module(f"{path.parent.name}.{path.stem}")
if failed := os.waitstatus_to_exitcode(os.waitpid(compiler, 0)[1]):
    sys.exit(failed)

# What was made here says nothing of when: made anew for a new dependency, it is the same layer.
for path in (root, *root.rglob("*")):
    if path.is_dir() or path.suffix == ".pyc":
        os.utime(path, (0, 0))

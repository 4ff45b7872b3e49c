"""Makes a layer of the source below a root, `source.py ROOT`, and fails if a service's module can't be imported.

It compiles and imports in one process, since importing a service's dependencies takes most of the time. Times and
modes, which git does not record, are the same in every checkout, so that the same contents give the same layer.
"""

import compileall
import os
import sys
import zlib
from importlib import import_module
from pathlib import Path

root = Path(sys.argv[1])

# Files get times derived from their contents, not one time for all: web servers tell by time and size whether a
# browser's copy is current. This comes before compiling, since bytecode contains its source's time.
for path in root.rglob("*"):
    if path.is_file() and not path.is_symlink():
        path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
        date = zlib.crc32(path.read_bytes()) >> 2  # before 2004, so that none is in the future
        os.utime(path, (date, date))

if (compiler := os.fork()) == 0:
    os._exit(not compileall.compile_dir(root / "app", quiet=1, stripdir=root))

for service in root.glob("app/services/*"):
    sys.path.insert(0, str(service / "src"))
    for path in service.glob("src/*/*.py"):
        import_module(f"{path.parent.name}.{path.stem}")
if failed := os.waitstatus_to_exitcode(os.waitpid(compiler, 0)[1]):
    sys.exit(failed)

for path in (root, *root.rglob("*")):
    if path.is_dir() and not path.is_symlink():
        path.chmod(0o755)
    if not path.is_file() or path.is_symlink() or path.suffix == ".pyc":
        os.utime(path, (0, 0), follow_symlinks=False)

"""Creates a root file system with python, the environment, and the libraries they link to: no shell, no package
manager.

Runs in the build, in the stage that contains everything: `python minimal.py /root-of-the-new-image`.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ENVIRONMENT = Path("/opt/venv")  # a separate layer in the image
STDLIB = Path(sys.base_prefix, "lib", f"python3.{sys.version_info.minor}")
# Left out of the standard library: what installs, draws, documents or tests, and what no server imports.
LEFT_OUT = (
    "config-*", "curses", "dbm", "dist-packages", "ensurepip", "idlelib", "lib2to3", "pydoc_data", "site-packages",
    "sqlite3", "test", "tkinter", "turtle*", "unittest", "venv", "xmlrpc", "*test*.so", "_curses*", "_dbm.*", "_gdbm.*",
    "_remote_debugging.*", "_sqlite3.*", "_tkinter.*", "readline.*", "xx*.so",
)  # fmt: skip
STATUS = "var/lib/dpkg/status.d"
TIME_ZONES = Path("/usr/share/zoneinfo")  # for zoneinfo and TZ
KEPT = (
    "/etc/group", "/etc/nsswitch.conf", "/etc/os-release", "/etc/passwd", "/etc/ssl/certs/ca-certificates.crt",
    "/usr/lib/os-release",
)  # fmt: skip


def main(root: Path) -> None:
    for link in ("bin", "lib", "lib64", "sbin"):  # as Debian has it since 12
        (root / "usr" / link).mkdir(parents=True, exist_ok=True)
        (root / link).symlink_to(f"usr/{link}")
    for directory, mode in (("tmp", 0o1777), ("dev", 0o755), ("proc", 0o755), ("sys", 0o755), ("run", 0o755)):
        (root / directory).mkdir()
        (root / directory).chmod(mode)
    python = Path(sys.executable).resolve()
    for name in ("python", "python3", python.name):
        copy(root, Path(sys.base_prefix, "bin", name))
    copy(root, Path(shutil.which("tini")))
    copy_tree(root, STDLIB, LEFT_OUT)
    copy_tree(root, TIME_ZONES, ("localtime",))  # the machine's own
    for path in map(Path, KEPT):
        if path.exists():
            copy(root, path)
    programs = [path for tree in (root, ENVIRONMENT) for path in tree.rglob("*") if is_elf(path)]
    for library in linked(programs):
        if not library.is_relative_to(ENVIRONMENT):  # a wheel's own
            copy(root, library)
    describe(root)
    # Created files get a fixed time. Modules keep their times, which their bytecode contains.
    for path in (root, *root.rglob("*")):
        if path.is_dir() or path.suffix == ".pyc" or path.is_relative_to(root / STATUS):
            os.utime(path, (0, 0), follow_symlinks=False)


def copy(root: Path, path: Path) -> None:
    """Copies a file; if it is a link, the link and its target."""
    place = root / path.relative_to("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    if not place.exists():
        shutil.copy2(path, place, follow_symlinks=False)
    if path.is_symlink():
        copy(root, path.parent.resolve() / path.readlink())


def copy_tree(root: Path, tree: Path, left_out: tuple[str, ...]) -> None:
    shutil.copytree(
        tree, root / tree.relative_to("/"), symlinks=True, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*left_out)
    )


def is_elf(path: Path) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def linked(programs: list[Path]) -> set[Path]:
    """The shared libraries that these files need, and the loader."""
    listing = subprocess.run(["ldd", *map(str, programs)], capture_output=True, text=True, check=False).stdout
    if missing := re.findall(r"(\S+) => not found", listing):
        sys.exit(f"minimal: {', '.join(sorted(set(missing)))} is nowhere.")
    return {Path(found) for found in re.findall(r"(/\S+) \(0x", listing)}


def describe(root: Path) -> None:
    """Lists the included Debian packages in status.d, where scanners look if there is no dpkg."""
    held = {f"/{path.relative_to(root)}" for path in root.rglob("*") if path.is_file()}
    held |= {path.removeprefix("/usr") for path in held}  # the path that packages recorded before /lib was a link
    owners = {
        listing.stem.partition(":")[0]
        for listing in Path("/var/lib/dpkg/info").glob("*.list")
        if not held.isdisjoint(listing.read_text().splitlines())
    }
    folder = root / STATUS
    folder.mkdir(parents=True)
    for paragraph in Path("/var/lib/dpkg/status").read_text().split("\n\n"):
        if (name := re.match(r"Package: (\S+)", paragraph)) and name[1] in owners:
            (folder / name[1]).write_text(paragraph.strip() + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

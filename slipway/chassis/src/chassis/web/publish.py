"""Publishes static files where the proxy serves them from, under names with a digest, `style.1a2b3c4d.css`.

A release's files are placed, compressed, beside those of earlier releases: while a release rolls out, the pages of both
find their own files.
"""

import gzip
import hashlib
import importlib.util
import os
import re
import sys
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path, PurePosixPath

from chassis.web import bundle as bundles
from chassis.web.bundle import BUNDLED

OWN = Path(__file__).with_name("static")  # the chassis's
KEPT = 30 * 24 * 3600  # seconds that a published file outlives its release
HASHED = re.compile(r"(.+)\.([0-9a-f]{8})(\.[^./]+)?").fullmatch

COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {".gz": lambda data: gzip.compress(data, mtime=0)}
try:
    from compression import zstd  # Python 3.14, the images'

    COMPRESSORS[".zst"] = lambda data: zstd.compress(data, 19)
except ImportError:
    pass


def package(name: str) -> Path:
    """A package's folder, without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"there is no package {name}", name=name)
    return Path(spec.origin).parent


def digest(path: Path) -> str | None:
    """Eight hexadecimal digits of the file's contents; None where there is no such file."""
    try:
        return _digest(path, path.stat().st_mtime_ns)
    except (OSError, ValueError):
        return None


@lru_cache(maxsize=1024)
def _digest(path: Path, modified: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:8]


def hashed(folder: Path, filename: str) -> str:
    """`flags/n.svg` as `flags/n.1a2b3c4d.svg`; unchanged if a bundler has hashed it, or there is no such file."""
    if BUNDLED(filename) or not (found := digest(folder / filename)):
        return filename
    name = PurePosixPath(filename)
    return str(name.with_name(f"{name.stem}.{found}{name.suffix}"))


def publish(folders: dict[str, Path], target: Path, bundle: Path | None = None) -> int:
    """Copies each folder below its name, with hashed names, and the files of a bundle that have one already.

    Each is compressed too if that is smaller. Returns how many are new. A file that has been in no release for KEPT
    seconds is removed: its modification time is when a release last had it, or when the next release took over.
    """
    now, current, new = int(time.time()), set(), 0
    latest = max(_times(target).values(), default=0)
    sources = {
        target / name / hashed(folder, file): folder / file
        for name, folder in folders.items()
        for file in _files(folder)
    }
    if bundle:
        sources |= {target / file: bundle / file for file in _files(bundle) if BUNDLED(file)}
    for place, source in sources.items():
        data = source.read_bytes()
        if not place.exists() or place.read_bytes() != data:  # a bundler's hash may miss a change
            _write(place, data)
            new += 1
        current |= {place, *(place.with_name(place.name + suffix) for suffix in COMPRESSORS)}
    for path, seen in _times(target).items():
        if path in current:
            os.utime(path, (now, now))
        elif seen == latest:
            os.utime(path, (now - 1, now - 1))  # of the release that this one replaces
        elif seen < now - KEPT:
            path.unlink(missing_ok=True)
    return new


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _times(directory: Path) -> dict[Path, int]:
    return {path: int(path.stat().st_mtime) for path in directory.rglob("*") if path.is_file()}


def _write(place: Path, data: bytes) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    compressed = {suffix: compress(data) for suffix, compress in COMPRESSORS.items()}
    smaller = {suffix: each for suffix, each in compressed.items() if len(each) < len(data)}
    for suffix in compressed.keys() - smaller.keys():
        place.with_name(place.name + suffix).unlink(missing_ok=True)
    for suffix, contents in {**smaller, "": data}.items():  # the file itself last: it shows that all are there
        unfinished = place.with_name(f".{place.name}.{os.getpid()}")
        unfinished.write_bytes(contents)
        unfinished.replace(place.with_name(place.name + suffix))


def main(root: str, service: str, prefix: str) -> int:
    """Publishes a service's files below `root`, where its folder holds the paths of its URLs."""
    files = package(service)
    folders = {"static": files / "static", "static/chassis": OWN}
    return publish(folders, Path(f"{root}/{service}{prefix}"), bundles.built(files))


if __name__ == "__main__":  # for a proxy's pod, which has no settings of the service
    print(main(sys.argv[1], os.environ["SERVICE"], os.environ.get("URL_PREFIX", "")), "static files published")

"""A UI bundle, what `npm run build` makes: where it is, how its files are named, and whether it fits the service."""

import re
from pathlib import Path

PAGE = "index.html"
# Named by its contents, by Vite, Angular or webpack. The hash has a letter, and a digit or a capital: no word, no date.
BUNDLED = re.compile(
    r"(.*/)?(assets/[^/]+-{hash}[\w-]{8}|[^/]+-{hash}[A-Z0-9]{8}|[^/]+\.{hash}[0-9a-f]{8,20})\.\w+".replace(
        "{hash}", r"(?=[^.]*[A-Za-z])(?=[^.]*[A-Z0-9])"
    ),
    re.ASCII,
).fullmatch
# What the page's addresses begin with, and where it loads its scripts from.
ADDRESSES = re.compile(r"""<(?:base|script)\b[^>]*?\b(?:href|src)=["']?(/[^"'\s>]*)""").findall


class BundleError(Exception):
    """There is no bundle, it lacks a part, or it was built for another path."""


def has_project(package: Path) -> bool:
    """Whether the service has a project to build, in its ui/."""
    return (package.parents[1] / "ui/package.json").exists()


def built(package: Path) -> Path:
    """Where `npm run build` of that project writes the page: ui/dist, or Angular's folder in it."""
    dist = package.parents[1] / "ui/dist"
    pages = sorted(dist.rglob(PAGE), key=lambda page: len(page.parts))
    return pages[0].parent if pages else dist


def check(folder: Path, prefix: str) -> None:
    """Raises BundleError if the folder has no page, or one that looks for its files elsewhere than below the prefix."""
    try:
        page = (folder / PAGE).read_text(encoding="utf-8")
    except OSError:
        raise BundleError(f"the UI is missing, there is no {folder / PAGE}: `npm run build` makes it.") from None
    for address in ADDRESSES(page) if prefix else ():  # without one, it may be an image that is tested by itself
        is_ours = address.endswith("/") or BUNDLED(address)
        if is_ours and not address.startswith(f"{prefix}/"):
            raise BundleError(
                f"the UI was built for another path than {prefix}/, its page names {address}: set `base` in"
                f' vite.config.js, or `baseHref` in angular.json, to "{prefix}/".'
            )

"""Draws docs/architecture.toml as an SVG: `make docs` writes it, `make lint` sees whether it is what the source gives.

Colours follow the reader's light or dark scheme; on a ground of its own, so that they hold on any page.
"""

import tomllib
from pathlib import Path
from xml.sax.saxutils import escape

STYLE = """
  svg { --ground: #fff; --ink: #17233a; --soft: #55637a; --box: #fff; --line: #3d5a89; --flow: #b4410e; --on-flow: #fff;
        --edge: #fdeedd; --front: #e6effb; --back: #e4f3ea; --dev: #f1f2f5; --volume: #dbe6f7; --host: #f6e7c1 }
  @media (prefers-color-scheme: dark) {
    svg { --ground: #0f151e; --ink: #e8eef7; --soft: #a7b5c9; --box: #1a2433; --line: #84a6dc; --flow: #f79a5e;
          --on-flow: #10161f; --edge: #33271b; --front: #17263d; --back: #15291f; --dev: #1c212a;
          --volume: #2b3f60; --host: #4b3f1d }
  }
  text { font: 12.5px system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif; fill: var(--soft) }
  .name { font-size: 15px; font-weight: 600; fill: var(--ink) }
  .mount, .number { font-size: 12px; fill: var(--ink) }
  .number { font-weight: 700; fill: var(--on-flow) }
  .centred { text-anchor: middle }
  .box { fill: var(--box); stroke: var(--line); stroke-width: 1.5 }
  .job, .next { stroke-dasharray: 5 4 }
  .next { fill: none }
  .head { fill: var(--line) }
  .arrow { fill: none; stroke: var(--flow); stroke-width: 2; marker-end: url(#tip) }
  .flow { fill: var(--flow) }
"""
TIP = (
    '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    '<path class="flow" d="M0 0 8 4 0 8z"/></marker></defs>'
)
GROUNDS = {"edge": "edge", "front": "front", "back": "back"}
CORNERS = {"left": (0, 0, 0, 1), "right": (1, 0, 0, 1), "top": (0, 0, 1, 0), "bottom": (0, 1, 1, 0)}
LETTER = 6.7  # px, of the widest that a mount's text takes


def draw(source: Path) -> str:
    """The whole SVG document. Raises KeyError where an arrow names a box that is not there."""
    picture = tomllib.loads(source.read_text())
    width, height = picture["size"]
    boxes = {box["name"]: box for box in picture["box"]}
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        ' role="img" aria-labelledby="title description">',
        f'<title id="title">{escape(picture["title"])}</title>',
        f'<desc id="description">{escape(" ".join(picture["description"].split()))}</desc>',
        f"<style>{STYLE}</style>",
        TIP,
        f'<rect width="{width}" height="{height}" rx="12" style="fill:var(--ground)"/>',
        *map(region, picture["region"]),
        *(arrow(each, boxes) for each in picture["arrow"]),
        *map(box, picture["box"]),
        *(number(each, boxes) for each in picture["arrow"] if "number" in each),
        *map(legend, picture["legend"]),
    ]
    return "\n".join(parts) + "\n</svg>\n"


def region(each: dict) -> str:
    x, y, width, height = each["place"]
    ground = GROUNDS.get(each["name"], "dev")
    return (
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="10" style="fill:var(--{ground})"/>'
        + text(x + 14, y + 24, each["name"], "name")
        + text(x + 14, y + 42, each["note"])
    )


def box(each: dict) -> str:
    x, y, width, height = each["place"]
    kind = each.get("kind", "container")
    if kind == "people":
        return people(x + width / 2, y, each["name"])
    lines = each.get("text", [])
    top = y + 22 + (14 if kind == "database" else 0)
    parts = [(cylinder if kind == "database" else rectangle)(x, y, width, height, kind)]
    parts.append(text(x + 12, top, each["name"].strip(), "name"))
    parts += [text(x + 12, top + 18 * place, line) for place, line in enumerate(lines, 1)]
    left = x + 12
    for name in each.get("mounts", ()):
        parts.append(mount(left, top + 18 * len(lines) + 9, name))
        left += mount_width(name) + 6
    return "".join(parts)


def rectangle(x: float, y: float, width: float, height: float, kind: str) -> str:
    return f'<rect class="box {kind}" x="{x}" y="{y}" width="{width}" height="{height}" rx="6"/>'


def cylinder(x: float, y: float, width: float, height: float, kind: str) -> str:
    half = width / 2
    lid = f"a{half} 9 0 0 0 {width} 0"
    return (
        f'<path class="box" d="M{x} {y + 9}v{height - 18}{lid}v-{height - 18}a{half} 9 0 0 0 -{width} 0z"/>'
        f'<path class="box" d="M{x} {y + 9}{lid}" style="fill:none"/>'
    )


def people(middle: float, y: float, name: str) -> str:
    return (
        f'<circle class="head" cx="{middle}" cy="{y + 18}" r="11"/>'
        f'<path class="head" d="M{middle - 22} {y + 54}a22 22 0 0 1 44 0z"/>'
        + text(middle, y + 73, name, "name centred")
    )


def mount(x: float, y: float, name: str) -> str:
    """A file system inside the container: a directory of the host ends in a slash."""
    ground = "host" if name.endswith("/") else "volume"
    width = mount_width(name)
    rectangle = f'<rect x="{x}" y="{y}" width="{width:.0f}" height="19" rx="4" style="fill:var(--{ground})"/>'
    return rectangle + text(x + width / 2, y + 13.5, name, "mount centred")


def mount_width(name: str) -> float:
    return len(name) * LETTER + 12


def arrow(each: dict, boxes: dict[str, dict]) -> str:
    (x1, y1), (x2, y2) = ends(each, boxes)
    if each["from"][1] in ("left", "right"):
        middle = (x1 + x2) / 2
        bend = f"C{middle:g} {y1:g} {middle:g} {y2:g}"
    else:
        middle = (y1 + y2) / 2
        bend = f"C{x1:g} {middle:g} {x2:g} {middle:g}"
    return f'<path class="arrow" d="M{x1:g} {y1:g}{bend} {x2:g} {y2:g}"/>'


def number(each: dict, boxes: dict[str, dict]) -> str:
    """In the middle of the arrow: the step of the request's path."""
    (x1, y1), (x2, y2) = ends(each, boxes)
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    disc = f'<circle class="flow" cx="{x:g}" cy="{y:g}" r="10"/>'
    return disc + text(x, y + 4.2, str(each["number"]), "number centred")


def ends(each: dict, boxes: dict[str, dict]) -> tuple[tuple[float, float], tuple[float, float]]:
    return point(*each["from"], boxes), point(*each["to"], boxes)


def point(name: str, side: str, along: float, boxes: dict[str, dict]) -> tuple[float, float]:
    x, y, width, height = boxes[name]["place"]
    right, bottom, across, down = CORNERS[side]
    return x + width * (right + across * along), y + height * (bottom + down * along)


def legend(each: dict) -> str:
    x, y = each["place"]
    return mount(x, y, each["mount"]) + text(x + mount_width(each["mount"]) + 8, y + 14, each["text"])


def text(x: float, y: float, words: str, kind: str = "") -> str:
    style = f' class="{kind}"' if kind else ""
    return f'<text x="{x:g}" y="{y:g}"{style}>{escape(words)}</text>'

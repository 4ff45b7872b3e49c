"""What `make bench` leaves in results/: a table, the figures as JSON, and a plot of both against the targets."""

import json
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import NamedTuple
from xml.sax.saxutils import escape

WIDTH, ROW, LABEL, BAR = 860, 22, 430, 300  # pixels


class Row(NamedTuple):
    """A figure that has a target, as measured."""

    name: str
    what: str
    unit: str
    values: list[float]
    at_most: float | None
    at_least: float | None

    @property
    def median(self) -> float:
        return median(self.values)

    @property
    def kept(self) -> bool:
        return self.share <= 1

    @property
    def share(self) -> float:
        """The share of the allowed value: over 1 misses the target."""
        if self.at_least is not None:
            return self.at_least / self.median if self.median else 9.9
        return self.median / self.at_most if self.at_most else float(self.median > 0) * 2

    @property
    def target(self) -> str:
        return f"≥ {self.at_least:g}" if self.at_least is not None else f"≤ {self.at_most:g}"


def rows(targets: dict[str, dict], values: dict[str, list[float]]) -> list[Row]:
    """In the targets' order; a figure that was not measured this time has no row."""
    return [
        Row(name, target["what"], target["unit"], values[name], target.get("at_most"), target.get("at_least"))
        for name, target in targets.items()
        if name in values
    ]


def write(folder: Path, table: list[Row], values: dict[str, list[float]], machine: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "bench.md").write_text(markdown(table, values, machine))
    (folder / "bench.json").write_text(
        json.dumps({"machine": machine, "measured": now(), "values": values}, indent=1) + "\n"
    )
    (folder / "bench.svg").write_text(svg(table, machine))


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d")


def markdown(table: list[Row], values: dict[str, list[float]], machine: str) -> str:
    lines = [
        "# Measured by `make bench`",
        "",
        f"{now()}, {machine}. The reference is Flask and gunicorn on the same base with the same workers, in the",
        "same run; each of its rounds comes right after one of ours.",
        "",
        "| figure | median | min | max | target | |",
        "|---|--:|--:|--:|--:|---|",
    ]
    for row in table:
        low, high, verdict = shown(min(row.values)), shown(max(row.values)), "✓" if row.kept else "short"
        lines.append(f"| {row.what} | {shown(row.median)} {row.unit} | {low} | {high} | {row.target} | {verdict} |")
    named = {row.name for row in table}
    lines += ["", "Behind the ratios, medians:", ""]
    lines += [f"- `{name}` {shown(median(each))}" for name, each in sorted(values.items()) if name not in named]
    return "\n".join(lines) + "\n"


def shown(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def svg(table: list[Row], machine: str) -> str:
    """One bar for each figure, its length the share of the allowed value; the line is the target."""
    height = (len(table) + 2) * ROW + 10
    line = LABEL + BAR / 1.5
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
        ' font-family="system-ui, sans-serif" font-size="13" role="img">',
        f"<title>{escape(f'What was measured, against its target: {machine}')}</title>",
        "<style>text{fill:#222}.kept{fill:#2e7d4f}.short{fill:#c2571a}.target{stroke:#222}"
        "@media(prefers-color-scheme:dark){text{fill:#ddd}.target{stroke:#ddd}}</style>",
        f'<text x="{line}" y="{ROW - 6}" text-anchor="middle">target</text>',
    ]
    for number, row in enumerate(table, start=1):
        y = number * ROW
        bar = f'x="{LABEL}" y="{y + 3}" width="{max(2, min(row.share, 1.5) / 1.5 * BAR):.0f}" height="{ROW - 7}" rx="2"'
        parts += [
            f'<text x="{LABEL - 10}" y="{y + 15}" text-anchor="end">{escape(row.what)}</text>',
            f'<rect class="{"kept" if row.kept else "short"}" {bar}/>',
            f'<text x="{LABEL + BAR + 10}" y="{y + 15}">{shown(row.median)} {row.unit} ({row.target})</text>',
        ]
    bottom = (len(table) + 1) * ROW
    parts.append(f'<line class="target" x1="{line}" x2="{line}" y1="{ROW}" y2="{bottom}" stroke-dasharray="3 3"/>')
    return "\n".join([*parts, "</svg>"]) + "\n"

"""A table of what each fault cost; `make faults` prints it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from slipway.proofs.faults.injection import Faulty, Load, faulty_production

FIGURES = pytest.StashKey[list]()
COLUMNS = ("fault", "requests", "errors", "flip", "recover", "rows lost")


@pytest.fixture(scope="module")
def faulty(probed_checkout: Path) -> Iterator[Faulty]:
    with faulty_production(probed_checkout) as stack:
        yield stack


@pytest.fixture
def figures(request, record_property) -> Callable[..., None]:
    """Stores a row for the table that `make faults` prints, and as the test's figure."""
    rows = request.config.stash.setdefault(FIGURES, [])

    def keep(fault: str, load: Load | None = None, **values: object) -> None:
        counted = {"requests": len(load.answers), "errors": load.errors} if load else {}
        row = {"fault": fault, **counted, **values}
        rows.append(row)
        seen = [f"{shown(value)} {unit(column)}" for column, value in row.items() if value is not None][1:]
        record_property("figure", f"{fault}: {', '.join(seen)}")

    return keep


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    if not (rows := config.stash.get(FIGURES, [])):
        return
    terminalreporter.section("faults: seconds to flip readiness, seconds to recover")
    table = [
        COLUMNS,
        *(tuple(shown(row.get(column.replace(" ", "_"), row.get(column))) for column in COLUMNS) for row in rows),
    ]
    widths = [max(len(line[i]) for line in table) for i in range(len(COLUMNS))]
    for line in table:
        terminalreporter.write_line("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)))


def unit(column: str) -> str:
    return {"flip": "s to flip", "recover": "s to recover"}.get(column, column.replace("_", " "))


def shown(value: object) -> str:
    return "" if value is None else f"{value:.1f}" if isinstance(value, float) else str(value)

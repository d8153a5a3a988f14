"""What a table with a reference says: which rows take less time to make and are as good as it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from figment.evaluate.accuracy import paired_difference
from figment.recipe import Recipe
from figment.recipe.reference import Reference
from figment.recipe.table import Table
from figment.report.charts import Dot
from figment.report.table import Answer, Cell, Compared
from figment.report.text import percent, plain, points, signed
from figment.studies.measured import Measured, Place
from figment.types import Result

NO_CORRECTION = (
    "Each row is tested by itself: of rows that are worse by just the margin, one in forty would pass. Seconds are those of the machine"
    " that made the images, with whatever else it did."
)
SECONDS = "seconds for all images"
SOONER = 1.05  # times as fast; less is the machine's mood
LEAD = (
    "Each dot is a row, further left the sooner its images are made and further up the better to learn from; bars are 95 % intervals."
    " Blue: the soonest made of those that are as good. Red: the reference."
)


def plan(recipe: Recipe) -> str:
    """What is going to be compared, before anything is spent."""
    assert recipe.table is not None and recipe.table.reference is not None
    own, column = recipe.table.reference, next(iter(recipe.table.columns))
    others = len(recipe.table.rows) - 1
    return (
        f"Compared with {own.row!r}: {others} other row{'s' if others > 1 else ''}; as good is what loses less than {own.points} of"
        f" {column!r} (95 %)."
    )


def compared(table: Table, cells: Mapping[Place, Measured]) -> list[Compared]:
    """The other rows beside the reference, in the first column, in the table's order."""
    own, column = _of(table), next(iter(table.columns))
    base = cells[own.row, column]
    found = []
    for row in table.rows:
        cell = cells[row, column]
        if row != own.row:
            difference = _difference(base, cell)
            times = _spent(base) / _spent(cell) if base.seconds and cell.seconds else None  # type: ignore[operator]
            as_good = difference.ci[0] > -own.margin / 100
            found.append(Compared(row, difference.value, difference.ci, cell.seconds, cell.images, times, as_good))
    return found


def answer(table: Table, cells: Mapping[Place, Measured], shown: Mapping[Place, Cell]) -> Answer:
    """Which row to take in place of the reference, if any."""
    own, column = _of(table), next(iter(table.columns))
    base, rows = cells[own.row, column], compared(table, cells)
    sooner = [c for c in rows if c.as_good and c.times is not None and c.times >= SOONER]
    said = [f"{own.row}: {percent(base.value)}{_cost(base.seconds)}."]
    best = max(sooner, key=lambda c: c.times or 0.0, default=None)
    if best is None:
        headline = f"Nothing that is made sooner is as good as {own.row}"
    else:
        headline = f"{best.row}: {best.times:.1f} times as fast as {own.row}, and as good"
        said += [f"{best.row}: {_told(best)}{_cost(best.seconds)}."]
    better = [c for c in rows if c.ci[0] > 0]
    if better:
        top = max(better, key=lambda c: c.difference)
        said += [f"Surely better: {', '.join(c.row for c in better)}; {top.row} by {_told(top)}{_cost(top.seconds)}."]
    good = [c.row for c in rows if c.as_good]
    said += [
        f"As good: {', '.join(good) or 'none'}.",
        f"As good is what loses less than {own.points} (95 %). {NO_CORRECTION}",
    ]
    dots = _dots(table, cells, shown, None if best is None else best.row)
    question = f"What is made sooner and as good as {own.row}?"
    return Answer(question, headline, tuple(said), "helps" if best else "no-evidence", dots, (SECONDS, column), LEAD)


def _of(table: Table) -> Reference:
    assert table.reference is not None
    return table.reference


def _spent(cell: Measured) -> float | None:
    """Seconds for all images of a row: some need more of them."""
    return None if cell.seconds is None else cell.seconds * cell.images


def _difference(base: Measured, cell: Measured) -> Result:
    assert base.right is not None and cell.right is not None
    return paired_difference(base.right, cell.right, groups=base.groups)


def _told(c: Compared) -> str:
    return f"{points(c.difference)} ({signed(c.ci[0])} to {signed(c.ci[1])})"


def _cost(seconds: float | None) -> str:
    return "" if seconds is None else f", {plain(seconds)} s an image"


def _dots(
    table: Table, cells: Mapping[Place, Measured], shown: Mapping[Place, Cell], best: str | None
) -> tuple[Dot, ...]:
    own, column = _of(table), next(iter(table.columns))
    kinds = {own.row: "rival", best: "best"}
    found: Sequence[tuple[str, float | None]] = [(row, _spent(cells[row, column])) for row in table.rows]
    return tuple(
        Dot(row, s, shown[row, column].value, (s, s), shown[row, column].ci, kinds.get(row, ""))  # type: ignore[arg-type]
        for row, s in found
        if s is not None
    )

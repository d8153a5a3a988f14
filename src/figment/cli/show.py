"""What a run or a table came to, in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from figment.progress import console
from figment.words import one_line, printable

if TYPE_CHECKING:
    from figment.report.table import TablePage


def print_table(page: TablePage, folder: Path, report: str = "report.html") -> None:
    """The rows and columns, the printed ones below, and what became of the orderings."""
    from figment.layout import Study
    from figment.report.table import conclusion
    from figment.report.text import NOTHING

    table = Table(title=Text(f"\n{one_line(page.title)}"), title_justify="left")
    for name in ("", *page.columns):
        table.add_column(Text(printable(name)), justify="right" if name else "left", overflow="fold")
    for row in page.rows:
        cells = [(column, page.cells.get((row, column))) for column in page.columns]
        shown = [NOTHING if cell is None else page.written(c, cell) for c, cell in cells]
        table.add_row(Text(printable(row)), *shown)
    for printed in page.printed:
        shown = [f"{printed.values[c]:g}" if c in printed.values else "–" for c in page.columns]
        table.add_row(Text(f"printed: {printable(printed.row)}"), *shown, style="dim")
    console.print(table)
    for note in dict.fromkeys(cell.note for cell in page.cells.values() if cell.note):
        console.print(note, soft_wrap=True, markup=False)
    if page.answer is not None:
        for line in (page.answer.headline, *page.answer.sentences):
            console.print(printable(line), soft_wrap=True, markup=False)
    if page.answer is None or page.orderings:
        console.print(conclusion(page), soft_wrap=True, markup=False)
    if (best := Study(folder).best).is_file():
        console.print(f"\nThe best settings, to be run as they are: figment run {best}", soft_wrap=True)
    console.print(f"\nReport: {folder / report}", soft_wrap=True)


def print_results(folder: Path) -> None:
    """The table of arms, the verdict, and where the rest is."""
    from figment.report.folder import report_of
    from figment.report.text import interval, percent, points_interval, test_images

    page = report_of(folder)
    if page.arms:
        table = Table(title=f"{test_images(page.arms[0].result)}, 95 % intervals", title_justify="left")
        table.add_column("classifier", overflow="fold")
        table.add_column("top-1", justify="right", no_wrap=True)
        if page.baseline:
            table.add_column("gain in points", justify="right", no_wrap=True)
        judged = any(arm.verdict for arm in page.arms)
        if judged:
            table.add_column("verdict", overflow="fold")
        for arm in page.arms:
            gain = "" if arm.difference is None else points_interval(arm.difference).replace(" points", "")
            cells = [(gain, page.baseline), (arm.verdict, judged)]
            table.add_row(arm.name, interval(arm.result), *(cell for cell, there in cells if there))
        console.print(table)
        means = [f"{arm.name} {percent(arm.over_classes)}" for arm in page.arms if arm.over_classes is not None]
        if means:
            console.print(f"mean over classes: {', '.join(means)}", soft_wrap=True)
    for number in (n for n in page.also if not n.quiet):
        console.print(f"{number.title}: {number.value}", soft_wrap=True)
    own = page.verdict
    if own.lesson:
        console.print(f"\nWhat to learn: {own.lesson}", soft_wrap=True)
    console.print(f"\nVerdict: {own.word}. {own.sentence[:1].upper()}{own.sentence[1:]}")
    ledger = " | ".join(f"{what} {share}" for what, share in own.ledger)
    levers = [f"Try next: {lever}" for lever in own.next]
    missing = [page.missing.get(part, "") for part in ("exchange", "arms")]
    for line in (ledger, *own.notes, *levers, own.exchange, own.cost, *missing):
        if line:
            console.print(line)
    console.print(
        f"\nReport: {folder / 'report.html'}\nImages: {folder / 'images'}  (datasets.load_dataset opens it)",
        soft_wrap=True,
    )

"""Numbers to a page: ``report.html``, and what others open of the folder; from what lies there alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from figment import files, records
from figment.layout import Run
from figment.report import backbone_card
from figment.report.answers import recipe_of
from figment.report.data_files import write_data_files
from figment.report.folder import report_of
from figment.report.page import write
from figment.stages.stage import Look, Stage, StageStatus

if TYPE_CHECKING:
    from figment.context import Context


class Report(Stage):
    """Vouched for by the record of the run."""

    name = "report"

    def folders(self, run: Run) -> list[Path]:
        return []

    def run(self, ctx: Context) -> None:
        if ctx.reported:
            write_report(ctx.run)

    def status(self, run: Run) -> list[StageStatus]:
        there = run.report.is_file()
        return [StageStatus("report", "done" if there else "to do", run.report.name if there else "")]

    def verify(self, look: Look) -> None:
        return None

    def repair(self, ctx: Context, look: Look) -> Iterator[str]:
        yield from ()


def write_report(run: Run) -> None:
    """Write the page again. A run of an older figment gets it too; nothing vouches for it there."""
    write(report_of(run.folder), run.report)
    if not run.is_old:
        write_data_files(run)
        records.vouch(run.folder, [run.report.name, run.data_files.name, *_write_card(run)])


def _write_card(run: Run) -> list[str]:
    """The card of a backbone, which needs the numbers, and which the model's own record therefore does not know. Its name, if there
    is one."""
    recipe = recipe_of(run.folder)
    if not backbone_card.is_backbone(recipe):
        return []
    files.write_atomic(run.card, backbone_card.card(backbone_card.facts(run, recipe)))
    return [run.card.relative_to(run.folder).as_posix()]

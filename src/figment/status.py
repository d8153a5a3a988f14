"""How far a run is, read from the disk alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from figment import heartbeat, layout, records
from figment.errors import FigmentError
from figment.layout import Run
from figment.stages import stages_of
from figment.stages.stage import StageStatus, damaged


def status(folder: Path) -> list[StageStatus]:
    """Every stage of a run, in order, its arms' first; a line for each cell of a table. Raises FigmentError for no run folder."""
    rows: list[StageStatus] = []
    for run in layout.runs_of(folder):
        if run.is_cell:
            rows.append(_cell(run, folder))
        else:
            rows += [replace(one, name=_place(run, folder, one.name)) for one in _stages(run)]
        alive = heartbeat.told(run.heartbeat)
        if alive:
            rows.append(StageStatus(_place(run, folder, ""), "partial", alive))
    return rows


def _stages(run: Run) -> list[StageStatus]:
    try:
        return [one for stage in stages_of(run) for one in stage.status(run)]
    except FigmentError as error:  # a damaged shared.json
        return [StageStatus("", "partial", str(error))]


def _cell(run: Run, folder: Path) -> StageStatus:
    """A whole run in a line."""
    found = records.read(run.folder)
    if found.state == "damaged":
        return damaged(_place(run, folder, ""))
    done = found.state == "finished" or records.read(run.model).state == "old"
    return StageStatus(_place(run, folder, ""), "done" if done else "partial", "")


def _place(run: Run, folder: Path, name: str) -> str:
    above = "" if run.folder == folder else str(run.folder.relative_to(folder))
    return "/".join(part for part in (above, name) if part) or "."

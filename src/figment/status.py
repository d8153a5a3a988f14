"""How far a run folder is, read from its shards and markers alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from figment import files
from figment.errors import FigmentError


@dataclass(frozen=True)
class StageStatus:
    """``text`` counts what there is."""

    name: str
    state: Literal["done", "partial", "to do"]
    text: str


def stages_of(folder: Path) -> list[StageStatus]:
    """Every stage of a run, in order, its arms' first. Raises FigmentError where ``folder`` is no run folder."""
    if (folder / "cells").is_dir():
        return list(_of_table(folder))
    arms = sorted(p for p in (folder / "arms").glob("*") if p.is_dir())
    if not arms and not (folder / "prompts").is_dir() and not (folder / "recipe.yaml").is_file():
        raise FigmentError(f"{folder} is not the folder of a run: it has neither recipe.yaml nor prompts.")
    return [stage for run in (*arms, folder) for stage in _stages_of_one(folder, run)]


def _of_table(folder: Path) -> Iterator[StageStatus]:
    """A table's sets of images and its runs. How many there will be is the recipe's to say: see --dry-run."""
    for made in sorted(p for p in (folder / "images").glob("*") if p.is_dir()):
        yield _of(folder, made / "images")
    runs = sorted((folder / "cells").glob("*/seed-*"))
    finished = sum((run / "model" / "stage.json").is_file() for run in runs)
    page = folder / "table.json"
    yield StageStatus("cells", "done" if page.is_file() else "partial", f"{finished} runs finished")
    yield StageStatus(
        "table", "done" if page.is_file() else "to do", "report.html, table.md, table.json" if page.is_file() else ""
    )


def _stages_of_one(top: Path, run: Path) -> list[StageStatus]:
    scores = sorted(p for p in (run / "scores").glob("*") if p.is_dir())
    if not scores and not (run / "model" / "stage.json").is_file():  # a finished run without them has no filters
        scores = [run / "scores"]
    tuned = sorted(p for p in (run / "finetune").glob("*") if p.is_dir())
    stages = [_of(top, p) for p in (*tuned, run / "prompts", run / "images", *scores, run / "model")]
    page = run / "report.html"
    state: Literal["done", "to do"] = "done" if page.is_file() else "to do"
    return [*stages, StageStatus(str((run / "report").relative_to(top)), state, page.name if page.is_file() else "")]


def _of(run: Path, folder: Path) -> StageStatus:
    name = str(folder.relative_to(run))
    if (folder / "stage.json").is_file():
        stage = files.read_json(folder / "stage.json")
        counts = stage.get("counts", {"kept": stage.get("kept")})
        said = ", ".join(f"{k} {sum(v.values()) if isinstance(v, dict) else v:,}" for k, v in counts.items())
        return StageStatus(name, "done", said + (f" in {stage['seconds']:.0f} s" if "seconds" in stage else ""))
    shards = sorted(folder.glob("train-*-of-*.parquet"))
    if shards:
        return StageStatus(name, "partial", f"{len(shards)} of {int(shards[0].stem.rsplit('-', 1)[1])} shards")
    if folder.parent.name == "finetune":
        return StageStatus(name, "partial", f"{len(list(folder.glob('**/pytorch_lora_*.safetensors')))} LoRAs finished")
    return StageStatus(name, "to do", "")

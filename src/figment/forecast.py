"""What a recipe would make and cost, before anything is spent: ``figment run --dry-run``."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from figment import files, records
from figment.layout import Run
from figment.recipe import Recipe
from figment.report.beside import worth_in_photographs
from figment.report.costs import in_all, on_disk
from figment.report.results import latest_results
from figment.stages import OF_IMAGES, STAGES
from figment.stages.stage import Cost
from figment.stages.unread import unread

WORK = {"images": "images", "finetune": "fine-tuning", "results": "trainings"}  # stages that take time, and what of


@dataclass(frozen=True)
class Forecast:
    """What each stage says. Counts are exact; seconds and bytes are measured on a small trial batch, None where the generator cannot be had here."""

    costs: dict[str, Cost]  # by stage
    free_bytes: int | None  # None: remote
    money: str = ""  # what generating costs, and labelling would
    absent: tuple[str, ...] = ()  # places of real images that are not there, and so are not counted

    @property
    def text(self) -> list[str]:
        """In lines."""
        lines = [line for cost in self.costs.values() for line in cost.text.splitlines()]
        if self.bytes is not None:
            lines.append(on_disk(self.bytes, self.free_bytes))
        lines += self.money.splitlines()
        if total := in_all({WORK[name]: cost.seconds for name, cost in self.costs.items() if name in WORK}):
            lines.append(total)
        return lines

    def count(self, what: str) -> int:
        """Of all stages: ``prompts``, ``images``, ``shards``, ``done`` (images that are there already), ``steps`` of fine-tuning."""
        return sum(cost.counts.get(what, 0) for cost in self.costs.values())

    @property
    def seconds(self) -> float | None:
        """Of images, fine-tuning and trainings together; None where those of one are not known."""
        own = [cost.seconds for name, cost in self.costs.items() if name in WORK]
        return None if None in own else sum(s for s in own if s is not None)

    @property
    def bytes(self) -> int | None:
        return self.costs["images"].bytes


def forecast(
    recipe: Recipe,
    out: Path,
    made: Path | None = None,
    root: Path | None = None,
    *,
    has_images: bool = False,
    has_finetuning: bool = False,
    allow_plugins: bool = False,
    seconds_per_image: float | None = None,
) -> Forecast:
    """Ask every stage. Prompts of a model are only counted, two trial batches are timed with few steps; nothing is written to disk.

    ``has_images`` says that another run of the study makes the images, ``has_finetuning`` that it tunes the generator, which are then not
    counted once more. Real images and models that are not here are gone without. ``seconds_per_image`` is what generating takes on some
    machine: then no model is opened, and nothing is timed.
    """
    ctx = unread(recipe, Run(out, made, root), allow_plugins, seconds_per_image)
    ctx.check_real()
    left_out = {*(OF_IMAGES if has_images else ()), *(("finetune",) if has_finetuning else ())}
    costs = {stage.name: stage.cost(ctx) for stage in STAGES if stage.name not in left_out}
    told = {name: cost for name, cost in costs.items() if cost is not None}
    places = tuple(dict.fromkeys(ctx.absent.values()))
    if has_images:
        there = Cost("uses the images of another run of this study", 0.0)
        return Forecast({"images": there, **told}, free_bytes(out), absent=places)
    return Forecast(told, free_bytes(out), _money(recipe, told["images"].seconds, out), places)


def _money(recipe: Recipe, seconds: float | None, out: Path) -> str:
    """In lines: generating, the photographs for as much, and what a finished run says its images are worth."""
    prices, n_classes = recipe.prices, len(recipe.task.class_names)
    if prices is None:
        return ""
    lines = []
    if seconds:  # none where all images are there already
        lines = [f"generating: {prices.generating(seconds)}", prices.break_even(seconds, n_classes)]
    if records.read(out).state == "finished":
        lines.append(worth_in_photographs(latest_results(out), prices, n_classes))
    return "\n".join(line for line in lines if line)


def free_bytes(out: Path) -> int | None:
    """On the disk of a folder that may still have to be made; None: it is remote."""
    if files.is_remote(out):
        return None
    return shutil.disk_usage(next(p for p in [out.absolute(), *out.absolute().parents] if p.exists())).free

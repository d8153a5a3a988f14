"""What a recipe would make and cost, before anything is spent: ``figment run --dry-run``."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from figment import files, records
from figment.context import Context
from figment.layout import Run
from figment.plugins import permission
from figment.recipe import Recipe
from figment.report.beside import worth_in_photographs
from figment.report.results import latest_results
from figment.stages import OF_IMAGES, STAGES
from figment.stages.stage import Cost
from figment.types import Images


class _Unread(Context):
    """A run that is only thought of: its real images are taken as they are, since looking for broken ones takes as long as encoding them."""

    def readable(self, split: str) -> Images | None:
        return self.given.get(split)

    @cached_property
    def _temporary(self) -> tempfile.TemporaryDirectory[str]:
        return tempfile.TemporaryDirectory()

    @property
    def caches(self) -> Path:
        """Gone with this object: of random images nobody wants the features."""
        return Path(self._temporary.name)


@dataclass(frozen=True)
class Forecast:
    """What each stage says. Counts are exact; seconds and bytes are measured on a small trial batch, None where the generator cannot be had here."""

    costs: dict[str, Cost]  # by stage
    free_bytes: int | None  # None: remote
    money: str = ""  # what generating costs, and labelling would

    @property
    def text(self) -> list[str]:
        """In lines."""
        lines = [line for cost in self.costs.values() for line in cost.text.splitlines()]
        if self.bytes is not None:
            free = "" if self.free_bytes is None else f"; {self.free_bytes / 2**30:,.0f} GiB are free"
            lines.append(f"{self.bytes / 2**20:,.0f} MiB of disk{free}")
        lines += self.money.splitlines()
        return lines

    def count(self, what: str) -> int:
        """Of all stages: ``prompts``, ``images``, ``shards``, ``done`` (images that are there already), ``steps`` of fine-tuning."""
        return sum(cost.counts.get(what, 0) for cost in self.costs.values())

    @property
    def seconds(self) -> float | None:
        return self.costs["images"].seconds

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
    allow_plugins: bool = False,
) -> Forecast:
    """Ask every stage. Prompts of a model are only counted, two trial batches are timed with few steps; nothing is written to disk.

    ``has_images`` says that another run of the study makes the images, which are then not counted once more.
    """
    permission.check(recipe.plugins, allow_plugins)
    ctx = _Unread(recipe, Run(out, made, root), allow_plugins=allow_plugins)
    ctx.check_real()
    costs = {stage.name: stage.cost(ctx) for stage in STAGES if not (has_images and stage.name in OF_IMAGES)}
    free = None if files.is_remote(out) else _free_bytes(out)
    told = {name: cost for name, cost in costs.items() if cost is not None}
    if has_images:
        return Forecast({"images": Cost("uses the images of another run of this study"), **told}, free)
    return Forecast(told, free, _money(recipe, told["images"].seconds, out))


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


def _free_bytes(out: Path) -> int:
    return shutil.disk_usage(next(p for p in [out.absolute(), *out.absolute().parents] if p.exists())).free

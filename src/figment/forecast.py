"""What a recipe would make and cost, before anything is spent: ``figment run --dry-run``."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from figment import files
from figment.context import Context
from figment.layout import Run
from figment.recipe import Recipe
from figment.stages import STAGES
from figment.stages.stage import Cost
from figment.types import Images


class _Unread(Context):
    """A run that is only thought of: its real images are taken as they are, since looking for broken ones takes as long as encoding them."""

    def readable(self, split: str) -> Images | None:
        return self.given.get(split)


@dataclass(frozen=True)
class Forecast:
    """What each stage says. Counts are exact; seconds and bytes are measured on a small trial batch, None where the generator cannot be had here."""

    costs: dict[str, Cost]  # by stage
    free_bytes: int | None  # None: remote

    @property
    def text(self) -> list[str]:
        """In lines."""
        lines = [line for cost in self.costs.values() for line in cost.text.splitlines()]
        if self.bytes is not None:
            free = "" if self.free_bytes is None else f"; {self.free_bytes / 2**30:,.0f} GiB are free"
            lines.append(f"{self.bytes / 2**20:,.0f} MiB of disk{free}")
        return lines

    def without_images(self) -> Forecast:
        """Of a run that uses the images of another."""
        costs = {name: cost for name, cost in self.costs.items() if name not in ("prompts", "images", "finetune")}
        return Forecast({"images": Cost("uses the images of another run of this study"), **costs}, self.free_bytes)

    def count(self, what: str) -> int:
        """Of all stages: ``prompts``, ``images``, ``shards``, ``done`` (images that are there already), ``steps`` of fine-tuning."""
        return sum(cost.counts.get(what, 0) for cost in self.costs.values())

    @property
    def seconds(self) -> float | None:
        return self.costs["images"].seconds

    @property
    def bytes(self) -> int | None:
        return self.costs["images"].bytes


def forecast(recipe: Recipe, out: Path, made: Path | None = None, root: Path | None = None) -> Forecast:
    """Ask every stage. Prompts of a model are only counted, two trial batches are timed with few steps; nothing is written to disk."""
    ctx = _Unread(recipe, Run(out, made, root))
    ctx.check_leaks()
    costs = {stage.name: stage.cost(ctx) for stage in STAGES}
    free = None if files.is_remote(out) else _free_bytes(out)
    return Forecast({name: cost for name, cost in costs.items() if cost is not None}, free)


def _free_bytes(out: Path) -> int:
    return shutil.disk_usage(next(p for p in [out.absolute(), *out.absolute().parents] if p.exists())).free

"""What a recipe would make and cost, before anything is spent: ``figment run --dry-run``."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from figment import files, records
from figment.context import Context
from figment.images_in.labels import listed
from figment.images_in.provenance import Stored
from figment.images_in.real import absent, open_real, without
from figment.layout import Run
from figment.plugins import permission
from figment.recipe import Recipe
from figment.report.beside import worth_in_photographs
from figment.report.results import latest_results
from figment.report.text import duration
from figment.stages import OF_IMAGES, STAGES
from figment.stages.stage import Cost
from figment.types import Images

MIB, GIB = 2**20, 2**30
SHOWN = 3  # places of real images that are named


class Unread(Context):
    """A run that is only thought of: its real images are taken as they are, since looking for broken ones takes as long as encoding them,
    and where they are not there it goes on without."""

    told: float | None = None

    @property
    def seconds_per_image(self) -> float | None:
        return self.told

    @cached_property
    def absent(self) -> dict[str, str]:
        return absent(self.task.real)

    @cached_property
    def given(self) -> dict[str, Stored]:
        return open_real(without(self.task, self.absent))

    @cached_property
    def shots(self) -> Images | None:
        few = self.recipe.few_shot
        return None if few is None or "train" in self.absent else self.draw(self.given.get("train"))

    def readable(self, split: str) -> Images | None:
        return self.given.get(split)

    @cached_property
    def _temporary(self) -> tempfile.TemporaryDirectory[str]:
        return tempfile.TemporaryDirectory()

    @property
    def caches(self) -> Path:
        """Gone with this object: of random images nobody wants the features."""
        return Path(self._temporary.name)


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


def unread(recipe: Recipe, run: Run, allow_plugins: bool = False, seconds_per_image: float | None = None) -> Unread:
    """What a forecast asks the stages about. Raises FigmentError for plug-ins that are not allowed."""
    permission.check(recipe.plugins, allow_plugins)
    ctx = Unread(recipe, run, allow_plugins=allow_plugins)
    ctx.told = seconds_per_image
    return ctx


def in_proportion(seconds: float | None, own: Recipe, recipe: Recipe) -> float | None:
    """An image of ``own`` where one of ``recipe`` takes so many seconds: as many more as the denoiser is asked oftener, as if it were the
    same one; the same where the recipes do not say how often."""
    asked, of = own.generate.passes, recipe.generate.passes
    return seconds if seconds is None or asked is None or of is None else seconds * asked / of


def in_all(seconds: Mapping[str, float | None]) -> str:
    """The sum in a line, of several kinds of work; what is None is named as not in it."""
    known = {name: s for name, s in seconds.items() if s}
    unknown = [name for name, s in seconds.items() if s is None]
    if not known or len(known) + len(unknown) < 2:
        return ""
    parts = ", ".join(f"{name} {duration(s)}" for name, s in known.items())
    without = f", without the {' and the '.join(unknown)}" if unknown else ""
    return f"in all about {duration(sum(known.values()))}: {parts}{without}"


def on_disk(size: float, free: int | None) -> str:
    """In a line: how many bytes are needed, and are there."""
    needed = f"{size / MIB:,.0f} MiB" if size < 10 * GIB else f"{size / GIB:,.0f} GiB"
    return f"{needed} of disk" if free is None else f"{needed} of disk; {free / GIB:,.0f} GiB are free"


def not_there(places: Sequence[str]) -> str:
    """In a line: which real images are planned without; empty where all are there."""
    if not places:
        return ""
    are, their = ("is", "its") if len(places) == 1 else ("are", "their")
    return f"{listed(places, SHOWN)} {are} not there: {their} images are not counted"


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

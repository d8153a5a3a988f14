"""The stage of the images."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from figment import layout, records
from figment.errors import FigmentError
from figment.generate.card import dataset_card
from figment.generate.fill import fill
from figment.generate.plan import Plan
from figment.generate.said import warn_of_long_prompts, warn_of_settings
from figment.images_in.shards import no_image
from figment.layout import Run
from figment.report.text import duration
from figment.saving import Saving
from figment.stages.images.repair import repair_images
from figment.stages.images.verify import verify_images
from figment.stages.plans import plan, shard_folder
from figment.stages.prompts import stands_in
from figment.stages.stage import Cost, Look, Stage, StageStatus, status_of
from figment.types import Generator

if TYPE_CHECKING:
    from figment.context import Context

MOST_IMAGES, MOST_PIXELS = 64, 2**25  # of a trial batch: 32 of 1,024 x 1,024
HINT = "Without a trial, --seconds-per-image says what one takes: Stable Diffusion 1.5 at 512 pixels and 50 steps takes an A100 .8 s (StableRep)."
TRIAL_STEPS = (2, 6)  # two short trials tell the cost of a step from the cost of an image


class ImagesStage(Stage):
    name = "images"
    of = ("run", "set")

    def folders(self, run: Run) -> list[Path]:
        return [run.images] if run.made == run else []

    def check(self, ctx: Context) -> None:
        shard_folder(ctx).check_not_stale()

    def run(self, ctx: Context) -> None:
        fill(
            shard_folder(ctx),
            plan(ctx, ctx.prompts),
            ctx.generator,
            ctx.task.class_names,
            engine=ctx.engine,
            part=ctx.part,
            shots=ctx.starts,
            card=lambda facts: dataset_card(ctx.recipe, facts),
            before=partial(_warn, ctx),
        )
        if (close := getattr(ctx.generator, "close", None)) is not None:
            close()  # the filters' and the learner's models need its memory
        if not records.read(ctx.run.images).data.get("counts", {"made": 1})["made"]:
            raise no_image(ctx.run)

    # ---- from the disk alone -----------------------------------------------------------------------------------------

    def status(self, run: Run) -> list[StageStatus]:
        if not self.folders(run):
            return []  # those of another run of the study, which tells of them
        name = self.place(run, run.images)
        if records.read(run.images).state == "none":
            shards = layout.shard_files(run.images)
            return [StageStatus(name, "partial" if shards else "to do", f"{len(shards):,} shards" if shards else "")]
        found = status_of(name, run.images)
        if found.state == "done" and _is_a_pilots(run):
            return [replace(found, state="partial", text=f"{found.text}; a pilot's: figment run makes the rest")]
        return [found]

    def verify(self, look: Look) -> None:
        for folder in self.folders(look.run):
            verify_images(look, folder)

    def repair(self, ctx: Context, look: Look) -> Iterator[str]:
        yield from repair_images(ctx)

    # ---- what it would cost ------------------------------------------------------------------------------------------

    def cost(self, ctx: Context) -> Cost:
        own = plan_without_starts(ctx)
        there = rows_there(ctx.run, own.shard_size, len(own))
        counts = {"images": len(own), "shards": own.n_shards, "done": there}
        text = f"{len(own):,} images in {own.n_shards:,} shard{'s' * (own.n_shards != 1)}; {there:,} are there already"
        each, left = price_of(ctx), len(own) - there
        if each.seconds is None:
            return Cost(f"{text}\n{each.said}", None, int(left * each.bytes), counts)
        time = f"about {duration(left * each.seconds)} of generation {each.said}"
        told = "".join(f"\n{gain}" for gain in each.gains)
        return Cost(f"{text}{told}\n{time}", left * each.seconds, int(left * each.bytes), counts)


@dataclass(frozen=True)
class Price:
    """What an image costs: ``seconds``, None where they are not known, and ``bytes``. ``said`` is in words how that is known, or why not;
    ``gains`` what the ``generate.speed`` of the recipe brings."""

    seconds: float | None
    bytes: float
    said: str
    gains: tuple[str, ...] = ()


def price_of(ctx: Context) -> Price:
    """As the user says, or else by a trial where the generator can be had. ``ctx.prompts`` must be there."""
    g = ctx.recipe.generate
    if ctx.seconds_per_image is not None and not g.once:
        said = f"at {ctx.seconds_per_image:g} s an image, as given; {g.assumed}"
        return Price(ctx.seconds_per_image, g.assumed_bytes, said)
    try:
        seconds, size = _trial(ctx)
    except FigmentError as error:
        return Price(None, g.assumed_bytes, f"their time is not known: {error} {HINT} {_sentence(g.assumed)}")
    gains = tuple(trial.sentence for trial in getattr(ctx.untuned, "trials", ()))
    return Price(seconds, size, "on this machine (measured on a trial batch)", gains)


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _warn(ctx: Context) -> None:
    warn_of_settings(ctx.generator)
    warn_of_long_prompts(ctx.generator, [p.text for p in ctx.prompts])


def _is_a_pilots(run: Run) -> bool:
    """Whether no more images are there than a pilot made, which made fewer than the recipe asks for."""
    told = records.read_answer(run.pilot)
    if told is None or told["images_per_class"] >= told.get("of", 0):
        return False
    classes = len(told["answers"][0]["numbers"]["per_class"])
    return records.read(run.images).data["counts"]["attempted"] <= told["images_per_class"] * classes


def plan_without_starts(ctx: Context) -> Plan:

    g = ctx.recipe.generate
    of_each = None if stands_in(ctx.recipe, ctx.prompts) else g.of_each_prompt
    return Plan(ctx.prompts, g.images_per_class, ctx.seed, g.shard_size, per_prompt=of_each)


def rows_there(run: Run, shard_size: int, wanted: int) -> int:
    """Images that are there already, told by names where a shard is full."""
    found = records.read(run.images)
    if found.state == "finished" and isinstance(found.data.get("shards"), dict):
        return min(wanted, int(found.data["shards"].get("rows", 0)))
    return min(wanted, shard_size * len(layout.shard_files(run.images)))


def _trial(ctx: Context) -> tuple[float, float]:
    """Seconds and bytes an image."""
    texts, generator = [p.text for p in ctx.prompts], ctx.untuned
    warn_of_settings(generator)
    steps: tuple[int, ...] = getattr(generator, "steps", ())  # of each of its stages, where it has such
    time_of = partial(_time, texts=texts, saving=ctx.recipe.generate.saving)
    if any(own > TRIAL_STEPS[1] for own in steps):
        generator.with_steps(*steps)  # type: ignore[attr-defined]  # opens it: a model that does not fit is not opened again
        with suppress(FigmentError):  # so few are not for this scheduler: then those that are asked for are timed
            return _extrapolated(generator, time_of, steps)
    return time_of(generator)


def _extrapolated(
    generator: Any, time_of: Callable[[Generator], tuple[float, float]], steps: tuple[int, ...]
) -> tuple[float, float]:
    """The same from a trial of few steps, and for each stage that takes many one with more in that stage."""
    few, more = TRIAL_STEPS
    least = [own if own <= more else few for own in steps]
    short, size = time_of(generator.with_steps(*least))
    seconds = short
    for i, own in enumerate(steps):
        if own > more:
            longer, size = time_of(generator.with_steps(*least[:i], more, *least[i + 1 :]))
            seconds += max(0.0, longer - short) / (more - few) * (own - few)
    return seconds, size


def _time(generator: Generator, texts: list[str], saving: Saving) -> tuple[float, float]:
    def make(n: int) -> list[np.ndarray | None]:
        shots = {"init": np.full((n, 64, 64, 3), 128, np.uint8)} if getattr(generator, "real_guidance", None) else {}
        return generator(texts[:n], list(range(n)), **shots)

    # Loading and warming up are not what is measured; what makes a batch faster is tried there, on a batch as large as the run's.
    speed = getattr(generator, "speed", None)
    tries = speed is not None and speed != type(speed)()
    first = make(min(getattr(generator, "batch_size", 0) or 1, len(texts), MOST_IMAGES) if tries else 1)[0]
    fit = MOST_PIXELS if first is None else max(1, MOST_PIXELS // (first.shape[0] * first.shape[1]))
    batch = min(getattr(generator, "batch_size", 0) or 1, len(texts), MOST_IMAGES, fit)
    started = time.perf_counter()
    made = [image for image in make(batch) if image is not None]
    seconds = (time.perf_counter() - started) / batch
    return seconds, float(np.mean([len(saving.encode(i)) for i in made])) if made else 0.0

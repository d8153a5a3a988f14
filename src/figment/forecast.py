"""What a recipe would make and cost, before anything is spent: ``figment run --dry-run``."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from figment import files, png, store
from figment.errors import FigmentError
from figment.recipe import Captions, Chat, Diffusers, Recipe, Seq2Seq
from figment.run import Walk, make_adaptation, make_generator, make_writer
from figment.types import Generator, Prompt

TRIAL_STEPS = (2, 6)  # two short trials tell the cost of a step from the cost of an image


@dataclass(frozen=True)
class Forecast:
    """Counts are exact; seconds and bytes are measured on a small trial batch, None where the generator cannot be had here."""

    prompts: int
    images: int
    shards: int
    done: int  # images that are there already
    seconds: float | None
    bytes: int | None
    free_bytes: int | None  # None: remote
    note: str = ""
    tuning_steps: int = 0  # of training the generator on real pictures, which comes first; not in the seconds


def forecast(recipe: Recipe, out: Path) -> Forecast:
    """Write the prompts (in memory; those of a model are only counted), time two trial batches with few steps, and count. Writes nothing to disk."""
    prompts = _prompts(recipe)
    g = recipe.generate
    images = g.images_per_class * len({p.label for p in prompts})
    shards = -(-images // g.shard_size)
    there = min(images, g.shard_size * (shards - len(store.Stage(out / "images", shards, {}, {}).missing())))
    free = None if files.is_remote(out) else _free_bytes(out)
    try:
        tuning = _tuning_steps(recipe, out)
        per_image, size = _trial(recipe, [p.text for p in prompts])
    except FigmentError as error:
        return Forecast(len(prompts), images, shards, there, None, None, free, str(error))
    left = images - there
    return Forecast(len(prompts), images, shards, there, left * per_image, int(left * size), free, tuning_steps=tuning)


def _tuning_steps(recipe: Recipe, out: Path) -> int:
    """Steps of training that the recipe's adapt takes, 0 without one. Raises FigmentError where it cannot be done."""
    walk = Walk(recipe, out, None, out / "features")
    adaptation = make_adaptation(recipe, walk.untuned, walk.real.get("train"), out / "adapt")
    if adaptation is None or adaptation.is_complete():
        return 0
    adaptation.check()
    return adaptation.total_steps


def _prompts(recipe: Recipe) -> list[Prompt]:
    """The recipe's prompts. Where a model would write them, as many that look like them: a forecast asks no model."""
    settings = recipe.prompts
    if isinstance(settings, Seq2Seq | Chat | Captions):
        n = min(settings.per_class, recipe.generate.images_per_class)
        stand_ins = [f"a photo of {{}} in a scene that is described in about so many words, {i}" for i in range(n)]
        recipe = recipe.changed({"prompts": {"kind": "templates", "templates": stand_ins}})
    writer, n = make_writer(recipe)
    return writer(recipe.task, n, np.random.default_rng([recipe.seed, 1]))


def _free_bytes(out: Path) -> int:
    return shutil.disk_usage(next(p for p in [out.absolute(), *out.absolute().parents] if p.exists())).free


def _trial(recipe: Recipe, texts: list[str]) -> tuple[float, float]:
    """Seconds and bytes an image."""
    if not isinstance(recipe.generate, Diffusers):
        return _time(make_generator(recipe), texts)
    steps = recipe.generate.num_inference_steps
    few = [s for s in TRIAL_STEPS if s < steps] or [steps]
    timed = [_time(make_generator(recipe.changed({"generate.num_inference_steps": s})), texts) for s in few]
    seconds, size = timed[-1]
    if len(few) > 1:
        seconds += max(0.0, (timed[1][0] - timed[0][0]) / (few[1] - few[0])) * (steps - few[1])
    return seconds, size


def _time(generator: Generator, texts: list[str]) -> tuple[float, float]:
    generator(texts[:1], [0])  # loading and warming up are not what is measured
    batch = min(getattr(generator, "batch_size", 0) or 1, len(texts), 64)
    started = time.perf_counter()
    made = [image for image in generator(texts[:batch], list(range(batch))) if image is not None]
    seconds = (time.perf_counter() - started) / batch
    return seconds, float(np.mean([len(png.encode(i)) for i in made])) if made else 0.0

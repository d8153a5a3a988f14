"""What a recipe would make and cost, before anything is spent: ``figment run --dry-run``."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from figment import store
from figment.errors import FigmentError
from figment.recipe import Recipe
from figment.run import make_generator, make_writer

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
    free_bytes: int
    note: str = ""


def forecast(recipe: Recipe, out: Path) -> Forecast:
    """Write the prompts (in memory), time two trial batches with few steps, and count. Writes nothing to disk."""
    writer, n = make_writer(recipe)
    prompts = writer(recipe.task, n, np.random.default_rng([recipe.seed, 1]))
    g = recipe.generate
    images = g.images_per_class * len({p.label for p in prompts})
    shards = -(-images // g.shard_size)
    done = sum(g.shard_size for i in range(shards) if store.Stage(out / "images", shards, {}, {}).shard(i).is_file())
    left = max(0, images - done)
    disk = next(p for p in [out.absolute(), *out.absolute().parents] if p.exists())
    free = shutil.disk_usage(disk).free
    try:
        per_image, size = _trial(recipe, [p.text for p in prompts])
    except FigmentError as error:
        return Forecast(len(prompts), images, shards, min(done, images), None, None, free, str(error))
    return Forecast(len(prompts), images, shards, min(done, images), left * per_image, int(left * size), free)


def _trial(recipe: Recipe, texts: list[str]) -> tuple[float, float]:
    """Seconds and bytes an image."""
    seconds, size = [], 0.0
    few = [s for s in TRIAL_STEPS if s < recipe.generate.num_inference_steps] or [recipe.generate.num_inference_steps]
    for steps in few:
        generator = make_generator(recipe.changed({"generate.num_inference_steps": steps}))
        generator(texts[:1], [0])  # loading and warming up are not what is measured
        batch = min(generator.batch_size or 1, len(texts), 64)
        started = time.perf_counter()
        made = [image for image in generator(texts[:batch], list(range(batch))) if image is not None]
        seconds.append((time.perf_counter() - started) / batch)
        size = float(np.mean([len(store.encode_png(i)) for i in made])) if made else size
    if len(few) == 1:
        return seconds[0], size
    a_step = max(0.0, (seconds[1] - seconds[0]) / (few[1] - few[0]))
    return seconds[1] + a_step * (recipe.generate.num_inference_steps - few[1]), size

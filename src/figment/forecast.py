"""What a recipe would make and cost, before anything is spent: ``figment run --dry-run``."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from figment import files, png, store
from figment.errors import FigmentError
from figment.recipe import Recipe
from figment.recipe.generate import DiffusersSettings
from figment.recipe.prompts import CaptionsSettings, ChatSettings, Seq2SeqSettings
from figment.report.text import duration
from figment.run import Asked, Walk
from figment.studies.table import images_key, table_runs
from figment.types import Generator, Images, Prompt

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
    tuning_steps: int = 0  # of training the generator on real images, which comes first; not in the seconds


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


def forecast_table(recipe: Recipe, out: Path) -> str:
    """What a recipe's table would make: runs, sets of images that they share, and the time of generation. Writes nothing."""
    runs = table_runs(recipe)
    sets = {images_key(own): own for _, _, own in runs}
    images, seconds, unknown = 0, 0.0, ""
    timed: dict[str, float | None] = {}  # by what an image costs: the generator's settings
    for key, own in sets.items():
        n = own.generate.images_per_class * len(own.task.class_names)
        images += n
        kind = store.fingerprint([own.generate.model_dump(), own.few_shot and own.few_shot.shots])
        if kind not in timed:
            f = forecast(own, out / "images" / key)
            timed[kind] = None if f.seconds is None or not f.images else f.seconds / max(1, f.images - f.done)
            unknown = unknown or ("" if f.seconds is not None else f.note)
        seconds += n * (timed[kind] or 0.0)
    cost = (
        f"about {duration(seconds)} of generation on this machine"
        if not unknown
        else f"their time is not known: {unknown}"
    )
    return f"{len(runs)} runs that share {len(sets)} sets of {images:,} images in all; {cost}. Training comes on top."


def _tuning_steps(recipe: Recipe, out: Path) -> int:
    """Steps of training that the recipe's finetune takes, 0 without one. Raises FigmentError where it cannot be done."""
    walk = Walk(recipe, out, None, out / "features")
    if not recipe.generate.finetunes:
        return 0
    finetuning = recipe.generate.finetuning(_AsTheyAre(walk), walk.untuned, out / "finetune")
    if finetuning is None or finetuning.is_complete():
        return 0
    finetuning.check()
    return finetuning.total_steps


class _AsTheyAre(Asked):
    """Real images as they are: looking for broken ones would take as long as encoding them."""

    @property
    def shots_per_class(self) -> int | None:
        return None if self.recipe.few_shot is None else self.recipe.few_shot.shots

    def real(self, split: str) -> Images | None:
        images = self.walk.given.get(split)
        return images if images is None or split != "train" or self.recipe.few_shot is None else self.walk.draw(images)


def _prompts(recipe: Recipe) -> list[Prompt]:
    """The recipe's prompts. Where a model would write them, as many that look like them: a forecast asks no model."""
    settings = recipe.prompts
    if isinstance(settings, Seq2SeqSettings | ChatSettings | CaptionsSettings):
        n = settings.n_prompts(recipe.generate.images_per_class)
        stand_ins = [f"a photo of {{}} in a scene that is described in about so many words, {i}" for i in range(n)]
        recipe = recipe.changed({"prompts": {"kind": "templates", "templates": stand_ins}})
    writer, n = Walk(recipe, Path(), None, Path("features")).writer
    return writer(recipe.task, n, np.random.default_rng([recipe.seed, 1]))


def _free_bytes(out: Path) -> int:
    return shutil.disk_usage(next(p for p in [out.absolute(), *out.absolute().parents] if p.exists())).free


def _trial(recipe: Recipe, texts: list[str]) -> tuple[float, float]:
    """Seconds and bytes an image."""
    if not isinstance(recipe.generate, DiffusersSettings):
        return _time(_untuned(recipe), texts)
    steps = recipe.generate.num_inference_steps
    few = [s for s in TRIAL_STEPS if s < steps] or [steps]
    timed = [_time(_untuned(recipe.changed({"generate.num_inference_steps": s})), texts) for s in few]
    seconds, size = timed[-1]
    if len(few) > 1:
        seconds += max(0.0, (timed[1][0] - timed[0][0]) / (few[1] - few[0])) * (steps - few[1])
    return seconds, size


def _untuned(recipe: Recipe) -> Generator:
    return recipe.generate.build(_AsTheyAre(Walk(recipe, Path(), None, Path("features"))))


def _time(generator: Generator, texts: list[str]) -> tuple[float, float]:
    def make(n: int) -> list[np.ndarray | None]:
        shots = {"init": np.full((n, 64, 64, 3), 128, np.uint8)} if getattr(generator, "real_guidance", None) else {}
        return generator(texts[:n], list(range(n)), **shots)

    make(1)  # loading and warming up are not what is measured
    batch = min(getattr(generator, "batch_size", 0) or 1, len(texts), 64)
    started = time.perf_counter()
    made = [image for image in make(batch) if image is not None]
    seconds = (time.perf_counter() - started) / batch
    return seconds, float(np.mean([len(png.encode(i)) for i in made])) if made else 0.0

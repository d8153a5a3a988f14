"""What a run is going to make: its prompts and images as they will be recorded, found out before anything is written."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from figment import layout, records
from figment.files import read_bytes
from figment.generate.fill import shots_fingerprint
from figment.generate.plan import Plan, ids_by_class
from figment.integrity import check_file, record_of
from figment.recipe.prompts import WORDS
from figment.recipe.unfingerprinted import identity
from figment.records import Record
from figment.shards import ATTRIBUTES, IMAGE_COLUMNS, ShardFolder
from figment.types import Prompt

PLACES = ("source", "concepts", "backgrounds", "places", "textures")  # of prompts: files of words

if TYPE_CHECKING:
    from figment.context import Context
    from figment.recipe import Recipe


def images_settings(recipe: Recipe) -> dict[str, Any]:
    """What the images of a recipe depend on. Their number is not in it: a set can grow.

    As many of each prompt come in another order than as many of each class, where classes have unequal numbers of prompts.
    """
    g = recipe.generate
    order = {"order": "by prompt"} if g.images_per_prompt is not None and recipe.prompts.has_classes else {}
    return {"generate": identity(g, without=("images_per_class", "images_per_prompt")), "seed": recipe.seed, **order}


def prompts_settings(recipe: Recipe) -> dict[str, Any]:
    """What the prompts of a recipe depend on."""
    asked = recipe.prompts.n_prompts(recipe.generate.images_per_class)
    ignored = {"real", "name", "own_names", "ensemble", *(WORDS - recipe.prompts.reads)}
    return {
        "task": recipe.task.model_dump(mode="json", exclude=ignored),
        "prompts": identity(recipe.prompts),
        "prompts_per_class": None if asked == sys.maxsize else asked,
        "seed": recipe.seed,
    }


def images_key(recipe: Recipe) -> str:
    """The same for recipes whose images are the same, as many as each asks for: the name of a set of a study."""
    parts: dict[str, Any] = {**prompts_settings(recipe), **images_settings(recipe)}
    g = recipe.generate
    if g.finetunes or g.guided or "train" in recipe.prompts.needs:
        few = recipe.few_shot
        parts["real"] = [recipe.task.real.places.get("train"), None if few is None else few.model_dump()]
    if g.finetunes:  # on images of the task's first sentence, where it names none of its own
        parts["templates"] = recipe.task.templates
    if places := _places(recipe):
        parts["places"] = places
    return records.fingerprint(parts)


def finetuning_key(recipe: Recipe) -> str:
    """The same for recipes whose generator is tuned on the same real images in the same way, as far as names tell; empty for those that
    tune none."""
    g = recipe.generate
    settings = getattr(g, "finetune", None)
    if settings is None:
        return ""
    real, few = recipe.task.real.places, recipe.few_shot
    model = identity(g, without=("images_per_class", "finetune"))
    judged = settings.validate_steps is not None
    if not judged:  # how images are sampled says nothing of the weights
        model = {name: model.get(name) for name in ("model", "height", "width", "dtype")}
    captions = [settings.template or recipe.task.templates[0], settings.contexts, settings.caption_column]
    on = [real.get("train"), None if few is None else few.model_dump(), recipe.task.class_names, recipe.seed]
    return records.fingerprint([model, _places(recipe), settings.learned, captions, on])


def _places(recipe: Recipe) -> dict[str, Any]:
    """Where there lies what changes the images. Their record knows the bytes; here nothing is opened."""
    g = recipe.generate
    judged = getattr(getattr(g, "finetune", None), "validate_steps", None)  # by these images, as that encoder sees them
    asked = {
        "denoiser": getattr(g, "denoiser", None),
        "weights": getattr(g, "weights", None),
        "path": getattr(g, "path", None),
        "speed.vae": getattr(getattr(g, "speed", None), "vae", None),
        "loras": [lora.model_dump() for lora in getattr(g, "loras", ())],
        "finetune.contexts": getattr(getattr(g, "finetune", None), "contexts", None),
        "prompts.contexts": getattr(recipe.prompts, "contexts", None),
        **{f"prompts.{name}": getattr(recipe.prompts, name, None) for name in PLACES},
        "finetune.validate_steps": judged and [recipe.task.real.places.get("val"), recipe.encoder_name],
    }
    return {name: place for name, place in asked.items() if place}


def prompts_record(ctx: Context) -> Record:
    settings = prompts_settings(ctx.recipe)
    own = getattr(ctx.writer, "fingerprint", None)  # of a model, and of images, where it uses some
    return Record(ctx.run.prompts, "prompts", settings, {"writer": own} if own else {})


def images_record(ctx: Context) -> Record:
    inputs = {
        "prompts": prompts_record(ctx).fingerprint,
        "generator": ctx.generator.fingerprint,
    }
    if ctx.starts is not None:
        inputs["shots"] = shots_fingerprint(ctx.starts)
    return Record(ctx.run.images, "images", images_settings(ctx.recipe), inputs)


def shard_folder(ctx: Context) -> ShardFolder:
    g = ctx.recipe.generate
    return ShardFolder(images_record(ctx), g.shard_size, g.saving)


def plan(ctx: Context, prompts: list[Prompt]) -> Plan:
    """Which images the recipe makes of these prompts, or the first of them."""
    g = ctx.recipe.generate
    n = g.images_per_class if ctx.first is None else min(ctx.first, g.images_per_class)
    starts = None if ctx.starts is None else ids_by_class(ctx.starts)
    return Plan(prompts, n, ctx.seed, g.shard_size, starts, g.of_each_prompt)


def sound_images(folder: Path) -> Iterator[tuple[int, pa.Table]]:
    """The shards of images that are as they were written, without the pixels."""
    record = record_of(folder, records.read(folder))
    if record is None:
        return
    for path in layout.shard_files(folder):
        if path.name[6:-8].isdigit():
            file = check_file(read_bytes(path), record.fingerprint, IMAGE_COLUMNS, None, ATTRIBUTES)
            if file.table is not None and not file.problems:
                yield int(path.name[6:-8]), file.table.drop(["image"])

"""The fields of a recipe that change nothing of what is made, so that no fingerprint may depend on them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel

from figment.recipe.mistakes import models_in
from figment.recipe.recipe import Recipe

SPEED = "how fast, not what"
STORED = "how the same weights are stored"
COST = "what it costs, not what is made"
REACHED = "how the same server is reached"

#: Field -> why it belongs to no fingerprint. Where models and images lie does not either: what made or read them knows
#: their content, whose fingerprint is an input of its own.
UNFINGERPRINTED = {
    "task.name": "a title",
    "task.real": "places; the images in them count by their content",
    "prompts.contexts": "a place; the writer's fingerprint knows what it says",
    "prompts.source": "a place; the writer's fingerprint knows what lies there",
    "prompts.concepts": "places, or tasks; the writer's fingerprint knows what they say, and their shares",
    "prompts.backgrounds": "a place; the writer's fingerprint knows what it says",
    "prompts.places": "a place, or a task; the writer's fingerprint knows what it says",
    "prompts.textures": "a place, or a task; the writer's fingerprint knows what it says",
    "prompts.batch_size": SPEED,
    "prompts.parallel": SPEED,
    "prompts.allow_pickle": STORED,
    "prompts.base_url": REACHED,
    "prompts.api_key_env": REACHED,
    "prompts.timeout": REACHED,
    "prompts.deadline": REACHED,
    "prompts.retries": REACHED,
    "generate.device": "any device makes the same images, up to rounding",
    "generate.batch_size": SPEED,
    "generate.allow_pickle": STORED,
    "generate.offload": "where weights wait, not what they make",
    "generate.weights": "a place; the generator's fingerprint knows its weights",
    "generate.path": "a place; the generator's fingerprint knows the images and their classes",
    "generate.denoiser": "a place; the generator's fingerprint knows its weights",
    "generate.loras": "places; the generator's fingerprint knows their weights and scales",
    "generate.speed.compile": "how fast; the same arithmetic, up to rounding",
    "generate.speed.backend": "how fast; any backend makes the same images, up to rounding",
    "generate.speed.vae": "a place; the generator's fingerprint knows its weights",
    "generate.finetune.gradient_checkpointing": "less memory for more time",
    "generate.finetune.gradient_accumulation_steps": "less memory for more time; up to rounding",
    "generate.finetune.contexts": "a place; the weights' fingerprint knows the captions",
    "evaluate.encoder": "a place; its weights are an input of the results",
    "train.allow_pickle": STORED,
    "train.workers": SPEED,
    "train.compile": SPEED,
    "train.pretrain.compile": SPEED,
    "prices": COST,
    "track": "what is shown, not what is made",
}
#: Field -> the value at which it does not count: it came later, and what was recorded before goes on as it is.
LATER: dict[str, Any] = {
    "prompts.articles": "fitting",
    "generate.speed": {"cache": None, "quantise": None},
    "generate.images_per_prompt": None,
}


def identity(settings: BaseModel, without: Iterable[str] = ()) -> dict[str, Any]:
    """The settings of one part of a recipe as plain data, without the fields that belong to no fingerprint.

    ``without`` names further fields to leave out: ``identity(recipe.generate, without=["images_per_class"])`` is that of a
    set that can grow.
    """
    prefix = f"{_part_of(type(settings))}."
    exclude: dict[str, Any] = dict.fromkeys(without, True)
    for field in UNFINGERPRINTED:
        if field.startswith(prefix):
            name, dot, inner = field.removeprefix(prefix).partition(".")
            if not dot:
                exclude[name] = True
            elif exclude.setdefault(name, {}) is not True:
                exclude[name][inner] = True
    dumped = settings.model_dump(mode="json", exclude=exclude)
    return {name: value for name, value in dumped.items() if LATER.get(f"{prefix}{name}", _COUNTS) != value}


_COUNTS = object()  # equals no value


def _part_of(settings: type[BaseModel]) -> str:
    """The field of a recipe that holds such settings. Raises TypeError for others."""
    for part, field in Recipe.model_fields.items():
        if settings in models_in(field.annotation):
            return part
    raise TypeError(f"{settings.__name__} is no part of a recipe")

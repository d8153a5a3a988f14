"""What a recipe names that may have to be fetched: models, LoRAs and data sets of the Hub."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from figment.generate.speed_settings import TINY
from figment.recipe.load import paths_in
from figment.recipe.recipe import Recipe

#: How fields are called whose models are fetched where they are no folder.
MODELS = ("model", "encoder", "timm", "pretrained", "tokenizer", "vae")
DATA = "datasets:"


@dataclass(frozen=True)
class Source:
    """``name`` is as the recipe has it: a Hub id with a revision or without, a folder, or a built-in name."""

    kind: Literal["model", "lora", "data set"]
    name: str
    allow_pickle: bool = False
    file: str | None = None  # of a LoRA's repository; None = the usual one


def sources(recipe: Recipe) -> Iterator[tuple[str, Source]]:
    """The recipe's field, and what it names. Those of its arms and of its table's cells are theirs."""
    for field, value, owner in paths_in(recipe):
        part = getattr(recipe, field.partition(".")[0])
        pickles = getattr(part, "allow_pickle", recipe.encoder_pickles)
        if value.startswith(DATA):
            yield field, Source("data set", value.removeprefix(DATA).partition(":")[0])
        elif field.endswith(".lora"):
            yield field, Source("lora", value, file=getattr(owner, "weight_name", None))
        elif value == TINY and field.endswith(".vae"):
            continue  # which it is, the model itself tells
        elif field.rpartition(".")[2] in MODELS and getattr(owner, "weights", None) is None:
            yield field, Source("model", value, pickles)

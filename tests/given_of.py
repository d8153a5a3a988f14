"""What a recipe's settings ask for when they build their objects, from what a test holds."""

from __future__ import annotations

from pathlib import Path

from figment.encoders import Features, open_encoder
from figment.recipe import Recipe
from figment.types import Images


class GivenOf:
    """A ``Given`` of a recipe and of real images by their split."""

    allow_plugins = True

    def __init__(self, recipe: Recipe, caches: Path = Path("caches"), **real: Images):
        self.recipe, self.task, self.seed, self.caches, self._real = recipe, recipe.task, recipe.seed, caches, real
        self._features: dict[str, Features] = {}

    @property
    def shots_per_class(self) -> int | None:
        return None if self.recipe.few_shot is None else self.recipe.few_shot.shots

    def features(self, encoder: str | None = None) -> Features:
        name = encoder or self.recipe.encoder_name
        return self._features.setdefault(name, Features(open_encoder(name)))

    def real(self, split: str) -> Images | None:
        return self._real.get(split)

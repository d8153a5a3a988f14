"""What a run is: YAML in, strict pydantic models, resolved YAML out. One file a part of the recipe."""

from figment.recipe.load import load_recipe
from figment.recipe.recipe import Recipe, validate

__all__ = ["Recipe", "load_recipe", "validate"]

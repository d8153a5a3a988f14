"""A recipe beside variants of itself: every arm is a whole run in ``<out>/arms/<name>``, and one report compares them."""

from __future__ import annotations

import re
from pathlib import Path

from figment import files
from figment.engines import Engine
from figment.errors import FigmentError
from figment.progress import console
from figment.recipe import Recipe
from figment.run import Outcome, run_recipe


def run_arms(recipe: Recipe, out: Path | str, engine: Engine | None = None) -> dict[str, Outcome]:
    """Run every arm of ``recipe.arms``, then the recipe itself; name -> outcome, the recipe's own last.

    Real images are encoded once for all arms. Only the recipe itself measures the ceiling and the exchange rate.
    """
    out = files.as_path(out)
    arms = arm_runs(recipe, out)  # all are checked before the first one costs anything
    outcomes = {}
    for name, (arm, folder) in arms.items():
        console.print(name, style="bold")
        outcomes[name] = run_recipe(arm, folder, engine=engine, features_folder=out / "features")
    if arms:
        files.write_json(out / "arms" / "arms.json", [folder.name for _, folder in arms.values()])
        console.print(recipe.name, style="bold")
    outcomes[recipe.name] = run_recipe(recipe, out, engine=engine)
    return outcomes


def arm_runs(recipe: Recipe, out: Path) -> dict[str, tuple[Recipe, Path]]:
    """Name -> the recipe of that arm and its folder. Raises FigmentError, naming the arm, for settings that do not hold."""
    if recipe.name in recipe.arms:
        raise FigmentError(f"The recipe and one of its arms are both called {recipe.name[:60]!r}. Rename one of them.")
    shared = {"arms": {}, "evaluate.real_all": False, "evaluate.exchange_rate": False}
    return {
        name: (
            recipe.changed({**shared, "name": name, **changes}, f"arm {name[:60]!r}"),
            out / "arms" / folder_name(number, name),
        )
        for number, (name, changes) in enumerate(recipe.arms.items())
    }


def folder_name(number: int, name: str) -> str:
    """A name for the folder of one of many runs: in order, and readable."""
    return f"{number:02d}-" + (re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "arm")

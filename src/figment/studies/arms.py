"""A recipe beside variants of itself: every arm is a whole run in ``<out>/arms/<name>``, and one report compares them."""

from __future__ import annotations

import re
from pathlib import Path

from figment import store
from figment.errors import FigmentError
from figment.progress import console
from figment.recipe import Recipe
from figment.run import Outcome, run_recipe


def run_arms(recipe: Recipe, out: Path | str) -> dict[str, Outcome]:
    """Run every arm of ``recipe.arms``, then the recipe itself; name -> outcome, the recipe's own last.

    Real pictures are encoded once for all arms. Only the recipe itself measures the ceiling and the exchange rate.
    """
    out = Path(out)
    if recipe.name in recipe.arms:
        raise FigmentError(f"The recipe and one of its arms are both called {recipe.name[:60]!r}. Rename one of them.")
    # All arms are checked before the first one costs anything.
    shared = {"arms": {}, "evaluate.real_all": False, "evaluate.exchange_rate": False}
    arms = {
        name: recipe.changed({**shared, "name": name, **changes}, f"arm {name[:60]!r}")
        for name, changes in recipe.arms.items()
    }
    folders = {name: _folder_name(i, name) for i, name in enumerate(arms)}
    outcomes = {}
    for name, arm in arms.items():
        console.print(name, style="bold")
        outcomes[name] = run_recipe(arm, out / "arms" / folders[name], features_folder=out / "features")
    if arms:
        store.write_json(out / "arms" / "arms.json", list(folders.values()))
        console.print(recipe.name, style="bold")
    outcomes[recipe.name] = run_recipe(recipe, out)
    return outcomes


def _folder_name(number: int, name: str) -> str:
    return f"{number:02d}-" + (re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "arm")

"""A recipe beside variants of itself: every arm is a whole run in ``<out>/arms/<name>``, and one report compares them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from figment import files
from figment.engines import Engine
from figment.errors import FigmentError
from figment.evaluate.holm import among
from figment.forecast import Forecast, forecast
from figment.layout import Study, folder_name
from figment.plugins import permission
from figment.recipe import Recipe
from figment.report.tracked import send
from figment.run import Outcome, run_recipe
from figment.stages.plans import finetuning_key, images_key
from figment.stages.unread import in_proportion
from figment.studies.pilot import look_first

log = logging.getLogger(__name__)


def run_arms(
    recipe: Recipe,
    out: Path | str,
    engine: Engine | None = None,
    *,
    root: Path | None = None,
    allow_plugins: bool = False,
) -> dict[str, Outcome]:
    """Run every arm of ``recipe.arms``, then the recipe itself; name -> outcome, the recipe's own last.

    Real images are encoded once for all arms. Only the recipe itself measures the ceiling and the exchange rate. Verdicts are those
    that hold for all arms at once; each arm's own folder keeps the one that it would have alone. A run so large that a pilot is next to
    nothing of it begins with one. ``root`` is the folder of several such studies, which then share their caches.
    """
    out = files.as_path(out)
    caches = root or out
    arms = arm_runs(recipe, out)  # all are checked before the first one costs anything
    _check_plugins(recipe, arms, allow_plugins)
    sets = sets_of(recipe, out, arms)
    outcomes = {}
    for name, (arm, folder) in arms.items():
        log.info(name, extra={"heading": True})
        outcomes[name] = run_recipe(
            arm,
            folder,
            engine=engine,
            made=sets[name],
            root=caches,
            before_images=look_first,
            allow_plugins=allow_plugins,
        )
    if arms:
        log.info(recipe.name, extra={"heading": True})
    outcomes[recipe.name] = run_recipe(
        recipe, out, engine=engine, root=caches, before_images=look_first, allow_plugins=allow_plugins
    )
    judged = [name for name, outcome in outcomes.items() if "worth" in outcome.results]
    words = dict(zip(judged, among([outcomes[name].results["worth"] for name in judged]), strict=True))
    done = {name: replace(outcome, among=words.get(name, "")) for name, outcome in outcomes.items()}
    for name, outcome in done.items():
        send(recipe.track, name, outcome.folder, outcome.results, outcome.verdict)
    return done


def forecast_arms(
    recipe: Recipe, out: Path, *, allow_plugins: bool = False, seconds_per_image: float | None = None
) -> dict[str, Forecast]:
    """What every arm and the recipe itself would make and cost. Images and fine-tunings that they share are counted once. Writes nothing.

    ``seconds_per_image`` as for :func:`figment.forecast.forecast`, of the recipe's own images.
    """
    arms = arm_runs(recipe, out)
    _check_plugins(recipe, arms, allow_plugins)
    sets = sets_of(recipe, out, arms)
    forecasts: dict[str, Forecast] = {}
    tuned: set[str] = set()
    for name, (arm, folder) in {**arms, recipe.name: (recipe, out)}.items():
        made = sets.get(name, out)
        shared = name in sets and made != folder
        key = finetuning_key(arm)
        forecasts[name] = forecast(
            arm,
            folder,
            made,
            out,
            has_images=shared,
            has_finetuning=key in tuned,
            allow_plugins=allow_plugins,
            seconds_per_image=in_proportion(seconds_per_image, arm, recipe),
        )
        if not shared:
            tuned.add(key)
    return forecasts


def _check_plugins(recipe: Recipe, arms: Mapping[str, tuple[Recipe, Path]], allowed: bool) -> None:
    """Those of all arms at once, before the first one costs anything."""
    permission.check((kind for own in (recipe, *(arm for arm, _ in arms.values())) for kind in own.plugins), allowed)


def sets_of(recipe: Recipe, out: Path, arms: Mapping[str, tuple[Recipe, Path]]) -> dict[str, Path]:
    """Name of an arm -> the folder of the run whose images it uses: the recipe's own, an earlier arm's, or the arm's."""
    first = {images_key(recipe): out}
    return {name: first.setdefault(images_key(arm), folder) for name, (arm, folder) in arms.items()}


def arm_runs(recipe: Recipe, out: Path) -> dict[str, tuple[Recipe, Path]]:
    """Name -> the recipe of that arm and its folder. Raises FigmentError, naming the arm, for settings that do not hold."""
    if recipe.name in recipe.arms:
        raise FigmentError(f"The recipe and one of its arms are both called {recipe.name[:60]!r}. Rename one of them.")
    shared = {"arms": {}, "evaluate.real_all": False, "evaluate.exchange_rate": False}
    return {
        name: (
            recipe.changed({**shared, "name": name, **changes}, f"arm {name[:60]!r}"),
            Study(out).arms / folder_name(number, name),
        )
        for number, (name, changes) in enumerate(recipe.arms.items())
    }

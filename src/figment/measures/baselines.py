"""What others would do with the few real images, without generated ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from figment.errors import FigmentError
from figment.learners.clip_head.baseline_names import AUGMENTED, BASELINES
from figment.measures.measure import NEEDS, Measure, Metric, starts_untrained
from figment.types import Training

if TYPE_CHECKING:
    from figment.measures.trial import Trial
    from figment.recipe import Recipe
    from figment.types import Images, Result


def names(recipe: Recipe) -> list[str]:
    kinds = ("top1", "gain") if starts_untrained(recipe) else ("top1",)
    return [f"{kind}/{name}" for kind in kinds for name in recipe.evaluate.baselines]


def settings(metrics: set[str]) -> dict[str, list[str]]:
    return {"evaluate.baselines": [name for name in BASELINES if metrics & {f"top1/{name}", f"gain/{name}"}]}


def check(recipe: Recipe, given: Mapping[str, Images]) -> None:
    """All but more augmentation start from the words of a CLIP."""
    if set(recipe.evaluate.baselines) - {AUGMENTED} and not starts_untrained(recipe):
        raise FigmentError(f"The measure baselines needs {NEEDS['untrained']}; or leave all but {AUGMENTED} out.")


def take(trial: Trial) -> Iterator[Result]:
    trainings = [Training(real=trial.shots, seed=seed) for seed in trial.seeds]
    for name in trial.recipe.evaluate.baselines:
        found = trial.predictions(name, trainings, trial.baseline(name, trial.learner))
        yield trial.accuracy(f"top1/{name}", found)
        yield from trial.over_untrained(f"gain/{name}", found)


MEASURE = Measure(
    name="baselines",
    explains="Other ways to learn from the few_shot images alone, on the features of the same encoder (`evaluate.baselines`). `augmented`"
    " is there for images_only and network too, which it trains for as long on more varied images.",
    metrics=(
        *(Metric(f"top1/{name}", title, what=what, shown="arm") for name, (title, what) in BASELINES.items()),
        *(
            Metric(f"gain/{name}", f"gain of {title}", "points", shown="elsewhere")
            for name, (title, _) in BASELINES.items()
        ),
    ),
    take=take,
    needs=frozenset({"test", "few_shot"}),
    asked=lambda recipe: bool(recipe.evaluate.baselines),
    settings=settings,
    names=names,
    check=check,
    trainings=lambda recipe, images: recipe.train.seeds * len(recipe.evaluate.baselines),
)

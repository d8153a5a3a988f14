"""What others would do with the few real images, without generated ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from figment.learners.clip_head.baseline_names import BASELINES
from figment.measures.measure import Measure, Metric
from figment.types import Training

if TYPE_CHECKING:
    from figment.measures.trial import Trial
    from figment.recipe import Recipe
    from figment.types import Result


def names(recipe: Recipe) -> list[str]:
    return [f"{kind}/{name}" for kind in ("top1", "gain") for name in recipe.evaluate.baselines]


def settings(metrics: set[str]) -> dict[str, list[str]]:
    return {"evaluate.baselines": [name for name in BASELINES if metrics & {f"top1/{name}", f"gain/{name}"}]}


def take(trial: Trial) -> Iterator[Result]:
    trainings = [Training(real=trial.shots, seed=seed) for seed in trial.seeds]
    for name in trial.recipe.evaluate.baselines:
        found = trial.predictions(name, trainings, trial.baseline(name, trial.learner))
        yield trial.accuracy(f"top1/{name}", found)
        yield from trial.over_untrained(f"gain/{name}", found)


MEASURE = Measure(
    name="baselines",
    explains="Other ways to learn from the few_shot images alone, on the features of the same encoder (`evaluate.baselines`).",
    metrics=(
        *(Metric(f"top1/{name}", title, what=what, shown="arm") for name, (title, what) in BASELINES.items()),
        *(
            Metric(f"gain/{name}", f"gain of {title}", "points", shown="elsewhere")
            for name, (title, _) in BASELINES.items()
        ),
    ),
    take=take,
    needs=frozenset({"test", "few_shot", "untrained"}),
    asked=lambda recipe: bool(recipe.evaluate.baselines),
    settings=settings,
    names=names,
    trainings=lambda recipe, images: recipe.train.seeds * len(recipe.evaluate.baselines),
)

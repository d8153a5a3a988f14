"""The ceiling: the same learner on all real training images there are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from figment.measures.measure import Measure, Metric, starts_untrained
from figment.types import Training

if TYPE_CHECKING:
    from figment.measures.trial import Trial
    from figment.types import Result


def take(trial: Trial) -> Iterator[Result]:
    assert trial.train is not None
    found = trial.predictions("all real images", [Training(real=trial.train, seed=seed) for seed in trial.seeds])
    yield trial.accuracy("top1/real_all", found, images=len(trial.train))
    yield from trial.over_untrained("gain/real_all", found)


MEASURE = Measure(
    name="real_all",
    explains="The ceiling: the same learner, trained on all of task.real.train and no generated image (`evaluate.real_all`).",
    metrics=(
        Metric("top1/real_all", "all real images", what="the ceiling: {images:,} real training images", shown="arm"),
        Metric("gain/real_all", "gain of all real images", "points", shown="elsewhere"),
    ),
    take=take,
    needs=frozenset({"test", "train"}),
    asked=lambda recipe: recipe.evaluate.real_all,
    settings=lambda metrics: {"evaluate.real_all": bool(metrics & {"top1/real_all", "gain/real_all"})},
    names=lambda recipe: ["top1/real_all", *(["gain/real_all"] if starts_untrained(recipe) else [])],
    trainings=lambda recipe, images: recipe.train.seeds,
)

"""How far the generated images are from the real ones, to the recipe's encoder."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from figment.errors import FigmentError
from figment.measures.measure import Measure, Metric

if TYPE_CHECKING:
    from figment.measures.trial import Trial
    from figment.recipe import Recipe
    from figment.types import Images, Result

FEWEST = 4  # images on each side: two groups, and two images without one of them
GROUPS = 20  # of images left out in turn, for the interval


def check(recipe: Recipe, given: Mapping[str, Images]) -> None:
    train = given.get("train")
    if train is not None and len(train) < FEWEST:
        raise FigmentError(
            f"evaluate.measures: frechet needs {FEWEST} real training images or more, and task.real.train has {len(train)}. Give"
            " more, or take frechet out of evaluate.measures."
        )


def take(trial: Trial) -> Iterator[Result]:
    from figment.evaluate.fidelity import frechet

    kept, train = trial.kept, trial.train
    assert train is not None
    if len(kept) < FEWEST:
        logging.getLogger(__name__).warning(
            "a Frechet distance needs %d images or more, and %d were kept: it is left out", FEWEST, len(kept)
        )
        return
    features = trial.features(None)
    groups = max(2, min(GROUPS, len(kept) // 2, len(train) // 2))
    yield replace(
        frechet(features(kept), features(train), trial.encoder_name, trial.recipe.seed, groups), metric=MEASURE.name
    )


MEASURE = Measure(
    name="frechet",
    explains="Fréchet distance between the kept images and all of task.real.train in the encoder's features; FID only where that"
    " encoder is its Inception network. It says what images look like, and ranks no set for training.",
    metrics=(
        Metric(
            "frechet",
            "Fréchet distance",
            "plain",
            what="{n_a:,} kept images to {n_b:,} real ones, in {dimensions} dimensions of {extractor}",
            lower_is_better=True,
        ),
    ),
    take=take,
    needs=frozenset({"train"}),
    check=check,
)

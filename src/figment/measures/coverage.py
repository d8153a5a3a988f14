"""Do the generated images reach every kind of real image there is, to the recipe's encoder?"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from figment.errors import FigmentError
from figment.measures.measure import Measure, Metric

if TYPE_CHECKING:
    from figment.measures.trial import Trial
    from figment.recipe import Recipe
    from figment.types import Images, Result


def check(recipe: Recipe, given: Mapping[str, Images]) -> None:
    from figment.evaluate.coverage import FEWEST

    train = given.get("train")
    if train is not None and len(train) < FEWEST:
        raise FigmentError(
            f"evaluate.measures: coverage needs {FEWEST} real training images or more, and task.real.train has {len(train)}. Give"
            " more, or take coverage out of evaluate.measures."
        )


def take(trial: Trial) -> Iterator[Result]:
    from figment.evaluate.coverage import FEWEST, coverage

    kept, train = trial.kept, trial.train
    assert train is not None
    few = min(len(kept), len(train))
    if few < FEWEST:
        logging.getLogger(__name__).warning(
            "coverage needs %d generated and %d real images or more, and there are %d: it is left out",
            FEWEST,
            FEWEST,
            few,
        )
        return
    features = trial.features(None)
    yield from coverage(features(train), features(kept), trial.encoder_name, trial.recipe.seed)


OF = "{n_generated:,} kept and {n_real:,} real images, as many of each, k = {k}, in the features of {extractor}"

MEASURE = Measure(
    name="coverage",
    explains="Coverage: the share of task.real.train near which a kept image lies (Naeem et al. 2020, k = 5), in the encoder's"
    " features, with as many images of either kind. Of what is measured without a training it follows most closely what is learnt"
    " from the images. Density is high where they are all alike. Both depend on n: compare equal ones.",
    metrics=(
        Metric("coverage", "coverage of the real images", what=OF),
        Metric("density", "density among the real images", "plain", what=OF),
    ),
    take=take,
    needs=frozenset({"train"}),
    check=check,
)

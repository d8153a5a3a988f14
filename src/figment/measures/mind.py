"""MIND: the sliced Wasserstein distance of features."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from figment.measures.compared import FLOORS, Sets, compared
from figment.measures.measure import Metric

if TYPE_CHECKING:
    from figment.types import Result


def compare(sets: Sets) -> Iterator[Result]:
    from figment.evaluate.mind import mind

    yield mind(sets.real, sets.generated, sets.extractor, sets.seed)


MEASURE = compared(
    "mind",
    "Sliced Wasserstein distance (MIND): both sets are projected on random directions and sorted; the mean squared difference. It needs no"
    " covariance, so far fewer images than a Fréchet distance.",
    (
        Metric(
            "mind",
            "sliced Wasserstein distance",
            "plain",
            what="as many kept as real images, {projections} directions, in the features of {extractor}" + FLOORS,
            lower_is_better=True,
        ),
    ),
    compare,
    fewest=4,
    oracle="a twin written from its definition; scipy's wasserstein_distance in one dimension",
)

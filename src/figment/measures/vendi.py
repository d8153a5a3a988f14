"""How many different images the kept ones are worth, to the recipe's encoder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from figment.measures.compared import OF_REAL, Sets, compared
from figment.measures.measure import Metric

if TYPE_CHECKING:
    from figment.types import Result


def compare(sets: Sets) -> Iterator[Result]:
    from figment.evaluate.vendi import vendi

    yield vendi(sets.real, sets.generated, sets.extractor, sets.seed)


MEASURE = compared(
    "vendi",
    "Vendi score (Friedman and Dieng 2023): how many images that have nothing in common the kept ones are worth, by the cosines of their"
    " features; 1 for copies of one. It grows with n: the real images stand beside it at the same number.",
    (Metric("vendi", "Vendi score", "plain", what="in the features of {extractor}" + OF_REAL),),
    compare,
    fewest=4,
    oracle="vendi-score 0.0.3 (score_X, order 1)",
)

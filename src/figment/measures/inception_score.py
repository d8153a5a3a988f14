"""Are single images clear, and together varied, to a classifier of ImageNet?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from figment.measures.compared import INCEPTION, OF_REAL, Sets, compared
from figment.measures.measure import Metric

if TYPE_CHECKING:
    from figment.types import Result


def compare(sets: Sets) -> Iterator[Result]:
    from figment.encoders.inception import N_FEATURES
    from figment.evaluate.inception_score import inception_score

    yield inception_score(sets.real[:, N_FEATURES:], sets.generated[:, N_FEATURES:], sets.extractor, sets.seed)


MEASURE = compared(
    "inception_score",
    "Inception score (Salimans et al. 2016): high where each kept image is clearly of one of ImageNet's classes, and all together of many."
    " It knows nothing of the task's classes.",
    (
        Metric(
            "inception_score",
            "Inception score",
            "plain",
            what="mean of {splits} splits, logits of {extractor}" + OF_REAL,
        ),
    ),
    compare,
    fewest=20,
    oracle="torch-fidelity (10 splits, its order)",
    encoder=INCEPTION,
)

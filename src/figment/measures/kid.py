"""KID: the kernel distance in the features of FID's network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from figment.measures.compared import FLOORS, INCEPTION, Sets, compared
from figment.measures.measure import Metric

if TYPE_CHECKING:
    from figment.types import Result


def compare(sets: Sets) -> Iterator[Result]:
    from figment.encoders.inception import N_FEATURES
    from figment.evaluate.mmd import kid

    yield kid(sets.real[:, :N_FEATURES], sets.generated[:, :N_FEATURES], sets.extractor, sets.seed)


MEASURE = compared(
    "kid",
    "KID (Binkowski et al. 2018): the squared maximum mean discrepancy with a cubic kernel in the features of FID's network, over all pairs"
    " of images. It has no excess for small sets, so numbers of different counts compare; it may be negative.",
    (
        Metric(
            "kid",
            "KID",
            "plain",
            what="{n_generated:,} kept images to {n_real:,} real ones, in the features of {extractor}" + FLOORS,
            lower_is_better=True,
        ),
    ),
    compare,
    fewest=4,
    oracle="torch-fidelity with kid_subsets 1 and all images as the subset; its default averages 100 random subsets of 1,000",
    encoder=INCEPTION,
)

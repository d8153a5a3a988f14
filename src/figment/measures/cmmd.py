"""CMMD: a kernel distance of unit features."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from figment.measures.compared import FLOORS, Sets, compared
from figment.measures.measure import Metric

if TYPE_CHECKING:
    from figment.types import Result


def compare(sets: Sets) -> Iterator[Result]:
    from figment.evaluate.mmd import cmmd

    yield cmmd(sets.real, sets.generated, sets.extractor, sets.seed)


MEASURE = compared(
    "cmmd",
    "CMMD (Jayasumana et al. 2024): 1,000 times the squared maximum mean discrepancy of unit features with a Gaussian kernel of width 10."
    " It assumes no Gaussian features, as a Fréchet distance does. Published numbers are of CLIP ViT-L/14 at 336 pixels.",
    (
        Metric(
            "cmmd",
            "CMMD",
            "plain",
            what="{n_generated:,} kept images to {n_real:,} real ones, in the features of {extractor}" + FLOORS,
            lower_is_better=True,
        ),
    ),
    compare,
    fewest=4,
    oracle="torch-fidelity's mmd2 (biased) with its rbf kernel of sigma 10, of rows of unit length, times 1,000",
)

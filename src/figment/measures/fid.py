"""FID: the Fréchet distance in the features that it is defined on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from figment.measures.compared import INCEPTION, Sets, compared
from figment.measures.frechet import OF, ORACLE
from figment.measures.measure import Metric

if TYPE_CHECKING:
    from figment.types import Result


def compare(sets: Sets) -> Iterator[Result]:
    from figment.encoders.inception import N_FEATURES
    from figment.evaluate.fidelity import frechet

    real, generated = (x[:, :N_FEATURES] for x in (sets.real, sets.generated))
    yield replace(frechet(generated, real, sets.extractor, sets.seed), metric="fid")


MEASURE = compared(
    "fid",
    "FID (Heusel et al. 2017): the Fréchet distance in the 2,048 features of the Inception network of 2015, as torch-fidelity has it, with"
    " TensorFlow's resize, in float32. Papers take 50,000 images of either kind; with fewer it is too large, and numbers of different"
    " counts do not compare.",
    (Metric("fid", "FID", "plain", what=OF, lower_is_better=True),),
    compare,
    fewest=4,
    oracle=ORACLE,
    encoder=INCEPTION,
)

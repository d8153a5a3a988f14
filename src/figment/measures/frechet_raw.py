"""How far the generated images are from the real ones, to an encoder whose features are taken as they are, as papers take them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from figment.measures.compared import Sets, compared
from figment.measures.frechet import OF, ORACLE
from figment.measures.measure import Metric

if TYPE_CHECKING:
    from figment.types import Result


def compare(sets: Sets) -> Iterator[Result]:
    from figment.evaluate.fidelity import frechet

    yield replace(frechet(sets.generated, sets.real, sets.extractor, sets.seed), metric="frechet_raw")


MEASURE = compared(
    "frechet_raw",
    "The same Fréchet distance in the features as the encoder's network gives them, which is what published ones are of. The size counts"
    " too: FD-DINOv2 (Stein et al. 2023) is of images of 224 x 224 pixels, where timm's DINOv2 takes 518, so its values are not theirs. In"
    " features of unit length, as `frechet` takes them, a distance lies in [0, 4]: such values do not compare with published ones, nor"
    " with these.",
    (Metric("frechet_raw", "Fréchet distance, raw features", "plain", what=OF, lower_is_better=True),),
    compare,
    fewest=4,
    oracle=ORACLE,
    raw=True,
)

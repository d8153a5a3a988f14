"""How far the generated images are from the real ones, to the recipe's encoder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from figment.measures.compared import FLOORS, Sets, compared
from figment.measures.measure import Metric

if TYPE_CHECKING:
    from figment.types import Result

OF = "{n_a:,} kept images to {n_b:,} real ones, in {dimensions} dimensions of {extractor}" + FLOORS
ORACLE = "torch-fidelity (pytorch-fid and torchmetrics agree with it to 1e-4)"


def compare(sets: Sets) -> Iterator[Result]:
    from figment.evaluate.fidelity import frechet

    yield frechet(sets.generated, sets.real, sets.extractor, sets.seed)


MEASURE = compared(
    "frechet",
    "Fréchet distance between the kept images and all of task.real.train in the encoder's features of unit length, where it lies in"
    " [0, 4]: it does not compare with published ones, which are of raw features (`frechet_raw`, `fid`). It says what images look like, and ranks no set for training.",
    (Metric("frechet", "Fréchet distance", "plain", what=OF, lower_is_better=True),),
    compare,
    fewest=4,
    oracle=ORACLE,
)

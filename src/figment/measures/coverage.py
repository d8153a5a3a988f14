"""Do the generated images reach every kind of real image there is, and are they among them, to the recipe's encoder?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from figment.measures.compared import FLOORS, Sets, compared
from figment.measures.measure import Metric

if TYPE_CHECKING:
    from figment.types import Result


def compare(sets: Sets) -> Iterator[Result]:
    from figment.evaluate.coverage import coverage

    yield from coverage(sets.real, sets.generated, sets.extractor, sets.seed)


OF = (
    "{n_generated:,} kept and {n_real:,} real images, as many of each, k = {k}, in the features of {extractor}" + FLOORS
)

MEASURE = compared(
    "coverage",
    "Balls around images that reach to the k-th nearest of their own kind, k = 5, in the encoder's features, with as many images of"
    " either kind. Coverage: the share of task.real.train near which a kept image lies (Naeem et al. 2020). Of what is measured without a"
    " training it follows most closely what is learnt from the images. Density is high where they are all alike. Precision: the"
    " share of kept images near a real one; recall: of real images near a kept one (Kynkäänniemi et al. 2019, who take k = 3). All"
    " depend on n: compare equal ones.",
    (
        Metric("coverage", "coverage of the real images", what=OF),
        Metric("density", "density among the real images", "plain", what=OF),
        Metric("precision", "precision of the kept images", what=OF),
        Metric("recall", "recall of the real images", what=OF),
    ),
    compare,
    fewest=20,
    oracle="prdc 0.2 (real first, k = 5); precision and recall also torch-fidelity (generated first, k = 3, ties count as inside)",
)

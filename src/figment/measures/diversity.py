"""How different the kept images of one class are, to the recipe's encoder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from figment.measures.compared import Sets, compared
from figment.measures.measure import Metric

if TYPE_CHECKING:
    from figment.types import Result


def compare(sets: Sets) -> Iterator[Result]:
    from figment.evaluate.diversity import diversity

    yield diversity(sets.real, sets.generated, sets.labels, sets.class_names, sets.extractor, sets.seed)


MEASURE = compared(
    "diversity",
    "Within-class diversity (Fan et al. 2024): the standard deviation of the features inside a class, the mean over dimensions and classes."
    " With recognisability it says how a set trains: images that are recognised and all alike teach little.",
    (
        Metric(
            "diversity",
            "diversity within classes",
            "plain",
            what="in the features of {extractor}, where the real images are at {of_real:.3g}",
        ),
    ),
    compare,
    fewest=3,
    of_each_class=3,
    oracle="numpy's std (ddof 1), class by class",
)

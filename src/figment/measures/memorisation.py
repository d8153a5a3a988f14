"""Does the generator hand its training images back?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from figment.measures.compared import FLOORS, Sets, compared
from figment.measures.measure import Metric

if TYPE_CHECKING:
    from figment.types import Result


def compare(sets: Sets) -> Iterator[Result]:
    from figment.evaluate.memorisation import memorisation

    yield memorisation(sets.real, sets.generated, sets.extractor, sets.seed)


MEASURE = compared(
    "memorisation",
    "Share of the kept images that are nearer to an image of task.real.train than 999 of 1,000 of these are to one another: copies, where"
    " the generator has seen them. New photographs pass once in 1,000, and where there are few real ones oftener: `by_chance` says how often. The filter memorised takes such images out.",
    (
        Metric(
            "memorisation",
            "kept images that are copies of real training images",
            what="compared with {n_real:,}, in the features of {extractor}; {by_chance:.3g} by chance" + FLOORS,
            lower_is_better=True,
        ),
    ),
    compare,
    fewest=4,
    oracle="a twin written from its definition, and planted copies",
)

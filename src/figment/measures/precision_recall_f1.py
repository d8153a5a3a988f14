"""Do the kept images lie among the real ones of their own class, and reach them?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from figment.measures.compared import Sets, compared
from figment.measures.measure import Metric

if TYPE_CHECKING:
    from figment.types import Result


def compare(sets: Sets) -> Iterator[Result]:
    from figment.evaluate.coverage import within_classes

    yield within_classes(sets.real, sets.generated, sets.labels, sets.class_names, sets.extractor, sets.seed)


MEASURE = compared(
    "precision_recall_f1",
    "Precision and recall as under coverage, but among the images of each class, their harmonic mean, and the mean of that over classes."
    " What looks right with its labels mixed up is found out here.",
    (
        Metric(
            "precision_recall_f1",
            "F1 of precision and recall within classes",
            what="mean over classes, k = {k}, in the features of {extractor}",
        ),
    ),
    compare,
    fewest=7,
    of_each_class=7,
    oracle="precision and recall of coverage, class by class",
)

"""How often the right class is among the classifier's five first answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from figment.errors import FigmentError
from figment.measures.measure import Measure, Metric

if TYPE_CHECKING:
    from figment.measures.trial import Trial
    from figment.recipe import Recipe
    from figment.types import Images, Result

ANSWERS = 5


def check(recipe: Recipe, given: Mapping[str, Images]) -> None:
    n = len(recipe.task.class_names)
    if n <= ANSWERS:
        raise FigmentError(
            f"evaluate.measures: top5 asks for the right class among {ANSWERS} answers, and the task has {n} classes, so every"
            " answer would be right. Take top5 out of evaluate.measures, or out of the table's metrics."
        )


def take(trial: Trial) -> Iterator[Result]:
    yield trial.accuracy("top5/synthetic", trial.among_best(ANSWERS), images=len(trial.kept))


MEASURE = Measure(
    name="top5",
    explains="How often the right class is among the five first answers of the recipe's classifier: of CAS (Ravuri and Vinyals 2019;"
    " Azizi et al. 2023, Table 2), the second number. It needs six classes or more.",
    metrics=(Metric("top5/synthetic", "top-5", what="the right class among five answers"),),
    take=take,
    needs=frozenset({"test"}),
    check=check,
)

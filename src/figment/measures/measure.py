"""What a measure says of itself: its metrics, what it needs, and how its numbers are shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from figment.measures.trial import Trial
    from figment.recipe import Recipe
    from figment.types import Images, Result

#: share: in [0, 1], shown in per cent; points: a difference of shares; images a class; plain: any other number.
Unit = Literal["share", "points", "images a class", "plain"]
Need = Literal["test", "train", "few_shot", "untrained", "classes"]


@dataclass(frozen=True)
class Metric:
    """A number of a measure, and how tables, report, CSV and docs show it.

    ``name`` may end in ``<k>``, which stands for any whole number: ``top1/real_<k>``; ``title`` may hold it too. ``what`` is a
    few words beside the number, with ``{images}`` and others of ``Result.details`` filled in. ``shown`` is its place in a
    run's report: an ``arm`` among the classifiers, a ``row`` of its own, or ``elsewhere``, where a part of the page is drawn
    from it; a ``quiet`` row is left out on the terminal where it is 0. The paired difference of the arm ``top1/x`` is ``gain/x``.
    """

    name: str
    title: str
    unit: Unit = "share"
    what: str = ""
    lower_is_better: bool = False
    shown: Literal["arm", "row", "elsewhere"] = "row"
    quiet: bool = False

    @property
    def is_share(self) -> bool:
        """Whether it is shown in per cent, or in points of it."""
        return self.unit in ("share", "points")


@dataclass(frozen=True)
class Measure:
    """One thing to find out about a run. A file of this folder that defines ``MEASURE`` is all it takes to add one.

    Recipes ask for it by name in ``evaluate.measures``. One with settings of its own says in ``asked`` whether a recipe
    switches it on, and in ``settings`` by which changes of a recipe it measures certain metrics and no others. ``names`` gives
    the metrics of a recipe's run where these are not simply all of ``metrics``. ``check`` raises FigmentError, before anything
    is spent, for what would fail at the end; it is handed the real images as they were given, split -> images. ``trainings`` counts
    those it needs besides the recipe's own, where the recipe learns from so many images: for the forecast. ``oracle`` is whose numbers
    it gives on the same input, as the tests have it. ``encoder`` is the one that it looks with; None = the recipe's.
    """

    name: str
    explains: str
    metrics: tuple[Metric, ...]
    take: Callable[[Trial], Iterable[Result]]
    needs: frozenset[Need] = frozenset()
    asked: Callable[[Recipe], bool] | None = None
    settings: Callable[[set[str]], dict[str, Any]] | None = None
    names: Callable[[Recipe], list[str]] | None = None
    check: Callable[[Recipe, Mapping[str, Images]], None] = field(default=lambda recipe, given: None)
    trainings: Callable[[Recipe, int], int] = field(default=lambda recipe, images: 0)
    oracle: str = ""
    encoder: str | None = None


#: Metrics that had another name in version 0.1; read for one version.
OLD_METRICS = {"recognised": "recognisability"}

#: need -> what it is, for those who lack it
NEEDS: dict[Need, str] = {
    "test": "real test images: set task.real.test",
    "train": "real training images: set task.real.train",
    "few_shot": "few real images to learn from: give few_shot, such as few_shot: {shots: 16}",
    "classes": "generated images of the task's classes: give prompts that have them",
    "untrained": "a classifier that knows the classes before it is trained: a CLIP head does, a network does not",
}


def lacking(measure: Measure, recipe: Recipe) -> list[Need]:
    """The needs of a measure that a recipe does not meet."""
    there = {
        "test": "test" in recipe.task.real.places,
        "train": "train" in recipe.task.real.places,
        "few_shot": recipe.few_shot is not None,
        "classes": recipe.prompts.has_classes,
        "untrained": starts_untrained(recipe),
    }
    return [need for need in NEEDS if need in measure.needs and not there[need]]


def starts_untrained(recipe: Recipe) -> bool:
    """Whether the recipe's learner has a classifier before it has seen an image, as `figment.types.Learner.untrained` gives.

    Settings of learners that have none say so: ``starts_untrained = False``.
    """
    return bool(getattr(recipe.train, "starts_untrained", True))

"""Class by class, for two classes or a thousand: a row each, what is taken for what, and what is alike told once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from figment.report import charts
from figment.types import Result

MAX_CLASS_ROWS = 40  # of the charts with one row a class
EXTREMES = 10  # rows at either end, where there are more
MAX_PAIRS = 15
MAX_GROUPS = 6  # that are shown, each with a matrix of its own
LARGEST_GROUP = 8  # classes: its matrix is still read on a phone
TOGETHER = 2  # images, the least that makes two classes a pair: a single mistake is one of chance
FEW_VALUES = 6  # different ones, each of which is a line of its own


@dataclass(frozen=True)
class ClassRow:
    """A row of the class-by-class table; accuracies are shares of one."""

    name: str
    before: charts.Mark
    after: charts.Mark
    n: int | None = None  # test images

    @property
    def gain(self) -> float:
        return self.after.value - self.before.value


@dataclass(frozen=True)
class Group:
    """Classes that are taken for one another. ``confusion`` (k, k + 1) are the counts of theirs, in whose last column are all other
    classes; ``inside`` of their ``mistakes`` stay in the group."""

    classes: Sequence[int]
    confusion: np.ndarray
    inside: float
    mistakes: float


@dataclass(frozen=True)
class Alike:
    """Classes whose value lies from ``low`` to ``high``."""

    low: float
    high: float
    names: Sequence[str]


@dataclass(frozen=True)
class Listed:
    """A line of the list of all classes: accuracies as shares of one, and what a class is most often taken for, with its share.
    None where it was not measured."""

    name: str
    before: float | None = None
    after: float | None = None
    n: int | None = None  # test images
    taken_for: tuple[str, float] | None = None
    kept: int | None = None  # generated images

    @property
    def gain(self) -> float | None:
        return None if self.before is None or self.after is None else self.after - self.before


def class_rows(before: Result | None, after: Result) -> list[ClassRow]:
    """One row for each class that both measured, the largest gain first."""
    if before is None:
        return []
    names = [name for name in after.per_class if name in before.per_class]
    counts = {name: told["n"] for name, told in after.details.get("classes", {}).items()}
    rows = [
        ClassRow(name, _mark(before, name, "before", 33), _mark(after, name, "after", 67), counts.get(name))
        for name in names
    ]
    return sorted(rows, key=lambda row: -row.gain)


def _mark(result: Result, name: str, kind: str, y: float) -> charts.Mark:
    return charts.Mark(result.per_class[name], result.details.get("per_class_ci", {}).get(name), kind, y)


def confused_pairs(confusion: np.ndarray, most: int = MAX_PAIRS) -> list[tuple[int, int, float, float]]:
    """(true class, predicted class, count (a mean over seeds), share of the true class) of wrong answers, the most frequent first.

    ``confusion``: float (N, N), rows are true classes.
    """
    wrong = _wrong(confusion)
    most_first = np.argsort(-wrong, axis=None, kind="stable")[:most]
    pairs = zip(*(axis.tolist() for axis in np.unravel_index(most_first, wrong.shape)), strict=True)
    return [(i, j, float(wrong[i, j]), float(wrong[i, j] / confusion[i].sum())) for i, j in pairs if wrong[i, j]]


def _wrong(confusion: np.ndarray) -> np.ndarray:
    wrong = np.array(confusion, np.float64)
    np.fill_diagonal(wrong, 0)
    return wrong


def groups_of(confusion: np.ndarray) -> list[Group]:
    """The classes that are taken for one another, the group with the most mistakes among its own first.

    Pairs are joined from the most confused on, by the share of their images that are taken for the other, as long as a group has no more
    than ``LARGEST_GROUP`` classes: single linkage with a limit, without which a chain of neighbours would become one group.
    """
    wrong, counts = _wrong(confusion), np.asarray(confusion, np.float64).sum(1)
    mutual = np.triu(wrong + wrong.T)
    first, second = np.nonzero(mutual >= TOGETHER)
    share = mutual[first, second] / (counts[first] + counts[second])
    group = {c: [c] for c in range(len(wrong))}
    for k in np.argsort(-share, kind="stable").tolist():
        pair = group[int(first[k])], group[int(second[k])]
        one, other = sorted(pair, key=len, reverse=True)  # the smaller joins the larger
        if one is not other and len(one) + len(other) <= LARGEST_GROUP:
            one += other
            group |= dict.fromkeys(other, one)
    joined = {id(own): own for own in group.values() if len(own) > 1}
    groups = [_group(confusion, wrong, own) for own in joined.values()]
    return sorted(groups, key=lambda own: -own.inside)


def _group(confusion: np.ndarray, wrong: np.ndarray, classes: Sequence[int]) -> Group:
    rows = np.asarray(confusion, np.float64)[classes]
    own = rows[:, classes]
    elsewhere = rows.sum(1) - own.sum(1)
    inside = float(wrong[np.ix_(classes, classes)].sum())
    return Group(classes, np.column_stack([own, elsewhere]), inside, float(wrong[classes].sum()))


def together(groups: Sequence[Group], n_classes: int) -> list[int]:
    """All classes, those of a group side by side and the others after them in their order."""
    grouped = [c for own in groups for c in own.classes]
    return [*grouped, *sorted(set(range(n_classes)) - set(grouped))]


def alike(values: Mapping[str, float], highest_first: bool = True) -> list[Alike]:
    """Classes with about the same value, as one: those of each step between round numbers, or of each value where there are few."""
    different = sorted(set(values.values()))
    if len(different) <= FEW_VALUES:
        found = [Alike(v, v, [name for name, own in values.items() if own == v]) for v in different]
    else:
        ticks = charts.linear_axis(different, max_ticks=9).ticks
        place = np.clip(np.searchsorted(ticks, list(values.values()), "right") - 1, 0, len(ticks) - 2)
        names: dict[int, list[str]] = {}
        for name, k in zip(values, place.tolist(), strict=True):
            names.setdefault(k, []).append(name)
        found = [Alike(ticks[k], ticks[k + 1], names[k]) for k in sorted(names)]
    return found[::-1] if highest_first else found


def listed(
    class_names: Sequence[str],
    before: Result | None,
    after: Result | None,
    confusion: np.ndarray | None,
    kept: Mapping[str, int],
) -> list[Listed]:
    """A line for each class, the smallest gain first, or the least accuracy where there is nothing to compare with."""
    was, now = ({} if r is None else r.per_class for r in (before, after))
    n = {} if after is None else {name: told["n"] for name, told in after.details.get("classes", {}).items()}
    guesses = _most_taken_for(class_names, confusion)
    lines = [
        Listed(name, was.get(name), now.get(name), n.get(name), guess, kept.get(name))
        for name, guess in zip(class_names, guesses, strict=True)
    ]
    values = [line.after if before is None else line.gain for line in lines]
    least_first = np.argsort(
        [math.nan if v is None else v for v in values], kind="stable"
    )  # those not measured at the end
    return [lines[k] for k in least_first.tolist()]


def _most_taken_for(class_names: Sequence[str], confusion: np.ndarray | None) -> list[tuple[str, float] | None]:
    if confusion is None:
        return [None] * len(class_names)
    wrong, counts = _wrong(confusion), np.asarray(confusion).sum(1)
    guesses = wrong.argmax(1).tolist()
    return [(class_names[j], float(wrong[i, j] / counts[i])) if wrong[i, j] else None for i, j in enumerate(guesses)]

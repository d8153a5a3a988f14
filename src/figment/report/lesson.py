"""What a study teaches whose arms learn from generated images alone while its own run has a few real ones besides, from the disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from figment.errors import FigmentError
from figment.evaluate import holm
from figment.evaluate.kind import Difference, difference
from figment.evaluate.lesson import Ladder, Rung, lesson
from figment.evaluate.verdict import REAL_ONLY
from figment.report.answers import OWN, REAL_ALL, Judged, recipe_of
from figment.report.results import answers_of
from figment.report.text import shorten
from figment.shots import ALL
from figment.types import Result

NAME = 48  # columns of an arm's name
TEST = ("test", "folder", "test_share", "val_share", "split_seed")  # what decides which images are tested on


def lesson_of(recipe: Mapping[str, Any], results: Mapping[str, Result], judged: Sequence[Judged]) -> str:
    """Two sentences for a run with ``few_shot`` and arms without: the first of these is taken for the plain one, the last for the rich
    one. "" for other studies, and where runs have other test images. ``judged`` are all runs with a verdict, the study's own last."""
    if not recipe["few_shot"] or not judged or judged[-1].worth is not results.get("worth"):
        return ""
    words = holm.among([one.worth for one in judged])
    own, asked = judged[-1], _question(recipe)
    arms = [(one, word) for one, word in zip(judged[:-1], words, strict=False) if not recipe_of(one.folder)["few_shot"]]
    ends = arms if len(arms) < 2 else [arms[0], arms[-1]]
    same = all(_question(recipe_of(one.folder)) == asked and one.worth.n == own.worth.n for one, _ in ends)
    if not ends or not same:
        return ""
    try:
        step = _step(ends[0][0], ends[1][0]) if len(ends) == 2 else None
    except FigmentError:  # an arm's predictions are lost, which figment verify finds
        return ""
    every, few = results.get(REAL_ALL), recipe["few_shot"]
    return lesson(
        Ladder(
            [_rung(one, word) for one, word in ends],
            step,
            _rung(own, words[-1]),
            None if few["split"] or few["shots"] == ALL else few["shots"],
            float(own.worth.details["accuracies"][REAL_ONLY]),
            Difference.of(own.worth.details["differences"][REAL_ONLY]),
            None if every is None else every.value,
        )
    )


def _question(recipe: Mapping[str, Any]) -> tuple[Any, ...]:
    """What the accuracies of two runs must have in common to be compared."""
    real = recipe["task"]["real"]
    return recipe["task"]["class_names"], *(real.get(name) for name in TEST)


def _rung(one: Judged, word: str) -> Rung:
    return Rung(shorten(one.name, NAME), float(one.worth.details["accuracies"]["own"]), word)  # type: ignore[arg-type]


def _step(plain: Judged, rich: Judged) -> Difference:
    """By how much the second is better, for other sets of both recipes."""
    a, b = (answers_of(one.folder, OWN) for one in (plain, rich))
    sets = [next(iter(one.worth.details["differences"].values())) for one in (plain, rich)]
    draws = [int(one.worth.details["resamples"]) for one in (plain, rich)]
    assert a.right is not None and b.right is not None
    spread = [(float(d["set_se"]), n) for d, n in zip(sets, draws, strict=True)]
    return difference(b.right - a.right, sets=spread, groups=a.groups)

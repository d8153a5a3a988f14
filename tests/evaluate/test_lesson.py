"""What a study teaches, in two sentences: over the grid of outcomes they say what happened, and are English."""

from __future__ import annotations

import itertools
import re
from typing import get_args

import pytest

from english import check
from figment.evaluate.kind import Difference
from figment.evaluate.lesson import Ladder, Rung, lesson
from figment.evaluate.verdict import Word

OTHERS = [word for word in get_args(Word) if word not in ("helps", "cannot say")]
TRIPLES = {words for other in OTHERS for words in itertools.product(("helps", other), repeat=3)}


def of(value: float, half: float) -> Difference:
    return Difference(value, (value - half, value + half), 0.5, half / 2, half / 4, 0.05)


UP, NONE, DOWN = (of(value, 0.02) for value in (0.06, 0.004, -0.06))
NEAR = of(0.0004, 0.0002)  # surely better, by less than is shown


def ladder(step: Difference | None, added: Difference = UP, words=("helps", "helps", "helps"), **changes) -> Ladder:
    alone = [
        Rung("plain prompts", 0.5, words[0]),
        Rung("words and a filter", 0.5 + (step.value if step else 0), words[1]),
    ]
    own = {"shots": 16, "shots_alone": 0.6, "all_real": 0.8, **changes}
    return Ladder(alone if step else alone[:1], step, Rung("all", 0.6 + added.value, words[2]), added=added, **own)


def test_every_outcome_is_english_and_says_what_came_of_it():
    steps, seen = {UP: "gains", NEAR: "gains", NONE: "told apart", DOWN: "loses", None: "is right on"}, set()
    for step, added, words in itertools.product(steps, (UP, NEAR, NONE, DOWN), TRIPLES):
        said = lesson(ladder(step, added, words))
        alone, both = re.split(r"(?<=\.) (?=Alone)", said)
        check(alone, 360), check(both, 240)
        helping = [word == "helps" for word in words[: 2 if step else 1]]
        assert steps[step] in alone and ("neither beats" in alone or "does not beat" in alone) == (not any(helping))
        assert ("only “plain prompts”" in alone) == (helping == [True, False])
        assert ("only “words and a filter”" in alone) == (helping == [False, True])
        assert ("each of the two" in alone) == (helping == [True, True])
        assert [word for word in ("add", "cost", "nothing shows") if word in both] == [
            "add" if added in (UP, NEAR) else "cost" if added is DOWN else "nothing shows"
        ]
        assert ("not surely" in both) == (added in (UP, NEAR) and words[2] != "helps")
        seen.add(said)
    assert len(seen) > 300


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"shots": 1}, "Alone, 1 real image a class reaches 60.0 %, and generated ones add 6.0 points (4.0 to 8.0)"),
        ({"shots": None}, "Alone, the few real images reach 60.0 %"),
        ({"all_real": None}, "generated ones add 6.0 points (4.0 to 8.0)."),
        ({}, "; all real images reach 80.0 %."),
    ],
)
def test_what_is_said_of_the_real_images(changes, said):
    assert said in lesson(ladder(UP, **changes))
    check(lesson(ladder(UP, **changes)), 560)


@pytest.mark.parametrize("place", range(3))
def test_of_too_few_test_images_nothing_is_learnt(place):
    words = ["helps"] * 3
    words[place] = "cannot say"
    assert lesson(ladder(UP, words=words)) == ""


def test_the_first_sentence_in_full():
    assert lesson(ladder(DOWN, words=("helps", "no evidence", "helps"))).startswith(
        "Without real images “words and a filter” loses 6.0 points (4.0 to 8.0) against “plain prompts”, from 50.0 % to 44.0 %;"
        " only “plain prompts” beats every rival that uses none of its images' content. Alone, 16 real images a class reach"
    )

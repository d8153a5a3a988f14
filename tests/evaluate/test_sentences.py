"""Every sentence that a verdict, the exchange rate, the notes and the suggestions can be, over the grid of outcomes, is English."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator
from functools import cache

import pytest

from english import check
from figment.evaluate.content import Content
from figment.evaluate.exchange_rate import _text
from figment.evaluate.kind import Difference
from figment.evaluate.levers import MOST, Measured, levers
from figment.evaluate.sentences import RIVALS, sentence
from figment.evaluate.verdict import BIAS_REMOVED, CHANCE, PLACEBO, REAL_ONLY, REAL_REPEATED, UNTUNED, judge
from figment.report.beside import notes

CONTENTS = [
    Content(passed, p, accuracy, by_permutation)
    for passed, p, accuracy in ((True, 1e-4, 0.8), (True, 0.02, 1.0), (False, 0.4, 0.12), (False, 1.0, 0.0))
    for by_permutation in (True, False)
]
BASELINES = {
    "words": (UNTUNED, BIAS_REMOVED, PLACEBO),
    "few real images": (REAL_ONLY, REAL_REPEATED, BIAS_REMOVED, PLACEBO),
    "few real images of a network": (REAL_ONLY, REAL_REPEATED, PLACEBO),
    "network": (CHANCE, PLACEBO),
}
VALUES = (-1.0, -0.06, 0.0, 0.0004, 0.06, 1.0)
SIZES = (0, 1, 19, 20, 500, 1_000_000)


def of(value: float, half: float) -> Difference:
    low, high = max(-1.0, value - half), min(1.0, value + half)
    return Difference(value, (low, high), 0.001 if low > 0 else 0.5, half / 2, half / 4, min(1.0, abs(value) + 0.01))


@cache
def outcomes() -> list[tuple[str, dict[str, float], dict[str, Difference], Content, int, str]]:
    return list(_outcomes())


def _outcomes() -> Iterator[tuple[str, dict[str, float], dict[str, Difference], Content, int, str]]:
    """(word, accuracies, differences, content, n, sentence) of every outcome; own accuracies are 0, .8 and 1."""
    for rivals in BASELINES.values():
        several = VALUES if len(rivals) < 4 else (-0.06, 0.0, 0.0004, 0.06)
        for values in itertools.product(several, repeat=len(rivals)):
            for half, n, content in itertools.product((0.0002, 0.02), SIZES, CONTENTS[:: 1 if len(rivals) < 3 else 3]):
                differences = {name: of(v, half) for name, v in zip(rivals, values, strict=True)}
                own = 0.0 if min(values) == -1 else 1.0 if max(values) == 1 else 0.8
                accuracies = {
                    "own": own,
                    **{name: min(1.0, max(0.0, own - d.value)) for name, d in differences.items()},
                }
                judgement = judge(differences, content, n)
                yield (
                    judgement.word, accuracies, differences, content, n,
                    sentence(judgement, accuracies, differences, content, n),
                )  # fmt: skip


@pytest.mark.slow
def test_every_sentence_of_a_verdict():
    words = set()
    for word, _, differences, _, _, text in outcomes():
        check(text)
        assert text[0].isupper() and text.endswith("."), text
        words.add((word, next(iter(differences))))
        if word == "helps":
            assert text.count("(+") + text.count("(under") == len(differences)
        if REAL_ONLY in differences:
            assert "its bias" not in text.replace(RIVALS[BIAS_REMOVED], ""), text  # real images have none
    assert {word for word, _ in words} == {
        "helps", "hurts", "no evidence", "not told from a placebo", "bias removal does as much",
        "not told from bias removal", "cannot say",
    }  # fmt: skip


@pytest.mark.slow
def test_with_few_classes_a_chance_likeness_is_not_excluded():
    for word, _, _, content, _, text in outcomes():
        if word == "helps":
            assert ("chance likeness cannot be excluded" in text) != content.by_permutation


ENDS = (0.0, 1.0, 4.4, 9.96, 51.3, math.inf)


def test_every_sentence_of_an_exchange_rate():
    said = set()
    for shots in ([1, 4, 64], [1], [4, 16]):
        for value, low, high in itertools.product(ENDS, repeat=3):
            if low <= value <= high and all(
                end in (0, math.inf) or shots[0] <= end <= shots[-1] for end in (value, low, high)
            ):
                text = f"The images are worth {_text(value, (low, high), shots)}."
                check(text)
                said.add(text)
    assert "The images are worth about 51 real photographs a class (4.4 to more than 64)." in said
    assert "The images are worth less than 1 real photograph a class." in said
    assert "The images are worth more than 64 real photographs a class (51 at the least)." in said
    assert "The images are worth about 1 real photograph a class (less than 1 to 4.4)." in said


@pytest.mark.slow
def test_every_suggestion():
    """One or two after anything but helps and where something was measured; none after helps."""
    said, firsts = set(), set()
    kinds = itertools.cycle(["clip_head", "words_and_images", "network", "images_only"])
    scales, numbers, shares = (
        itertools.cycle(values)
        for values in (({"guidance_scale": 7.5}, {"guidance_scale": 2.0}, {}), (0, 1, 955, 3, 4), (0.2, 0.9))
    )
    for word, accuracies, differences, content, n, _ in outcomes():
        judgement = judge(differences, content, n)
        of_images = of(accuracies["own"] - content.accuracy, 0.01)
        facts = {
            "bias_removed": accuracies.get(BIAS_REMOVED),
            "kept": {"cat": 0.9, "a very long name of a class that nobody would ever give": next(shares)},
            "kind": next(kinds),
            "guidance": next(scales),
            "real_images": next(numbers),
            "untuned_guesses": accuracies["own"] == 0,
        }
        found = levers(
            Measured(judgement, differences, content, n, 10, accuracies["own"], content.accuracy, of_images, **facts)
        )
        assert len(found) <= MOST and (word != "helps" or not found)
        firsts |= {" ".join(text.split()[:2]) for text in found}
        for text in found:
            check(text)
            said.add(re.sub(r"[\d,.]+", "N", text))
    assert len(firsts) >= 7, firsts


DETAILS = {
    "claim": "other sets of this recipe", "commonest_class": 0.9,
    "differences": {UNTUNED: {"value": -0.02, "ci": [-0.03, -0.01], "p": 1.0, "image_se": 0.01, "set_se": 0.0, "discordance": 0.05}},
    "test_images": {"cat": 1, "dog": 900},
}  # fmt: skip


def over(value: float) -> dict:
    return {**DETAILS["differences"][UNTUNED], "value": value, "ci": [value - 0.01, value + 0.01]}


@pytest.mark.parametrize("n", [0, 1, 2, 5, 6, 40])
def test_every_note(n):
    worse = [{"name": f"class {'x' * (i % 2)}", "n": 1 + i, "value": -0.04, "ci": [-0.06, -0.0004]} for i in range(n)]
    told = {**DETAILS, "untuned_guesses": True, "mean_over_classes": over(0.04), "worse_classes": worse}
    found = list(notes(told, 2))
    for text in found:
        check(text, 700)
    named = [text for text in found if "surely worse" in text]
    assert len(named) == (n > 0) and ("more." in "".join(named)) == (n > 5)
    assert any("no better than guessing" in text for text in found) and any("chance likeness" in text for text in found)


@pytest.mark.parametrize("value, said", [(0.04, "rises"), (-0.04, ""), (0.0, "")])
def test_a_large_class_that_hides_the_others_is_told(value, said):
    found = " ".join(notes({**DETAILS, "mean_over_classes": over(value)}, 10))
    assert (f"The mean over classes {said}" in found) == bool(said)
    assert "The mean over classes" in found or not said
    assert "chance likeness" not in found and "surely worse" not in found

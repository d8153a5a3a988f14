"""Which word may be said."""

from __future__ import annotations

import pytest

from figment.evaluate.content import Content
from figment.evaluate.kind import Difference
from figment.evaluate.sentences import sentence
from figment.evaluate.verdict import BIAS_REMOVED, PLACEBO, REAL_ONLY, REAL_REPEATED, UNTUNED, judge

CONTENT = {True: Content(True, 1e-4, 0.8, True), False: Content(False, 0.4, 0.12, True)}


def of(value: float, half: float = 0.01) -> Difference:
    p = 0.001 if value - half > 0 else 0.5
    return Difference(value, (value - half, value + half), p, half / 2, half / 4, 0.05)


def judged(z: float, c: float, p: float, content: bool = True, n: int = 500) -> str:
    return judge({UNTUNED: of(z), BIAS_REMOVED: of(c), PLACEBO: of(p)}, CONTENT[content], n).word


@pytest.mark.parametrize(
    "case, word",
    [
        ((0.06, 0.02, 0.03), "helps"),
        ((0.06, 0.02, 0.03, False), "not told from a placebo"),  # digits, stripes
        ((0.06, 0.02, 0.00), "not told from a placebo"),  # shuffled labels from an unbiased start
        ((0.06, -0.02, 0.03), "bias removal does as much"),  # the demo's recipe as the paper has it
        ((0.06, 0.005, 0.03), "not told from bias removal"),  # a point may lie between them
        ((0.06, -0.02, 0.00), "not told from a placebo"),
        ((-0.06, -0.02, 0.03), "hurts"),
        ((0.001, 0.02, 0.03), "no evidence"),
        ((0.06, 0.02, 0.03, True, 12), "cannot say"),
    ],
)
def test_the_word(case, word):
    assert judged(*case) == word


def test_the_worth_is_the_smallest_difference_and_p_the_largest():
    found = judge({UNTUNED: of(0.06), BIAS_REMOVED: of(0.02), PLACEBO: of(0.03, 0.04)}, CONTENT[True], 500)
    assert found.worth == 0.02 and found.rival == BIAS_REMOVED
    assert found.ci == pytest.approx((-0.01, 0.03))
    assert found.p == 0.5 and found.word == "not told from a placebo"


def test_more_steps_alone_are_no_help():
    """What synthetic X-rays failed: better than the few real images, not better than those in as many steps."""
    parts = {REAL_ONLY: of(0.05), REAL_REPEATED: of(0.0), BIAS_REMOVED: of(0.05), PLACEBO: of(0.05)}
    assert judge(parts, CONTENT[True], 500).word == "no evidence"


def test_absence_of_evidence_is_not_said_to_be_evidence_of_absence():
    wide = {UNTUNED: of(0.06), BIAS_REMOVED: of(0.05), PLACEBO: of(0.03, 0.05)}
    accuracies = {"own": 0.8, UNTUNED: 0.74, BIAS_REMOVED: 0.75, PLACEBO: 0.77}
    text = sentence(judge(wide, CONTENT[True], 100), accuracies, wide, CONTENT[True], 100)
    assert "does as well" not in text and "smallest difference" in text
    narrow = {**wide, PLACEBO: of(0.0, 0.005)}
    assert "a placebo does as well" in sentence(
        judge(narrow, CONTENT[True], 9_000), accuracies, narrow, CONTENT[True], 9_000
    )

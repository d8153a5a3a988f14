"""What may be said: whether generated images help, judged against everything that could look like help.

A classifier that learnt from them has rivals that use none of their content. "Helps" needs all of them beaten and proof that the
images hold the classes. Each part is needed: shuffled labels beat the untuned classifier in every study, black images beat it
with its bias removed, and striped images beat their own placebo.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from figment.evaluate.content import Content
from figment.evaluate.kind import Difference

Word = Literal[
    "helps",
    "not told from a placebo",
    "bias removal does as much",
    "not told from bias removal",
    "hurts",
    "no evidence",
    "cannot say",
    "helps alone, not among the arms",
]
CANNOT_SAY: Word = "cannot say"
ALONE: Word = "helps alone, not among the arms"  # of one of several arms, by `figment.evaluate.holm`
#: The rivals, by their metric.
UNTUNED, BIAS_REMOVED, PLACEBO = "top1/zero_shot", "top1/bias_removed", "top1/placebo"
REAL_ONLY, REAL_REPEATED, CHANCE = "top1/real_only", "top1/real_repeated", "chance"
FEWEST = 20  # test images, below which nothing can be said
A_POINT = 0.01


@dataclass(frozen=True)
class Judgement:
    """``worth`` is the smallest difference to a rival, with ``ci`` from the smallest lower to the smallest upper end: biased low
    where two rivals are near each other. ``p`` is the largest of the parts'. ``rival`` is the one it is the difference to."""

    word: Word
    worth: float
    ci: tuple[float, float]
    p: float
    rival: str


def judge(differences: Mapping[str, Difference], content: Content, n: int) -> Judgement:
    """The word that ``differences`` (rival -> by how much the recipe is better) and the content gate allow.

    The first rival is the baseline: the untuned classifier, or the one that learnt from real images alone. An intersection of
    tests at 2.5 % each (or at the level of this look at the test images) has that size without any correction.

    Args:
        differences: the baseline first. `PLACEBO` must be there.
        n: test images.
    """
    baseline = next(iter(differences.values()))
    rival = min(differences, key=lambda name: differences[name].value)
    low, high = (min(d.ci[end] for d in differences.values()) for end in (0, 1))
    p = max([content.p, *(d.p for d in differences.values())])
    beaten = {name: d.ci[0] > 0 for name, d in differences.items()}
    if n < FEWEST:
        word: Word = "cannot say"
    elif all(beaten.values()) and content.passed:
        word = "helps"
    elif baseline.ci[1] < 0:
        word = "hurts"
    elif baseline.ci[0] <= 0 or not beaten.get(REAL_REPEATED, True):
        word = "no evidence"
    elif not (beaten[PLACEBO] and content.passed):
        word = "not told from a placebo"
    else:  # a point or more may still lie between them: then nothing is said of how much bias removal does
        does_as_much = differences[BIAS_REMOVED].ci[1] < A_POINT
        word = "bias removal does as much" if does_as_much else "not told from bias removal"
    return Judgement(word, differences[rival].value, (low, high), p, rival)


def placebo_does_as_well(placebo: Difference, content: Content) -> bool:
    """Whether a placebo may be said to do as well, and not only that it could not be told apart."""
    return placebo.ci[1] < A_POINT or not content.passed

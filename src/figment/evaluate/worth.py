"""What a set of images from elsewhere is worth, in a word: the verdicts on it, unless it holds the very images that it is judged by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from figment.evaluate.holm import holm
from figment.evaluate.kind import Difference, difference
from figment.types import Result

TEST_INSIDE, COPIES, STANDS_IN = "holds test images", "copies", "stands in, adds nothing"
A_FEW = 0.01  # share of the test images that may be among a set's own before its numbers say nothing
MOSTLY = 0.5  # share of copies of training images, for sure, from which a set is nothing else
SURELY = 0.001  # p of so many near copies among different photographs, as the leak report has it
LEVEL = 0.05  # of all comparisons of sets together, on two sides


@dataclass(frozen=True)
class Answer:
    """A word, and a sentence with the numbers that it rests on."""

    word: str
    sentence: str


def answer(
    beside: str,
    alone: str,
    told: Mapping[str, str],
    results: Mapping[str, Result],
    over_augmented: Difference | None = None,
) -> Answer:
    """The answer for one set.

    Args:
        beside: the verdict's word on real and synthetic images together against the real ones alone; ``""`` where there are no real
            training images.
        alone: that on the synthetic images alone.
        told: the sentences of both verdicts, by ``beside`` and ``alone``.
        results: with ``leaks/generated`` and ``memorisation``, where they were measured.
        over_augmented: by how much real and synthetic images are better than the real ones with more augmentation.
    """
    leak, copies = results.get("leaks/generated"), results.get("memorisation")
    if leak is not None and (leak.details["p"] < SURELY or leak.details["exact"] > A_FEW * leak.n):
        said = (
            f"The numbers say nothing: of {leak.n:,} test images {leak.details['exact']:,} are among its images, and {leak.details['near']:,}"
            f" nearly so, where about {leak.details['by_chance']:.1f} would be by chance."
        )
        return Answer(TEST_INSIDE, said)
    if copies is not None and copies.ci[0] - copies.details["by_chance"] > MOSTLY:
        said = (
            f"{100 * copies.value:.0f} % of its images are copies of your {copies.details['n_real']:,} training photographs, where"
            f" {100 * copies.details['by_chance']:.2g} % would be by chance: what it teaches, you have already."
        )
        return Answer(COPIES, f"{said} {_also(beside, told)}".strip())
    if not beside:
        return Answer(alone, told["alone"])
    if alone == "helps" and beside not in ("helps", "hurts"):
        return Answer(
            STANDS_IN,
            "Alone it teaches the classes; beside your photographs nothing shows that it adds to them. Alone: "
            f"{told['alone']} Beside them ({beside}): {told['beside']}",
        )
    if beside == "helps" and over_augmented is not None and over_augmented.ci[0] <= 0:
        free = " But augmenting your photographs more, which costs nothing, is not told from it."
    else:
        free = ""
    return Answer(beside, f"{told['beside']}{free} Alone ({alone}): {told['alone']}")


def _also(beside: str, told: Mapping[str, str]) -> str:
    return f"Beside them ({beside}): {told['beside']}" if beside else ""


def some_copies(results: Mapping[str, Result]) -> bool:
    """Whether more images are near to training photographs than chance would have."""
    found = results.get("memorisation")
    return found is not None and found.details["p"] < SURELY


@dataclass(frozen=True)
class Pair:
    """By how much the second of two sets is better than the first, on the same test images. ``holds`` after Holm's correction."""

    first: str
    second: str
    difference: Difference
    holds: bool

    def told(self) -> dict[str, Any]:
        return {"first": self.first, "second": self.second, "holds": self.holds, **self.difference.told()}


def pairs(right: Mapping[str, np.ndarray], groups: np.ndarray | None = None) -> list[Pair]:
    """Every two sets compared, about these very sets: other images from the same sources may differ otherwise.

    Args:
        right: name -> how often each test image was right, float (n,), the same images everywhere.
        groups: int (n,), which burst, video or patient a test image is of.
    """
    named: Sequence[tuple[str, str]] = list(combinations(right, 2))
    found = [difference(right[b] - right[a], groups=groups) for a, b in named]
    holds = holm([2 * min(d.p, 1 - d.p) for d in found], LEVEL) if found else []
    return [Pair(a, b, d, ok) for (a, b), d, ok in zip(named, found, holds, strict=True)]

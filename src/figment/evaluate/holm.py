"""Several arms, each with a verdict of its own: one of ten that do nothing "helps" more often than one of one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from figment.evaluate.kind import LEVEL, Difference, interval
from figment.evaluate.verdict import ALONE
from figment.types import Result


def holm(p: Sequence[float], level: float = LEVEL) -> list[bool]:
    """Which of several tests hold when all are asked for at once, by their p: Holm (1979).

    The smallest p must be at most ``level`` over their number, the next over one less, and so on until one is not. Some false one
    among those that hold then has a chance of ``level`` or less, whatever they have in common.
    """
    order = np.argsort(p, kind="stable")
    below = np.asarray(p, np.float64)[order] <= level / np.arange(len(p), 0, -1)
    holds = np.empty(len(p), bool)
    holds[order] = np.logical_and.accumulate(below)
    return holds.tolist()


def among(judged: Sequence[Result]) -> list[str]:
    """The verdict on each of several arms, from the ``worth`` of each: the word it has alone, but for one that helps alone only."""
    levels = [level_of(r) for r in judged]  # each is that of the arm's own look; 0 where nothing was left for it
    shares = [float(r.details["p"]) / level if level else math.inf for r, level in zip(judged, levels, strict=True)]
    words = [str(r.details["verdict"]) for r in judged]
    return [
        ALONE if word == "helps" and not holds else word for word, holds in zip(words, holm(shares, 1.0), strict=True)
    ]


def best_of(judged: Sequence[Result]) -> int | None:
    """The place of the arm of most ``worth``; None where there are not several, or an older figment measured one."""
    told = all("centre" in d for r in judged for d in r.details["differences"].values())
    return int(np.argmax([r.value for r in judged])) if len(judged) > 1 and told else None


def as_best(worth: Result, n: int) -> Result:
    """The ``worth`` of the best of ``n`` arms, with an interval that holds although it was chosen: at 1 - .05 / n."""
    differences = [Difference.of(d) for d in worth.details["differences"].values()]
    ends = [interval(d.centre, d.se, d.freedom, level_of(worth) / n) for d in differences]
    return replace(worth, ci=(min(low for low, _ in ends), min(high for _, high in ends)))


def level_of(worth: Result) -> float:
    """The one-sided level of a verdict: that of its look at the test images."""
    return float(worth.details["look"]["level"]) if "look" in worth.details else LEVEL

"""What a chain of filters leaves, and why the rest went."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from figment.types import Filter, Images, Verdict


@dataclass(frozen=True)
class Step:
    """One filter's part: the positions of the images that reached it, and what it said of each."""

    filter: str
    index: np.ndarray  # int64 (n,)
    verdicts: list[Verdict]  # (n,)


@dataclass(frozen=True)
class Selection:
    """Verdicts on one set of images."""

    images: Images
    keep: np.ndarray  # bool (N,)
    reasons: list[str]  # (N,), empty where kept
    steps: list[Step]  # in the order of the filters

    @property
    def kept(self) -> Images:
        return self.images.take(np.flatnonzero(self.keep))

    def counts(self) -> dict[str, int]:
        """How many were rejected for each reason, most frequent first."""
        return dict(Counter(r for r in self.reasons if r).most_common())


def select(images: Images, filters: Sequence[Filter]) -> Selection:
    """Run ``filters`` in order, each on what those before it kept. Nothing is deleted; no filters keep everything."""
    keep = np.ones(len(images), bool)
    reasons = [""] * len(images)
    steps = []
    for filter in filters:
        index = np.flatnonzero(keep)
        verdicts = filter(images.take(index)) if len(index) else []
        steps.append(Step(filter.name, index, verdicts))
        for i, verdict in zip(index, verdicts, strict=True):
            keep[i] = verdict.keep
            reasons[i] = "" if verdict.keep else verdict.reason
    return Selection(images, keep, reasons, steps)

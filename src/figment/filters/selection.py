"""What a chain of filters leaves, and why the rest went."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from figment.types import Filter, Pictures, Verdict


@dataclass(frozen=True)
class Selection:
    """Verdicts on one set of pictures. ``by_filter`` maps each filter to what it said of the pictures that reached it."""

    pictures: Pictures
    keep: np.ndarray  # bool (N,)
    reasons: list[str]  # (N,), empty where kept
    by_filter: dict[str, tuple[np.ndarray, list[Verdict]]]  # name -> (indices it saw, its verdicts)

    @property
    def kept(self) -> Pictures:
        return self.pictures.take(np.flatnonzero(self.keep))

    def counts(self) -> dict[str, int]:
        """How many were rejected for each reason, most frequent first."""
        return dict(Counter(r for r in self.reasons if r).most_common())


def select(pictures: Pictures, filters: Sequence[Filter]) -> Selection:
    """Run ``filters`` in order, each on what those before it kept. Nothing is deleted; no filters keep everything."""
    keep = np.ones(len(pictures), bool)
    reasons = [""] * len(pictures)
    by_filter: dict[str, tuple[np.ndarray, list[Verdict]]] = {}
    for filter in filters:
        index = np.flatnonzero(keep)
        verdicts = filter(pictures.take(index)) if len(index) else []
        by_filter[filter.name] = (index, verdicts)
        for i, verdict in zip(index, verdicts, strict=True):
            keep[i] = verdict.keep
            reasons[i] = verdict.reason
    return Selection(pictures, keep, reasons, by_filter)

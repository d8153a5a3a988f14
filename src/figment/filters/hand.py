"""A person as a filter: what was rejected on the curation page. It comes last, so that no other filter's verdict depends on it."""

from __future__ import annotations

from figment.images_in.by_hand import FILTER, REASON, REJECTED, ByHand
from figment.types import Images, Verdict


class HandFilter:
    """Rejects what a person rejected. What an earlier filter rejected it never sees, and so cannot bring back."""

    name = FILTER

    def __init__(self, by_hand: ByHand):
        self.by_hand = by_hand

    def __call__(self, images: Images) -> list[Verdict]:
        rejected = self.by_hand.of(images) == REJECTED
        return [Verdict(False, REASON) if out else Verdict(True) for out in rejected.tolist()]

"""Near-duplicates within the set: the first of them stays."""

from __future__ import annotations

import numpy as np

from figment.encoders import Features
from figment.neighbours import BLOCK, nearest, slices
from figment.types import Images, Verdict


class DuplicateFilter:
    """Goes through each class in order and rejects what is nearly the same as something it has kept.

    Nearly the same: a cosine strictly above ``threshold``, or equal bytes whatever the threshold (so 1 means exact copies
    only). Cosines depend on the encoder: see what share goes before you trust a value.
    """

    name = "duplicate"

    def __init__(self, features: Features, threshold: float = 0.99):
        self.features, self.threshold = features, threshold

    def __call__(self, images: Images) -> list[Verdict]:
        x, digests = self.features(images), images.digests
        verdicts = [Verdict(False, "duplicate: exact copy of an earlier one", {"duplicate_cosine": 1.0})] * len(x)
        for label in np.unique(images.labels):
            first = {digests[i]: i for i in np.flatnonzero(images.labels == label)[::-1]}  # digest -> its first place
            own = np.array(sorted(first.values()))
            for i, kept, cosine in zip(own, *keep_first(x[own], self.threshold), strict=True):
                scores = {"duplicate_cosine": float(cosine)} if np.isfinite(cosine) else {}
                verdicts[i] = Verdict(bool(kept), "" if kept else "duplicate: near copy of an earlier one", scores)
        return verdicts


def keep_first(features: np.ndarray, threshold: float, block: int = BLOCK) -> tuple[np.ndarray, np.ndarray]:
    """Go through unit features ``float32 (n, D)`` in order; keep what has a cosine above ``threshold`` to none kept before.

    Returns which are kept, ``bool (n,)``, and the cosine of each to the nearest one kept before it, ``float32 (n,)``, -inf
    for the first. The cost is at most n * n / 2 * D multiplications.
    """
    cosine = np.full(len(features), -np.inf, np.float32)
    kept, n = np.empty_like(features), 0
    for rows in slices(len(features), block):
        own, found = features[rows], cosine[rows]
        found[:] = nearest(own, kept[:n], block=block)[0]
        within = np.minimum(own @ own.T, 1)  # (b, b)
        for i in range(len(own)):
            if found[i] <= threshold:
                np.maximum(found[i + 1 :], within[i, i + 1 :], out=found[i + 1 :])
        stay = own[found <= threshold]
        kept[n : n + len(stay)] = stay
        n += len(stay)
    return cosine <= threshold, cosine

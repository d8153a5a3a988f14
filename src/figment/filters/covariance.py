"""The covariance filter: keep the part of each class whose features vary as those of the real images do.

Covariance matching (2510.08123, ICLR 2026): where a classifier is to learn from a subset of the generated images, the subset whose
covariance is nearest to the real one's serves best, while a shift of the mean does no harm. The subset is grown greedily.
"""

from __future__ import annotations

import numpy as np

from figment.encoders import Features
from figment.errors import FigmentError
from figment.types import Images, Verdict

FEWEST = 2  # real images of a class: fewer have no covariance


class CovarianceFilter:
    """Keeps the share ``keep`` of each class, rounded up, that `matching_order` takes first.

    The covariance to match is that of the real images ``train`` of the same class, in ``features``. A larger share keeps the same
    images and more. Raises FigmentError for a class with fewer than two real images.
    """

    name = "covariance"

    def __init__(self, features: Features, train: Images, keep: float = 0.5):
        if not 0 < keep <= 1:
            raise ValueError("keep is a share of each class, above 0 and at most 1")
        self.features, self.train, self.keep = features, train, keep

    def __call__(self, images: Images) -> list[Verdict]:
        x, real = self.features(images), self.features(self.train, "encode real train")
        rank, kept = np.zeros(len(x)), np.zeros(len(x), bool)
        for label in np.unique(images.labels):
            own, like = np.flatnonzero(images.labels == label), real[self.train.labels == label]
            if len(like) < FEWEST:
                raise FigmentError(
                    f"The filter 'covariance' compares with {FEWEST} real training images or more of each class, and one has"
                    f" {len(like)}. Add some to task.real.train (or few_shot.shots), or take the filter out."
                )
            n = int(np.ceil(round(self.keep * len(own), 6)))  # 0.28 * 25 is 7.000000000000001
            order = own[matching_order(x[own], like, n)]
            rank[own] = n + 1
            rank[order], kept[order] = np.arange(1, n + 1), True
        reason = "covariance: its class varies more like the real one without it"
        return [
            Verdict(bool(k), "" if k else reason, {"covariance_rank": float(r)})
            for k, r in zip(kept, rank, strict=True)
        ]


def matching_order(features: np.ndarray, real: np.ndarray, most: int) -> np.ndarray:
    """The first ``most`` of the greedy order of ``features`` (n, D), int (most,): each next one brings the covariance of those so far nearest to that of
    ``real`` (m, D), in Frobenius' norm. Covariances are about their own mean, and divided by their number.

    One image has no covariance, so the order starts with the one nearest to the mean of ``features``; of equals the earlier is taken.
    With x added to k images of covariance C and mean m, ``C' = a C + b d d'`` where ``d = x - m``, ``a = k/(k+1)`` and
    ``b = k/(k+1)^2``; of ``|C' - T|^2`` only ``2b d'(aC - T)d + b^2 |d|^4`` depends on x. All of it follows from inner products and
    from sums over the chosen ones, so that a step is one product of a (k, n) matrix. ``most`` is 1 to n.
    """
    x = np.asarray(features, np.float64)
    x = x - x.mean(0)
    centred = np.asarray(real, np.float64) - np.mean(real, 0, dtype=np.float64)
    onto = x @ centred.T / np.sqrt(len(centred))  # (n, m): x' T x is the square of its length
    gram, lengths = x @ x.T, np.square(onto).sum(1)
    with_chosen = np.empty((most, len(x)))  # (k, n): x's of each chosen s
    # Over the chosen s: of x's, of (x's)^2, and of x's times the sum of s's'.
    sums, squares, cross = np.zeros((3, len(x)))
    onto_sum = np.zeros(onto.shape[1])
    left, order = np.ones(len(x), bool), np.empty(most, np.int64)
    cost = np.diag(gram)
    for k in range(1, most + 1):
        order[k - 1] = new = int(np.argmin(np.where(left, cost, np.inf)))
        left[new] = False
        own = with_chosen[k - 1] = gram[new]
        sums += own
        squares += own**2
        cross += own[order[: k - 1]] @ with_chosen[: k - 1] + own * sums[new]
        onto_sum += onto[new]
        a, b, chosen = k / (k + 1), k / (k + 1) ** 2, order[:k]
        to_mean, of_mean = sums / k, sums[chosen] / k  # x'm and s'm
        square = of_mean.mean()  # m'm
        both = cross / k**2 - to_mean * square
        spread = squares / k - to_mean**2 - 2 * both + of_mean.var()  # d'Cd
        onto_mean = onto_sum / k
        wanted = lengths - 2 * (onto @ onto_mean) + onto_mean @ onto_mean  # d'Td
        length = np.diag(gram) - 2 * to_mean + square  # |d|^2
        cost = 2 * b * (a * spread - wanted) + (b * length) ** 2
    return order

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
    ``b = k/(k+1)^2``; of ``|C' - T|^2`` only ``2b d'(aC - T)d + b^2 |d|^4`` depends on x. All of it follows from inner products, so a
    step takes O(nk), whatever D is. ``most`` is 1 to n.
    """
    x = np.asarray(features, np.float64)
    x = x - x.mean(0)
    centred = np.asarray(real, np.float64) - np.mean(real, 0, dtype=np.float64)
    onto = x @ centred.T / np.sqrt(len(centred))  # (n, m): x' T x is the square of its length
    gram, target = x @ x.T, onto @ onto.T  # (n, n)
    chosen = [int(np.argmin(np.diag(gram)))]
    left = np.ones(len(x), bool)
    left[chosen] = False
    for k in range(1, most):
        a, b = k / (k + 1), k / (k + 1) ** 2
        among = gram[:, chosen]  # (n, k)
        along = among.mean(1)  # (n,): x'm
        to_mean = among - along[:, None] - along[chosen] + along[chosen].mean()  # (n, k): d'(s - m) of each chosen s
        own = np.square(to_mean).mean(1)  # d'Cd
        wanted = _about_the_mean(target, chosen)  # d'Td
        length = _about_the_mean(gram, chosen)  # |d|^2
        cost = np.where(left, 2 * b * (a * own - wanted) + (b * length) ** 2, np.inf)
        chosen.append(int(np.argmin(cost)))
        left[chosen[-1]] = False
    return np.array(chosen)


def _about_the_mean(form: np.ndarray, chosen: list[int]) -> np.ndarray:
    """``d' M d`` of each x, (n,), with d from the mean of the chosen ones: ``form`` (n, n) is ``x' M y``."""
    of_mean = form[:, chosen].mean(1)
    return np.diag(form) - 2 * of_mean + of_mean[chosen].mean()

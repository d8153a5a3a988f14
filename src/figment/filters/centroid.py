"""The centroid filter: drop the images farthest from the centre of their class, or the most typical ones.

HistoGAN keeps the half nearest the centroid. The other end has its advocates too: where data is plentiful, what is most typical
teaches least (Sorscher et al. 2022, 2206.14486; ALIA drops what a classifier is already sure of).
"""

from __future__ import annotations

import numpy as np

from figment.encoders import Features
from figment.errors import FigmentError
from figment.types import Images, Verdict


class CentroidFilter:
    """Ranks the images of each class by ``1 - cosine(feature, centroid)`` and drops a share at either end.

    The centroid is the mean of the class's unit features, normalised: of the images themselves, or of the real images
    ``train`` where they are given. ``drop_farthest`` and ``drop_nearest`` are shares of a class, rounded down; of equally far
    images the later are taken for the farther. Raises FigmentError for a class without real images.
    """

    name = "centroid"

    def __init__(
        self,
        features: Features,
        drop_farthest: float = 0.2,
        drop_nearest: float = 0.0,
        train: Images | None = None,
    ):
        if drop_farthest < 0 or drop_nearest < 0 or drop_farthest + drop_nearest >= 1:
            raise ValueError("drop_farthest and drop_nearest are shares from 0; together they must be below 1")
        self.features, self.train = features, train
        self.drop_farthest, self.drop_nearest = drop_farthest, drop_nearest

    def __call__(self, images: Images) -> list[Verdict]:
        x = self.features(images)
        reference, labels = x, images.labels
        if self.train is not None:
            reference, labels = self.features(self.train, "encode real train"), self.train.labels
        distance = np.zeros(len(x))
        reasons = np.full(len(x), "", object)
        for label in np.unique(images.labels):
            own = np.flatnonzero(images.labels == label)
            distance[own] = 1 - x[own] @ centroid_of(reference[labels == label])
            order = own[np.argsort(distance[own], kind="stable")]
            reasons[order[len(own) - _share(self.drop_farthest, len(own)) :]] = "centroid: far from its class's centre"
            reasons[order[: _share(self.drop_nearest, len(own))]] = "centroid: too close to its class's centre"
        return [
            Verdict(not reason, reason, {"centroid_distance": float(d)})
            for reason, d in zip(reasons, distance, strict=True)
        ]


def centroid_of(features: np.ndarray) -> np.ndarray:
    """The mean direction ``(D,)`` of unit features ``(n, D)``; zero where they cancel out."""
    if not len(features):
        raise FigmentError(
            "The filter 'centroid' measures distances to real training images, and a class has none. "
            "Add some to task.real.train, or set the filter's of: generated."
        )
    mean = features.mean(0, dtype=np.float64)
    return mean / max(np.linalg.norm(mean), 1e-12)


def _share(share: float, n: int) -> int:
    return int(round(share * n, 6))  # 0.29 * 100 is 28.999999999999996

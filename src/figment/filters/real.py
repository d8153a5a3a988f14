"""The real filter: drop an image that lies close to real images of other classes than its own.

He et al. 2023, section 3.3 ("RF"). The paper gives no threshold and no code; what counts as close is therefore taken from the
real images themselves.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from figment.encoders import Features
from figment.errors import FigmentError
from figment.neighbours import nearest
from figment.types import Images, Verdict


class RealFilter:
    """Rejects an image whose cosine to the nearest real image of another class is above a limit, strictly.

    The limit is the ``quantile`` of the same cosine among the real images: of each to the nearest of another class. At 0.95
    an image goes when it lies closer to another class than 95 % of the photographs do, so a generator as good as a camera
    would lose 5 %, at any number of photographs and with any encoder. ``threshold``, a cosine, replaces it.

    Raises FigmentError where the real images are all of one class.
    """

    name = "real"

    def __init__(self, features: Features, train: Images, quantile: float = 0.95, threshold: float | None = None):
        if len(np.unique(train.labels)) < 2:
            raise FigmentError(
                "The filter 'real' compares with real training images of other classes, and they are all of one class. "
                "Add images of the others to task.real.train, or take the filter out."
            )
        self.features, self.train, self.quantile, self.threshold = features, train, quantile, threshold

    @cached_property
    def limit(self) -> float:
        """The cosine above which an image is too close to another class."""
        if self.threshold is not None:
            return self.threshold
        return float(np.quantile(self._nearest_of_another_class(self.train).astype(np.float64), self.quantile))

    def __call__(self, images: Images) -> list[Verdict]:
        cosine = self._nearest_of_another_class(images)
        return [
            Verdict(
                bool(kept),
                "" if kept else "real: close to a real image of another class",
                {"other_class_cosine": float(x)},
            )
            for kept, x in zip(cosine <= self.limit, cosine, strict=True)
        ]

    def _nearest_of_another_class(self, images: Images) -> np.ndarray:
        labels = (images.labels, self.train.labels)
        return nearest(self.features(images), self.features(self.train, "encode real train"), labels)[0]

"""Images of nothing: black frames (what half precision and safety checkers leave behind), constant ones."""

from __future__ import annotations

import numpy as np

from figment.types import Images, Verdict

BATCH = 256


class BlankFilter:
    """Rejects an image whose grey levels hardly differ.

    ``minimum_std`` is in grey levels [0, 255]: the standard deviation over all pixels and channels must exceed it;
    ``black_level`` is the mean below which a blank image is called black. Images with NaN pixels never get
    here: the generator reports them as failed.
    """

    name = "blank"

    def __init__(self, minimum_std: float = 2.0, black_level: float = 8.0):
        self.minimum_std = minimum_std
        self.black_level = black_level

    def __call__(self, images: Images) -> list[Verdict]:
        verdicts = []
        for start in range(0, len(images), BATCH):
            index = range(start, min(start + BATCH, len(images)))
            verdicts += [self._judge(image) for image in images.load(index)]
        return verdicts

    def _judge(self, image: np.ndarray) -> Verdict:
        mean, std = float(image.mean()), float(image.std())
        if std > self.minimum_std:
            return Verdict(True, scores={"std": std})
        return Verdict(False, "black" if mean < self.black_level else "constant", {"std": std})

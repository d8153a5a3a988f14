"""Copies of real images: what the generator remembers is not new data, and a copy of a test image spoils the test.

A generator that was tuned on the training images, or started from them, can hand them back. One that was trained on the web
may have seen the test images.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import cached_property
from typing import Literal

import numpy as np

from figment.encoders import Features
from figment.errors import FigmentError
from figment.images_in import pixel_hash
from figment.neighbours import limit_of, nearest, nearest_of_own, slices
from figment.types import Images, Verdict

log = logging.getLogger(__name__)

BATCH = 256
SAME = 0.99  # equal pixels have equal features, up to the rounding of half precision


class MemorisedFilter:
    """Rejects copies of the real images in ``train``, and of those in ``test``: of equal pixels, or too near.

    Too near is a cosine to the nearest real image strictly above a limit: the ``quantile`` of what new photographs reach.
    Against ``train``, that is how near each training image comes to the others (those of a class with one image alone
    do not count: they have nobody to be near to); against ``test``, how near each training image comes to the test
    images. At 0.99 a generator as good as a camera would lose 1 % to each. ``threshold``, a cosine, replaces both.

    ``on_test`` says what becomes of copies of test images: "drop" them, "report" and keep them, or "off", look at no test
    image. Test images have this one use here: their labels are not read, and they can take images out, never
    choose any. Raises FigmentError where there is nothing to compare with, or nothing to take a limit from.
    """

    name = "memorised"

    def __init__(
        self,
        features: Features,
        train: Images | None,
        test: Images | None = None,
        quantile: float = 0.99,
        threshold: float | None = None,
        on_test: Literal["drop", "report", "off"] = "drop",
    ):
        given = {"train": train, "test": None if on_test == "off" else test}
        self.real = {split: images for split, images in given.items() if images is not None}
        self.features, self.quantile, self.threshold, self.on_test = features, quantile, threshold, on_test
        if not self.real:
            raise FigmentError(
                "The filter 'memorised' looks for copies of real images, and there are none. "
                "Set task.real.train, or take the filter out."
            )
        if threshold is None and not len(self._with_company()):
            raise FigmentError(
                "The filter 'memorised' learns from the real training images how alike different photographs are, and "
                "that takes two or more of a class. Add some to task.real.train, or give the filter's threshold, a cosine."
            )

    def _with_company(self) -> np.ndarray:
        """The training images whose class has others, ``int64 (n,)``."""
        labels = self.real["train"].labels if "train" in self.real else np.zeros(0, np.int64)
        return np.flatnonzero(np.bincount(labels)[labels] > 1)

    @cached_property
    def limits(self) -> dict[str, float]:
        """Split -> the cosine to one of its images above which an image is a copy."""
        if self.threshold is not None:
            return dict.fromkeys(self.real, self.threshold)
        x, own = self._features_of("train"), self._with_company()
        near = {"train": nearest_of_own(x, own)}
        if "test" in self.real:
            near["test"] = nearest(x, self._features_of("test"))[0]
        return {split: limit_of(cosine, self.quantile) for split, cosine in near.items()}

    def _features_of(self, split: str) -> np.ndarray:
        return self.features(self.real[split], f"encode real {split}")

    def __call__(self, images: Images) -> list[Verdict]:
        x = self.features(images)
        cosine = {split: nearest(x, self._features_of(split))[0] for split in self.real}  # (N,) each
        copy = {split: self._copies(images, split, cosine[split]) for split in self.real}
        if self.on_test == "report" and (n := sum(map(bool, copy.get("test", [])))):
            log.warning(
                f"memorised: copies of test images: {n:,}; 'test: report' does not drop them, "
                "so the measured accuracy may be too good"
            )
        return [
            self._judge({s: float(cosine[s][i]) for s in self.real}, {s: copy[s][i] for s in self.real})
            for i in range(len(images))
        ]

    def _copies(self, images: Images, split: str, cosine: np.ndarray) -> list[str]:
        """For each image whether it is an "exact" or a "near" copy of one of the split, or neither: ""."""
        exact = equal_pixels(images, self.real[split], np.flatnonzero(cosine > SAME))
        near = cosine > self.limits[split]
        return ["exact" if i in exact else "near" if near[i] else "" for i in range(len(images))]

    def _judge(self, cosine: dict[str, float], copy: dict[str, str]) -> Verdict:
        scores = {f"{split}_cosine": x for split, x in cosine.items()}
        if copy.get("test"):
            scores["test_copy"] = 1.0
        for split, word in (("test", "test"), ("train", "training")):
            if copy.get(split) and not (split == "test" and self.on_test == "report"):
                return Verdict(False, f"memorised: {copy[split]} copy of a {word} image", scores)
        return Verdict(True, scores=scores)


def equal_pixels(images: Images, real: Images, candidates: np.ndarray) -> set[int]:
    """Those of the ``candidates``, places in ``images``, that have the very pixels of one of ``real``, in whatever file format."""
    if not len(candidates):
        return set()
    known = set(_pixel_hashes(real, np.arange(len(real))))
    return {int(i) for i, h in zip(candidates, _pixel_hashes(images, candidates), strict=True) if h in known}


def _pixel_hashes(images: Images, index: np.ndarray) -> Iterator[str]:
    for part in slices(len(index), BATCH):
        yield from map(pixel_hash, images.load(index[part]))

"""The stricter CLIP filter: keep an image only where CLIP's first choice is its own class.

DISEF (2312.03046) keeps an image when the argmax of CLIP ViT-H/14 over the class names is its class.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from figment.encoders import Features
from figment.filters.clip import class_probabilities
from figment.types import Images, Verdict


class ArgmaxFilter:
    """Keeps an image whose own class has a higher zero-shot probability than every other, strictly.

    With two classes this is ``clip`` at its default; with N it asks for more than 1/N, and it has no fallback: a class that
    CLIP mistakes for another ends with few images or none.
    """

    name = "argmax"

    def __init__(
        self, features: Features, class_names: Sequence[str], templates: Sequence[str] = ("a photo of a {}.",)
    ):
        self.features, self.class_names, self.templates = features, list(class_names), list(templates)

    def __call__(self, images: Images) -> list[Verdict]:
        p = class_probabilities(self.features, images, self.class_names, self.templates)  # (B, N)
        rows = np.arange(len(p))
        own = p[rows, images.labels]  # (B,)
        p[rows, images.labels] = -1
        other = p.max(1)  # (B,)
        return [
            Verdict(
                bool(a > b),
                "" if a > b else "argmax: CLIP would rather call it another class",
                {"argmax_p": float(a), "argmax_p_other": float(b)},
            )
            for a, b in zip(own, other, strict=True)
        ]

"""The stricter CLIP filter: keep an image only where CLIP's first choice is its own class.

DISEF (2312.03046) keeps an image when the argmax of CLIP ViT-H/14 over the class names is its class.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from figment.encoders import Features
from figment.filters.clip import class_probabilities, is_guessing, keep_all
from figment.types import Images, Verdict


class ArgmaxFilter:
    """Keeps an image whose own class has a higher zero-shot probability than every other, strictly.

    With two classes this is ``clip`` at its default; with N it asks for more than 1/N, and it has no fallback: a class that
    CLIP mistakes for another ends with few images or none. ``remove_bias`` and what happens where CLIP is guessing: see
    `figment.filters.clip.ClipFilter`.
    """

    name = "argmax"

    def __init__(
        self,
        features: Features,
        class_names: Sequence[str],
        templates: Sequence[str] = ("a photo of a {}.",),
        remove_bias: bool = True,
    ):
        self.features, self.class_names, self.templates = features, list(class_names), list(templates)
        self.remove_bias = remove_bias

    def __call__(self, images: Images) -> list[Verdict]:
        p = class_probabilities(self.features, images, self.class_names, self.templates, self.remove_bias)  # (B, N)
        guessing = is_guessing(p, images.labels)
        if guessing:
            keep_all(self.name, p, images.labels)
        rows = np.arange(len(p))
        own = p[rows, images.labels]  # (B,)
        p[rows, images.labels] = -1
        other = p.max(1)  # (B,)
        return [
            Verdict(
                bool(a > b or guessing),
                "" if a > b or guessing else "argmax: CLIP would rather call it another class",
                {"argmax_p": float(a), "argmax_p_other": float(b)},
            )
            for a, b in zip(own, other, strict=True)
        ]

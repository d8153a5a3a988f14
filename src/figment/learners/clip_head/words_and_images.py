"""Words and images together: the untrained classifier with its bias removed, and one that learnt from the images alone.

Both are right for different reasons, and their log-probabilities add up. Since both are linear in the features, so is their sum: one
head, in closed form.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from figment import records
from figment.encoders import Features
from figment.learners.bias import bias_of, shares_of
from figment.learners.clip_head.head import Head, zero_shot_head
from figment.learners.clip_head.images_only import ImagesOnlyLearner
from figment.types import Model

if TYPE_CHECKING:
    from figment.encoders import Towers


class WordsAndImagesLearner(ImagesOnlyLearner):
    """The sum of the logits of the zero-shot head, its bias removed on the images, and of `discriminant` on them."""

    name = "words and images"

    def __init__(
        self, features: Features, class_names: Sequence[str], templates: Sequence[str], encoder: str = ""
    ) -> None:
        super().__init__(features, class_names, encoder)
        towers: Towers = features.encoder  # type: ignore[assignment]
        self.words = zero_shot_head(towers, class_names, templates)
        self.templates = tuple(templates)
        words = [list(class_names), list(templates)]
        self.fingerprint = records.fingerprint(["words and images", towers.fingerprint, words])

    def untrained(self) -> Model:
        return self.model(self.words)

    def fit(self, x: np.ndarray, y: np.ndarray) -> Head:
        images = super().fit(x, y)
        bias = torch.from_numpy(bias_of(self.words.predict(x), shares_of(y, len(self.class_names))))
        with torch.no_grad():
            images.linear.weight.add_(self.words.linear.weight)
            images.linear.bias.add_(self.words.linear.bias + bias)
        return images

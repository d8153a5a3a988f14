"""A classifier that never sees the name of a class: shrunk linear discriminant analysis on the features of images.

What it knows it has from the images, so it can tell whether they hold the classes at all, and what they are worth beside photographs.
It is solved in closed form, without seed, steps or a learning rate to choose.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from figment import records
from figment.encoders import Features
from figment.errors import FigmentError
from figment.learners.clip_head.discriminant import Moments
from figment.learners.clip_head.head import Head, HeadCard, zero_shot_head
from figment.learners.clip_head.model import ClipHeadModel, UnitFeatures
from figment.learners.clip_head.unbiased import Labelled
from figment.learners.clip_head.weighing import weights_beside
from figment.types import Images, Learner, Model

WEIGHT = "weight of a generated image"  # a model's fact, beside real ones that weigh 1


class ImagesOnlyLearner(Learner):
    """`discriminant` on the features of all images it is given. Beside real images a generated one weighs what these say
    (`weights_beside`). The seed changes nothing."""

    name = "images only"

    def __init__(
        self, features: Features, class_names: Sequence[str], encoder: str = "", templates: Sequence[str] = ()
    ) -> None:
        """``encoder`` is its name, for the card of a saved head. With ``templates`` it knows what the words alone would do, though it
        learns nothing from them: whoever has that CLIP has that classifier without any image."""
        self.templates = tuple(templates)
        self.features, self.class_names, self.encoder_name = features, class_names, encoder
        self.unit = UnitFeatures(features)
        self.fingerprint = records.fingerprint(["images only, weighed", features.encoder.fingerprint, len(class_names)])

    def untrained(self) -> Model | None:
        if not self.templates:
            return None
        return self.model(zero_shot_head(self.features.encoder, self.class_names, self.templates))

    def learn(self, synthetic: Images | None, real: Images | None, seed: int) -> Model:
        return self.model(*self._together(self._moments(self._labelled(synthetic)), self._labelled(real))[0])

    def _together(
        self, made: Moments | None, own: Labelled | None, words: Sequence[Head | None] = (None,)
    ) -> list[tuple[Head, dict[str, Any]]]:
        """Of generated and real images, or of those that there are: for each of ``words``, or (None) without any, the head that will be
        added to it, and the model's facts."""
        real = self._moments(own)
        if made is None or own is None or real is None:
            return [(_head(made or real), {})] * len(words)
        weights = weights_beside(made, *own, words)
        return [((made.times(weight) + real).head(), {WEIGHT: weight}) for weight in weights]

    def _moments(self, labelled: Labelled | None) -> Moments | None:
        return None if labelled is None else Moments.of(*labelled, len(self.class_names))

    def few_shot_head(self, x: np.ndarray, y: np.ndarray, seed: int) -> Head:
        """Of real images alone: features (n, D), labels (n,)."""
        return _head(self._moments((x, y)))

    def _labelled(self, images: Images | None) -> Labelled | None:
        return None if images is None else (self.features(images), images.labels)

    def model(self, head: Head, facts: Mapping[str, Any] | None = None) -> ClipHeadModel:
        card = HeadCard(tuple(self.class_names), self.templates, self.encoder_name, self.features.encoder.fingerprint)
        return ClipHeadModel(self.unit, head, card, facts=facts or {})


def _head(moments: Moments | None) -> Head:
    if moments is None:
        raise FigmentError("There is nothing to learn from: give generated images, real ones, or both.")
    return moments.head()

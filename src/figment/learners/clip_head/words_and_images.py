"""Words and images together: the untrained classifier with its bias removed, and one that learnt from the images alone.

Both are right for different reasons, and their log-probabilities add up. Since both are linear in the features, so is their sum: one
head, in closed form. On the starter it beats every tuned head, with no photograph and with 1 to 64 of each class, and stands where the
words are worthless: docs/results/learners.md.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import cast

import numpy as np
import torch

from figment import records
from figment.encoders import Features, Towers
from figment.learners.clip_head.discriminant import Moments
from figment.learners.clip_head.head import Head, zero_shot_head
from figment.learners.clip_head.images_only import ImagesOnlyLearner
from figment.learners.clip_head.model import ClipHeadModel
from figment.learners.clip_head.unbiased import Labelled, unbiased
from figment.types import Images, Model

LEFT_OUT = {"words": "left out"}  # a model's facts


class WordsAndImagesLearner(ImagesOnlyLearner):
    """The sum of the logits of the zero-shot head, its bias removed on the images, and of `discriminant` on them.

    Where real images can tell (``val``, or those learnt from beside generated ones), the better of two is taken: the words are
    left out if the images alone are right on more of them. So a domain that the encoder's words do not know costs nothing. ``val``
    judges the two as they would be used, each with the weight of generated images that suits it.
    """

    name = "words and images"

    def __init__(
        self,
        features: Features,
        class_names: Sequence[str],
        templates: Sequence[str],
        val: Images | None = None,
        encoder: str = "",
        unlabelled: Images | None = None,
    ) -> None:
        super().__init__(features, class_names, encoder)
        self.encoder, self.templates = cast(Towers, features.encoder), tuple(templates)
        self.val, self.unlabelled = val, unlabelled
        self.zero_shot = zero_shot_head(self.encoder, class_names, templates)
        words = [list(class_names), list(templates)]
        seen = [None if val is None else ["as used", list(val.digests), np.asarray(val.labels).tolist()]]
        seen += [None if unlabelled is None else list(unlabelled.digests)]
        self.fingerprint = records.fingerprint(["words and images, weighed", self.encoder.fingerprint, words, seen])

    def untrained(self) -> Model:
        return self.model(self.zero_shot)

    def learn(self, synthetic: Images | None, real: Images | None, seed: int) -> Model:
        made, own, val = (self._labelled(images) for images in (synthetic, real, self.val))
        words, moments = self._words(made, own), self._moments(made)
        if val is None:
            return self._candidates(moments, own, words if _listens(words, moments, own) else None)[0]
        x, y = val
        return max(
            self._candidates(moments, own, words, None), key=lambda one: int((one.head.predict(x).argmax(1) == y).sum())
        )

    def _candidates(self, made: Moments | None, own: Labelled | None, *words: Head | None) -> list[ClipHeadModel]:
        """The models that add the images to each of these, or (None) leave the words out."""
        return [
            self.model(images, {**facts, **LEFT_OUT}) if head is None else self.model(_sum(head, images), facts)
            for head, (images, facts) in zip(words, self._together(made, own, words), strict=True)
        ]

    def few_shot_head(self, x: np.ndarray, y: np.ndarray, seed: int) -> Head:
        """Of real images alone: features (n, D), labels (n,). The seed changes nothing."""
        return _sum(self._words(None, (x, y)), super().few_shot_head(x, y, seed))

    def _words(self, made: Labelled | None, own: Labelled | None) -> Head:
        seen = None if self.unlabelled is None else self.features(self.unlabelled)
        return unbiased(self.zero_shot, made, own, seen)


def _listens(words: Head, made: Moments | None, own: Labelled | None) -> bool:
    """Without ``val``: whether the words are to be had beside the images. The real images that are learnt from tell it of what was
    learnt from generated ones alone; where only one kind is there, nobody can."""
    if made is None or own is None:
        return True
    x, y = own
    alone = made.head().predict(x)
    return bool(((words.predict(x) + alone).argmax(1) == y).sum() >= (alone.argmax(1) == y).sum())


def _sum(words: Head, images: Head) -> Head:
    both = copy.deepcopy(images)
    with torch.no_grad():
        both.linear.weight.add_(words.linear.weight)
        both.linear.bias.add_(words.linear.bias)
    return both

"""A classifier that never sees the name of a class: shrunk linear discriminant analysis on the features of images.

What it knows it has from the images, so it can tell whether they hold the classes at all, and what they are worth beside photographs.
It is solved in closed form in milliseconds, without seed, steps or a learning rate to choose.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from figment import records
from figment.encoders import Features
from figment.errors import FigmentError
from figment.learners.clip_head.head import Head, HeadCard, zero_shot_head
from figment.learners.clip_head.model import ClipHeadModel, UnitFeatures
from figment.learners.clip_head.unbiased import Labelled
from figment.types import Images, Learner, Model

NEVER = -1e4  # the logit of a class that no image was seen of


def discriminant(features: np.ndarray, labels: np.ndarray, n_classes: int) -> Head:
    """Linear discriminant analysis with equal priors, its covariance shrunk as OAS says (Chen et al. 2010, equation 23).

    The pooled covariance of the classes has m - N degrees of freedom and shrinks towards a multiple of the identity; with one
    image a class there is none, and the nearest class mean decides. Differences of logits are log-odds.

    Args:
        features: float (m, D), of any length; normalised here.
        labels: int (m,) in [0, n_classes). A class without images is never predicted.
    """
    x = F.normalize(torch.tensor(np.asarray(features), dtype=torch.float64), dim=-1)
    y = torch.tensor(np.asarray(labels, np.int64))
    counts = torch.bincount(y, minlength=n_classes)
    there = counts > 0
    means = torch.zeros(n_classes, x.shape[1], dtype=x.dtype).index_add_(0, y, x) / counts.clamp(min=1)[:, None]
    middle = means[there].mean(0)
    freedom = len(x) - int(there.sum())
    within = x - means[y]
    covariance = _shrunk(within.T @ within / freedom, freedom) if freedom else torch.eye(x.shape[1], dtype=x.dtype)
    centred = means - middle
    weights = torch.linalg.solve(covariance, centred.T).T  # (N, D)
    bias = -0.5 * (weights * centred).sum(1) - weights @ middle
    head = Head(n_features=x.shape[1], n_classes=n_classes)
    with torch.no_grad():
        head.linear.weight.copy_(torch.where(there[:, None], weights, 0.0))
        head.linear.bias.copy_(torch.where(there, bias, NEVER))
    return head


def _shrunk(covariance: torch.Tensor, n: int) -> torch.Tensor:
    """The oracle approximating shrinkage of a covariance (D, D) that has n degrees of freedom."""
    d = len(covariance)
    trace, of_square = covariance.trace(), covariance.square().sum()
    above = (1 - 2 / d) * of_square + trace**2
    below = (n + 1 - 2 / d) * (of_square - trace**2 / d)
    share = 1.0 if below <= 0 else min(1.0, float(above / below))
    scale = max(float(trace) / d, torch.finfo(covariance.dtype).tiny)
    # All images of a class may be the same: then nothing varies, and a covariance of zeros cannot be divided by.
    return (1 - share) * covariance + (share * scale + 1e-12) * torch.eye(d, dtype=covariance.dtype)


class ImagesOnlyLearner(Learner):
    """`discriminant` on the features of all images it is given, generated and real alike. The seed changes nothing."""

    name = "images only"

    def __init__(
        self, features: Features, class_names: Sequence[str], encoder: str = "", templates: Sequence[str] = ()
    ) -> None:
        """``encoder`` is its name, for the card of a saved head. With ``templates`` it knows what the words alone would do, though it
        learns nothing from them: whoever has that CLIP has that classifier without any image."""
        self.templates = tuple(templates)
        self.features, self.class_names, self.encoder_name = features, class_names, encoder
        self.unit = UnitFeatures(features)
        self.fingerprint = records.fingerprint(["images only", features.encoder.fingerprint, len(class_names)])

    def untrained(self) -> Model | None:
        if not self.templates:
            return None
        return self.model(zero_shot_head(self.features.encoder, self.class_names, self.templates))

    def learn(self, synthetic: Images | None, real: Images | None, seed: int) -> Model:
        return self.model(self.fit(self._labelled(synthetic), self._labelled(real)))

    def fit(self, *sets: Labelled | None) -> Head:
        """`discriminant` of all these images together."""
        given = [labelled for labelled in sets if labelled is not None]
        if not given:
            raise FigmentError("There is nothing to learn from: give generated images, real ones, or both.")
        x, y = (np.concatenate(parts) for parts in zip(*given, strict=True))
        return discriminant(x, y, len(self.class_names))

    def few_shot_head(self, x: np.ndarray, y: np.ndarray, seed: int) -> Head:
        """Of real images alone: features (n, D), labels (n,)."""
        return self.fit((x, y))

    def _labelled(self, images: Images | None) -> Labelled | None:
        return None if images is None else (self.features(images), images.labels)

    def model(self, head: Head, facts: Mapping[str, Any] | None = None) -> ClipHeadModel:
        card = HeadCard(tuple(self.class_names), self.templates, self.encoder_name, self.features.encoder.fingerprint)
        return ClipHeadModel(self.unit, head, card, facts=facts or {})

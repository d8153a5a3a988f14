"""The CLIP filter: keep an image that CLIP, asked without help, would rather call by its own class than at random.

He et al. 2023, section 3.2 and their released script: keep when the softmax probability of the image's own class, over all
class names, is strictly above 1/N.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Literal

import numpy as np

from figment.bias import bias_of, shares_of
from figment.encoders import Features, class_prototypes
from figment.types import Images, Verdict

log = logging.getLogger(__name__)

Rule = Literal["threshold", "top_k", "threshold_else_top_k"]


def class_probabilities(
    features: Features, images: Images, class_names: Sequence[str], templates: Sequence[str], remove_bias: bool
) -> np.ndarray:
    """Zero-shot class probabilities, ``float64 (B, N)``: the softmax of ``logit_scale * cosine(image, class text)``, with the bias
    that these images show removed (`figment.bias`) where it is asked for."""
    prototypes = class_prototypes(features.encoder, class_names, templates)  # (N, D)
    if not len(images):
        return np.zeros((0, len(prototypes)))
    logits = features.encoder.logit_scale * features(images).astype(np.float64) @ prototypes.T
    if remove_bias:
        logits = logits + bias_of(logits, shares_of(images.labels, len(prototypes)))
    p = np.exp(logits - logits.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)


FEWEST = 50  # images, below which nothing is said of the classifier
KNOWS_LITTLE = 0.1  # of the way from chance to always right


def is_guessing(p: np.ndarray, labels: np.ndarray) -> bool:
    """Whether probabilities float (B, N) agree with what images were asked for no better than guesses: then either words or images
    have nothing to do with the classes, and a filter that goes by them throws away at random, or what is right.

    That is, the lower end of the 95 % Wilson interval of their agreement is at most 2/N, or a tenth of the way from 1/N to 1 where
    that is less: with two classes 55 %. The starter's words blurred beyond use, and digits that it has no words for, are below.
    """
    n, n_classes = p.shape
    if n < FEWEST:
        return False
    from scipy.stats import binomtest

    agree = int((p.argmax(1) == labels).sum())
    low = binomtest(agree, n).proportion_ci(method="wilson").low
    return bool(low <= min(2 / n_classes, 1 / n_classes + KNOWS_LITTLE * (1 - 1 / n_classes)))


def keep_all(name: str, p: np.ndarray, labels: np.ndarray) -> None:
    """Say that a filter that is guessing lets every image pass."""
    right = 100 * (p.argmax(1) == labels).mean()
    log.warning(
        f"{name}: the class names' text features call {right:.0f} % of the generated images by their class, which is hardly more than"
        f" guessing ({100 / p.shape[1]:.0f} %). A filter that goes by them would throw away at random: it keeps every image"
    )


class ClipFilter:
    """Judges by p(own class) = softmax over the N classes of ``logit_scale * cosine(image, class text)``.

    Rules, each decided within a class:

    - ``threshold``: p > ``threshold`` (default 1/N), strictly, and p <= ``highest``: with one below 1 the window of confidence that GaFi
      (Lampis et al. 2023) keeps, without the images that nobody needs to be shown. A class may end with few images or none.
    - ``top_k``: the ``k`` highest p, threshold or not.
    - ``threshold_else_top_k``: what the authors' script does. ``k`` random ones of those that pass, or, where fewer than
      ``k`` pass, the ``k`` highest p with the threshold ignored: a bad class is filled up with bad images.

    An image kept below the threshold has the score ``clip_filled`` = 1, and they are counted aloud. ``remove_bias``: what the
    zero-shot classifier says too often is taken away first, as the images to be judged show it. Where its probabilities are no
    better than guesses (`is_guessing`), the rule ``threshold`` keeps every image; the others keep as many as they were asked to.
    """

    name = "clip"

    def __init__(
        self,
        features: Features,
        class_names: Sequence[str],
        templates: Sequence[str] = ("a photo of a {}.",),
        rule: Rule = "threshold",
        threshold: float | None = None,
        k: int | None = None,
        seed: int = 0,
        remove_bias: bool = True,
        highest: float = 1.0,
    ):
        if rule != "threshold" and not k:
            raise ValueError(f"rule {rule!r} needs k, the number of images to keep of each class")
        self.features, self.class_names, self.templates = features, list(class_names), list(templates)
        if rule != "threshold" and highest < 1:
            raise ValueError(f"rule {rule!r} keeps the best images, and highest drops them: leave one of them out")
        self.rule, self.k, self.seed, self.remove_bias, self.highest = rule, k, seed, remove_bias, highest
        self.threshold = 1 / len(class_names) if threshold is None else threshold

    def __call__(self, images: Images) -> list[Verdict]:
        every = class_probabilities(self.features, images, self.class_names, self.templates, self.remove_bias)  # (B, N)
        p = every[np.arange(len(every)), images.labels]  # (B,)
        if self.rule == "threshold" and is_guessing(every, images.labels):
            keep_all(self.name, every, images.labels)
            return [Verdict(True, "", {"clip_p": float(x)}) for x in p]
        keep = self.decide(p, images.labels)
        low = p <= self.threshold
        best = "not among the class's best" if self.rule != "threshold" else f"p(own class) > {self.highest:.3g}"
        reasons = np.where(low, f"clip: p(own class) <= {self.threshold:.3g}", f"clip: {best}")
        if self.rule == "threshold_else_top_k":
            reasons = np.where(low, reasons, "clip: more passed than wanted")
        filled = keep & low
        if filled.any():
            log.warning(
                f"clip: {filled.sum():,} of the {keep.sum():,} kept have p(own class) <= {self.threshold:.3g}: "
                f"{self.rule} filled up classes in which too few passed ({len(np.unique(images.labels[filled])):,})"
            )
        return [
            Verdict(
                bool(kept), "" if kept else str(reason), {"clip_p": float(x), **({"clip_filled": 1.0} if fill else {})}
            )
            for kept, reason, x, fill in zip(keep, reasons, p, filled, strict=True)
        ]

    def decide(self, p: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Which to keep, ``bool (B,)``, given each image's probability of its own class."""
        passed = (p > self.threshold) & (p <= self.highest)
        if self.rule == "threshold":
            return passed
        keep = np.zeros(len(p), bool)
        rng = np.random.default_rng(self.seed)
        for label in np.unique(labels):
            own = np.flatnonzero(labels == label)
            good = own[passed[own]]
            assert self.k is not None
            if self.rule == "threshold_else_top_k" and len(good) >= self.k:
                keep[rng.choice(good, self.k, replace=False)] = True
            else:
                keep[own[np.argsort(-p[own], kind="stable")[: self.k]]] = True
        return keep

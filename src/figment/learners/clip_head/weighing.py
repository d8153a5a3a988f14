"""How much a generated image weighs beside a photograph: as much as lets the others be foretold best.

Generated images are another domain than photographs, however near. A thousand of them that are worth ten photographs (the exchange
rate) and are counted as a thousand take away what twenty photographs had taught. So the photographs are asked, a fifth at a time, under which weight the
rest and the generated images foretell them best, by the likelihood of their labels: it tells more of few images than a count of right answers does.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import add

import numpy as np
import torch
from torch.nn import functional as F

from figment.learners.clip_head.discriminant import Moments
from figment.learners.clip_head.head import Head

WEIGHTS = (1.0, 0.3, 0.1, 0.03, 0.01, 0.0)
FOLDS = 5
ALWAYS = -1  # the fold that is never held out


def weights_beside(
    made: Moments, features: np.ndarray, labels: np.ndarray, words: Sequence[Head | None] = (None,)
) -> list[float]:
    """One of `WEIGHTS`, of each generated image beside a real one, by cross-validation on the real ones; 1 with one image a class.

    Args:
        made: of the generated images.
        features: float (m, D) of the real images.
        labels: int (m,).
        words: heads whose logits are added to those of the images, as the learner that asks will do, or None without any.

    Returns:
        For each of ``words``, the weight that suits it. All are found in one pass.
    """
    y, n_classes = np.asarray(labels, np.int64), len(made.weights)
    offsets = [None if head is None else head.predict(features) for head in words]
    fold = _folds(y, n_classes)
    parts = {int(f): Moments.of(features[fold == f], y[fold == f], n_classes) for f in np.unique(fold)}
    shown = np.isin(np.flatnonzero(made.weights > 0), y).all()  # else a class would be lost without generated images
    weights = WEIGHTS if shown else WEIGHTS[:-1]
    likelihood = np.zeros((len(words), len(weights)))
    for f in parts.keys() - {ALWAYS}:
        held, rest = fold == f, reduce(add, [part for other, part in parts.items() if other != f])
        for i, weight in enumerate(weights):
            images = (made.times(weight) + rest).head().predict(features[held])
            for j, offset in enumerate(offsets):
                likelihood[j, i] += _likelihood(images if offset is None else images + offset[held], y[held])
    return [weights[i] for i in likelihood.argmax(1)]


def _likelihood(logits: np.ndarray, labels: np.ndarray) -> float:
    """The logarithm of that of labels int (m,), by logits float (m, N)."""
    own = F.cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels), reduction="none")
    return -float(own.sum(dtype=torch.float64))


def _folds(labels: np.ndarray, n_classes: int) -> np.ndarray:
    """``int (m,)``: the images of a class in turns, each class beginning elsewhere. A class's only image is learnt from always: held out it
    would be the one class that is known by generated images alone, which no weight but the smallest can make up for."""
    fold = np.full(len(labels), ALWAYS)
    for c in range(n_classes):
        own = np.flatnonzero(labels == c)
        if len(own) > 1:
            fold[own] = (np.arange(len(own)) + c) % FOLDS
    return fold

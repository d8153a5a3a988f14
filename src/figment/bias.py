"""What a classifier says too often of some classes, found without a label and taken away.

CLIP's zero-shot classifier prefers classes whose names were frequent where it was trained (Zhu et al. 2023, arXiv 2310.08106;
Frolic, 2410.19294). Training on anything balanced takes that preference away, whatever the images show, and so does one number a class.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

STEPS, TOLERANCE = 200, 1e-6
ENOUGH_REAL = 4  # images of each class, from which real ones show a bias as well as hundreds of generated ones do
FAR = 100  # how far a bias may be from the one that odds were taken with: exp(FAR) is no large number yet

Seen = tuple[np.ndarray, np.ndarray]  # logits float (m, N) of images, or features, and their labels int (m,)


def shares_of(labels: np.ndarray, n_classes: int) -> np.ndarray | None:
    """How much of a set of images each class is, float (N,); None where a class has no image, of which nothing is known then."""
    counts = np.bincount(labels, minlength=n_classes)
    return None if (counts == 0).any() else counts / counts.sum()


def bias_of(logits: np.ndarray, shares: np.ndarray | None = None) -> np.ndarray:
    """What to add to the logits so that, on average over the images, each class is given its share.

    Matches the mean of the softmax to ``shares`` by fixed-point steps ``b += log(shares) - log(mean softmax(logits + b))``.

    Args:
        logits: float (m, N), of images without labels in which classes are about as frequent as ``shares`` says. Images
            without content (grey, black, noise) must not be used: there is no class for the classifier to see.
        shares: float (N,), positive, of sum 1; None = all the same. The shares of a skewed set of real images do not belong
            here (they would put a preference in).

    Returns:
        float32 (N,), of mean 0.
    """
    logits = np.asarray(logits, np.float64)
    log_shares = np.log(np.full(logits.shape[1], 1 / logits.shape[1]) if shares is None else np.asarray(shares))
    bias, near = np.zeros(logits.shape[1]), np.zeros(logits.shape[1])
    odds = _odds(logits)
    for _ in range(STEPS):
        if np.abs(bias - near).max() > FAR:
            near = bias.copy()
            odds = _odds(logits + near)
        # The mean of softmax(logits + bias) by two products with a vector (Sinkhorn's): exponentials are taken once, not every step.
        factor = np.exp(bias - near)
        given = factor * ((1 / (odds @ factor)) @ odds) / len(odds)
        step = log_shares - np.log(np.maximum(given, np.finfo(np.float64).tiny))
        bias += step
        if np.abs(step).max() <= TOLERANCE:
            break
    return (bias - bias.mean()).astype(np.float32)


def _odds(logits: np.ndarray) -> np.ndarray:
    """Of each class against the likeliest: float (m, N), in [0, 1]."""
    return np.exp(logits - logits.max(axis=1, keepdims=True))


def bias_shown(
    synthetic: Seen | None,
    real: Seen | None,
    unlabelled: np.ndarray | None = None,
    logits: Callable[[np.ndarray], np.ndarray] = lambda seen: seen,
) -> np.ndarray:
    """`bias_of` images that are at hand, none of whose labels is learnt from: float32 (N,).

    Photographs that are ``unlabelled`` are taken where there are any. Else real images are taken where there are `ENOUGH_REAL` of each
    class, since generated ones may show anything; else generated ones; else the few real ones. Labels of generated images say how many
    were asked for of each class. Those of real ones are not looked at, since their shares are nobody's plan. At least one of the three is
    there.

    Images are given as their logits, float (m, N), or as what ``logits`` makes these of: of a thousand classes it is not asked in vain.
    """
    if unlabelled is not None:
        return bias_of(logits(unlabelled))
    if real is not None:
        own = logits(real[0])
        if synthetic is None or np.bincount(real[1], minlength=own.shape[1]).min() >= ENOUGH_REAL:
            return bias_of(own)
    assert synthetic is not None
    own = logits(synthetic[0])
    return bias_of(own, shares_of(synthetic[1], own.shape[1]))

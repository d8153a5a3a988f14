"""Are single images clear, and together varied, to a classifier of ImageNet (Salimans et al. 2016, arXiv 1606.03498, section 4)?"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from scipy.special import log_softmax, logsumexp, stdtrit

from figment.evaluate.sets import finite, floor_of_score, pair
from figment.types import Result

SPLITS = 10
FEWEST = 2 * SPLITS  # images, two in each split
SEED = 2020  # of the order, torch-fidelity's


def inception_scores(logits: np.ndarray, splits: int = SPLITS) -> np.ndarray:
    """``exp(E KL(p(y|x) || p(y)))`` within each of ``splits`` parts, as torch-fidelity takes them: float (splits,).

    The parts are cut at ``i n // splits`` from a fixed random order.

    Args:
        logits: float (n, C); n at least ``splits``.

    Raises FigmentError for fewer rows, or logits that are not finite.
    """
    x = finite(logits, "The Inception score", splits)
    log_p = log_softmax(x[np.random.RandomState(SEED).permutation(len(x))], axis=1)  # (n, C)
    cuts = [i * len(x) // splits for i in range(splits + 1)]
    return np.array([_score(log_p[a:b]) for a, b in pairwise(cuts)])


def inception_score(real: np.ndarray, generated: np.ndarray, extractor: str, seed: int = 0) -> Result:
    """The mean of `inception_scores` of generated images, and that of as many real ones beside it.

    The 95 % interval is Student's, over the splits. The score knows nothing of the task's classes, and falls with fewer images a split.

    Args:
        real, generated: logits of the Inception network, float (n, C) and (m, C), at least `FEWEST` rows each.

    Returns:
        The result ``inception_score``; ``details`` holds ``extractor``, ``splits``, ``standard_error`` and
        `figment.evaluate.sets.floor_of_score`.

    Raises FigmentError for arrays that do not fit, too few rows, or logits that are not finite.
    """
    real, generated = pair(real, generated, "The Inception score", FEWEST)
    scores = inception_scores(generated)
    value, error = float(scores.mean()), float(scores.std(ddof=1)) / math.sqrt(SPLITS)
    half = float(stdtrit(SPLITS - 1, 0.975)) * error
    details = {
        "extractor": extractor,
        "splits": SPLITS,
        "standard_error": error,
        **floor_of_score(lambda x: float(inception_scores(x).mean()), real, generated, seed),
    }
    return Result("inception_score", value, len(generated), (max(1.0, value - half), value + half), details=details)


def _score(log_p: np.ndarray) -> float:
    marginal = logsumexp(log_p, axis=0) - math.log(len(log_p))  # of classes that no image is, too
    return math.exp(float((np.exp(log_p) * (log_p - marginal)).sum(axis=1).mean()))

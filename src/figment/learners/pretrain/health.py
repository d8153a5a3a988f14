"""What can be said of features without a label: how many dimensions they use, how near views lie, how far images spread."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def rankme(features: Tensor) -> float:
    """The number of dimensions that features (n, D) use: exp of the entropy of their singular values (Garrido et al. 2023, equation 1).

    1 where all are multiples of one vector, at most min(n, D); NaN where a feature is not finite.
    """
    if not features.isfinite().all():
        return math.nan  # the training itself says why; the decomposition would raise
    values = torch.linalg.svdvals(features.double())
    share = values / values.sum() + 1e-7
    return float((-share * share.log()).sum().exp())


def alignment(first: Tensor, second: Tensor) -> float:
    """The mean squared distance of two views' unit features (n, D), in [0, 4] (Wang and Isola 2020, section 4.1)."""
    a, b = F.normalize(first.double(), dim=-1), F.normalize(second.double(), dim=-1)
    return float((a - b).square().sum(-1).mean())


def uniformity(features: Tensor) -> float:
    """log of the mean of exp(-2 d^2) over pairs of unit features (n, D), n >= 2: 0 where all are one, lower is more even (ibid.)."""
    unit = F.normalize(features.double(), dim=-1)
    return float(torch.pdist(unit).square().mul(-2).exp().mean().log())

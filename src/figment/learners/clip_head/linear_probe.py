"""The linear probe: logistic regression on features, as CLIP's authors judge a representation (Radford et al. 2021)."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from figment.learners.clip_head.head import Head
from figment.probe import logistic_regression


def linear_probe(
    features: np.ndarray, labels: np.ndarray, n_classes: int, *, l2: float = 1.0, max_iter: int = 1000
) -> Head:
    """Of features float (n, D), which are brought to unit length, and labels int (n,): see `figment.probe.logistic_regression`."""
    x = F.normalize(torch.tensor(features, dtype=torch.float64), dim=-1)
    weight, bias = logistic_regression(x, labels, n_classes, l2=l2, max_iter=max_iter)
    head = Head(n_features=x.shape[1], n_classes=n_classes)
    with torch.no_grad():
        head.linear.weight.copy_(weight)
        head.linear.bias.copy_(bias)
    return head

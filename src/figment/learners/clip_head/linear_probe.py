"""The linear probe: logistic regression on features, as CLIP's authors judge a representation (Radford et al. 2021)."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from figment.learners.clip_head.head import Head


def linear_probe(
    features: np.ndarray, labels: np.ndarray, n_classes: int, *, l2: float = 1.0, max_iter: int = 1000
) -> Head:
    """Multinomial logistic regression from nothing, solved by L-BFGS: no words, no seed, no learning rate.

    Minimises ``sum of cross-entropies + l2 / 2 * |W|^2`` over unit features float (n, D) and labels int (n,); ``l2`` is
    1 / C of scikit-learn. The bias is free.
    """
    x = F.normalize(torch.tensor(features, dtype=torch.float64), dim=-1)
    y = torch.tensor(labels)
    weights = torch.zeros(n_classes, x.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(n_classes, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weights, bias], max_iter=max_iter, tolerance_grad=1e-8, history_size=20, line_search_fn="strong_wolfe"
    )

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(x @ weights.T + bias, y, reduction="sum") + l2 / 2 * weights.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    head = Head(n_features=x.shape[1], n_classes=n_classes)
    with torch.no_grad():
        head.linear.weight.copy_(weights)
        head.linear.bias.copy_(bias)
    return head

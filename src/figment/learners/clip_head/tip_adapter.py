"""Tip-Adapter (Zhang et al. 2022): the shots as a cache beside the zero-shot classifier. No training, or a little (-F)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from figment.learners.clip_head.head import Head
from figment.learners.training import schedule

ALPHAS = (0.0, 0.1, 0.3, 0.6, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0)
BETAS = (0.5, 1.0, 2.0, 3.5, 5.5, 8.0, 12.0)


@dataclass(frozen=True)
class TipAdapter:
    """``logits = head(x) + alpha * exp(-beta * (1 - x @ keys.T)) @ values``, features and keys of unit length.

    ``keys`` is float32 (M, D), the features of the shots; ``values`` float32 (M, N), their labels as one-hot rows.
    """

    head: Head
    keys: Tensor
    values: Tensor
    alpha: float
    beta: float

    @torch.no_grad()
    def predict(self, features: np.ndarray) -> np.ndarray:
        """Logits, float32 (n, N), of features float (n, D)."""
        x = F.normalize(torch.tensor(features, dtype=torch.float32), dim=-1)
        return (self.head(x) + self.alpha * affinity(x, self.keys, self.beta) @ self.values).numpy()


def affinity(x: Tensor, keys: Tensor, beta: float) -> Tensor:
    """``exp(-beta * (1 - cosine))``: unit features (n, D) and keys (M, D) to (n, M)."""
    return torch.exp(-beta * (1 - x @ keys.T))


@torch.no_grad()
def tip_adapter(
    head: Head,
    features: np.ndarray,
    labels: np.ndarray,
    *,
    alphas: Sequence[float] = ALPHAS,
    betas: Sequence[float] = BETAS,
) -> TipAdapter:
    """The training-free adapter of the shots, features float (M, D) and labels int (M,).

    The authors search alpha and beta on the test or validation set. Here each shot is classified by the cache of all
    others, and the pair with the lowest cross-entropy is taken: nothing but the shots is looked at. The shot's own class has
    one key fewer then, of two shots half, and a new image's has all: so what is left of it counts n / (n - 1) times. A shot
    that is alone in its class has no others to be recognised by and does not vote; where all are, the authors' starting
    values are taken, alpha 1 and beta 5.5.
    """
    keys, values = _cache(head, features, labels)
    y, base = values.argmax(1), head(keys)
    shots = values.sum(0)[y]  # (M,), of each shot's class
    votes = shots > 1
    if not votes.any():
        return TipAdapter(head, keys, values, alpha=1.0, beta=5.5)
    full = 1 + (values / (shots - 1)[:, None])[votes]  # (V, N): n / (n - 1) in the shot's own class, 1 in others
    losses = {}
    for beta in betas:
        others = (affinity(keys, keys, beta).fill_diagonal_(0) @ values)[votes] * full
        for alpha in alphas:
            losses[alpha, beta] = F.cross_entropy(base[votes] + alpha * others, y[votes]).item()
    alpha, beta = min(losses, key=losses.__getitem__)
    return TipAdapter(head, keys, values, alpha, beta)


def tip_adapter_f(
    head: Head,
    features: np.ndarray,
    labels: np.ndarray,
    seed: int,
    *,
    learning_rate: float = 1e-3,
    epochs: int = 20,
    batch_size: int = 256,
) -> TipAdapter:
    """Tip-Adapter-F: the keys are tuned, the rest stays. AdamW (eps 1e-4) and a half cosine, as the authors have it.

    The authors draw a new random crop of each shot in every epoch; features in memory are those of one view.
    """
    start = tip_adapter(head, features, labels)
    if start.alpha == 0:  # a cache that is not listened to gets no gradient either
        start = TipAdapter(head, start.keys, start.values, alpha=1.0, beta=5.5)
    x, y = start.keys, start.values.argmax(1)
    base = head(x).detach()
    keys = start.keys.clone().requires_grad_()
    optimizer = torch.optim.AdamW([keys], lr=learning_rate, eps=1e-4)
    rates = iter(schedule(learning_rate, 0, epochs * -(-len(x) // batch_size)))
    order = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for batch in torch.randperm(len(x), generator=order).split(batch_size):
            logits = base[batch] + start.alpha * affinity(x[batch], keys, start.beta) @ start.values
            optimizer.param_groups[0]["lr"] = next(rates)
            optimizer.zero_grad()
            F.cross_entropy(logits, y[batch]).backward()
            optimizer.step()
    return TipAdapter(copy.deepcopy(head), keys.detach(), start.values, start.alpha, start.beta)


def _cache(head: Head, features: np.ndarray, labels: np.ndarray) -> tuple[Tensor, Tensor]:
    keys = F.normalize(torch.tensor(features, dtype=torch.float32), dim=-1)
    return keys, F.one_hot(torch.tensor(labels), head.linear.out_features).float()

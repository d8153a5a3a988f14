"""What features are good for, by the usual measures: a linear classifier on them, and their nearest neighbours."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from figment.neighbours import slices

#: Learning rates of a batch of 256 that are tried at once (Tian et al. 2023, StableRep, appendix).
RATES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
EPOCHS, MIN_STEPS, BATCH, MOMENTUM = 90, 1_000, 1_024, 0.9
EPSILON = (
    1e-6  # of the BatchNorm, added to the variance: a feature that hardly varies is not blown up to be one that does
)
HELD_OUT = 5  # one image of so many, of each class, chooses the rate
BLOCK = 2_048  # rows of cosines held at a time


@dataclass(frozen=True)
class Probe:
    """``weight`` float32 (N, D) and ``bias`` (N,) on features as they are; ``rate`` is the learning rate that was chosen,

    and ``held_out`` the accuracy in [0, 1] of each rate that was tried, on training images that were held out; empty where
    there were none.
    """

    weight: np.ndarray
    bias: np.ndarray
    rate: float
    held_out: dict[float, float]

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Logits, ``float32 (n, N)``, of features (n, D)."""
        return features @ self.weight.T + self.bias


def linear_probe(
    features: np.ndarray,
    labels: np.ndarray,
    n_classes: int,
    seed: int = 0,
    device: torch.device | None = None,
    normalise: bool = True,
) -> Probe:
    """Softmax regression by SGD, with the learning rate of ten that does best on a fifth of the *training* images.

    As StableRep judges a backbone: momentum .9, no weight decay, 90 epochs (1,000 steps at the least), half a cosine to 0, start from
    N(0, .01^2), features normalised by their own mean and variance (its BatchNorm without weights). All ten are learnt at once as
    one product, and then the best of them again on all images. Where no class has five images, the middle rate is taken. Its
    random crops are left out: an image has one feature.

    Args:
        features: float (n, D).
        labels: int (n,), in [0, n_classes).
        device: where it is learnt; None = the CPU.
        normalise: False takes the features as they are, as the probe without BatchNorm does.
    """
    labels = np.asarray(labels, np.int64)
    mean, std = np.zeros_like(features[0]), np.ones_like(features[0])
    if normalise:
        mean, std = features.mean(0), np.sqrt(features.var(0) + EPSILON)
    x, y = torch.from_numpy((features - mean) / std).float().to(device), torch.from_numpy(labels).to(device)
    held = torch.from_numpy(held_out(labels, seed)).to(device)
    found: dict[float, float] = {}
    rate = RATES[len(RATES) // 2]
    if held.any():
        weight, bias = _fit(x[~held], y[~held], n_classes, RATES, seed)
        right = (torch.einsum("nd,hdc->hnc", x[held], weight) + bias[:, None]).argmax(-1) == y[held]
        found = dict(zip(RATES, right.float().mean(1).tolist(), strict=True))
        rate = max(RATES, key=lambda r: found[r])  # the lowest of equals
    weight, bias = _fit(x, y, n_classes, (rate,), seed)
    own = weight[0].T.cpu().numpy() / std
    own_bias = bias[0].cpu().numpy() - own @ mean
    return Probe(np.ascontiguousarray(own, np.float32), own_bias.astype(np.float32), rate, found)


def held_out(labels: np.ndarray, seed: int = 0) -> np.ndarray:
    """Which images choose, bool (n,): one in five of each class, at random."""
    rng, held = np.random.default_rng(seed), np.zeros(len(labels), bool)
    for c in np.unique(labels):
        held[rng.permutation(np.flatnonzero(labels == c))[HELD_OUT - 1 :: HELD_OUT]] = True
    return held


def _fit(x: Tensor, y: Tensor, n_classes: int, rates: tuple[float, ...], seed: int) -> tuple[Tensor, Tensor]:
    """Heads that differ in their learning rate alone: weights (H, D, N) and biases (H, N), learnt as one product."""
    n, d, h = len(x), x.shape[1], len(rates)
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(d, n_classes, generator=generator) * 0.01
    weight = start.repeat(1, h).to(x.device)  # (D, H N)
    bias = torch.zeros(h * n_classes, device=x.device)
    size = min(BATCH, n)
    an_epoch = n // size
    steps = max(EPOCHS * an_epoch, MIN_STEPS)
    each = torch.tensor(rates, device=x.device).repeat_interleave(n_classes) * size / 256
    momenta = torch.zeros_like(weight), torch.zeros_like(bias)
    order = torch.empty(0, dtype=torch.int64)
    for step in range(steps):
        if step % an_epoch == 0:
            order = torch.randperm(n, generator=generator).to(x.device)
        rows = order[step % an_epoch * size :][:size]
        logits = torch.addmm(bias, x[rows], weight).view(size, h, n_classes)
        slope = logits.softmax(-1)
        slope -= F.one_hot(y[rows], n_classes)[:, None]
        slope = slope.flatten(1) / size  # (b, H N): of the sum of the heads' mean losses
        rate = each * 0.5 * (1 + math.cos(math.pi * step / steps))
        for value, momentum, gradient in zip((weight, bias), momenta, (x[rows].T @ slope, slope.sum(0)), strict=True):
            momentum.mul_(MOMENTUM).add_(gradient)
            value.sub_(momentum * rate)
    return weight.view(d, h, n_classes).movedim(1, 0), bias.view(h, n_classes)


def logistic_regression(
    features: np.ndarray | Tensor,
    labels: np.ndarray | Tensor,
    n_classes: int,
    *,
    l2: float = 1.0,
    max_iter: int = 1000,
    start: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Multinomial logistic regression from nothing, solved by L-BFGS: no words, no seed, no learning rate.

    Minimises ``sum of cross-entropies + l2 / 2 * |W|^2``; ``l2`` is 1 / C of scikit-learn. The bias is free.

    Args:
        features: float (n, D), or (..., n, D) for problems of equal size that are solved at once; where a tensor lies, it is solved.
        labels: int (n,) or (..., n), in [0, n_classes).
        start: weight and bias to begin with; None = noughts.

    Returns:
        weight float64 (..., N, D) and bias (..., N).
    """
    x, y = torch.as_tensor(features, dtype=torch.float64), torch.as_tensor(labels)
    shape = *x.shape[:-2], n_classes, x.shape[-1]
    options: dict[str, Any] = {"dtype": torch.float64, "device": x.device}
    weight, bias = start or (torch.zeros(shape, **options), torch.zeros(shape[:-1], **options))
    weight, bias = (value.detach().clone().requires_grad_() for value in (weight, bias))
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=max_iter, tolerance_grad=1e-8, history_size=20, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        logits = x @ weight.mT + bias[..., None, :]
        value = F.cross_entropy(logits.flatten(0, -2), y.flatten(), reduction="sum") + l2 / 2 * weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)  # type: ignore[arg-type]
    return weight.detach(), bias.detach()


def knn(
    features: np.ndarray,
    labels: np.ndarray,
    queries: np.ndarray,
    n_classes: int,
    k: int = 20,
    temperature: float = 0.07,
) -> np.ndarray:
    """Votes of the ``k`` nearest, each with weight exp(cosine / temperature), as DINO and Wu et al. 2018 (section 3.4) have them.

    Args:
        features: float (n, D) of labelled images, of any length.
        labels: int (n,).
        queries: float (q, D).
        k: all where there are fewer.

    Returns:
        float32 (q, n_classes), shares of the votes.
    """
    bank, y = F.normalize(torch.from_numpy(features).float(), dim=-1), torch.from_numpy(np.asarray(labels, np.int64))
    votes = []
    for rows in slices(len(queries), BLOCK):
        cosines, nearest = (F.normalize(torch.from_numpy(queries[rows]).float(), dim=-1) @ bank.T).topk(
            min(k, len(bank))
        )
        weight = (cosines / temperature).softmax(-1)
        votes.append(torch.zeros(len(weight), n_classes).scatter_add_(1, y[nearest], weight))
    return torch.cat(votes).numpy()

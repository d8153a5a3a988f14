"""Shrunk linear discriminant analysis on features: a classifier in closed form, without seed, steps or a learning rate to choose."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from figment.learners.clip_head.head import Head

NEVER = -1e4  # the logit of a class that no image was seen of


@dataclass(frozen=True)
class Moments:
    """What the analysis has to know of labelled images: float64 sums, so that sets add up, with a weight for all images of one."""

    weights: Tensor  # (N,), of a class's images together
    squares: float  # of the weights of the images
    sums: Tensor  # (N, D), of a class's unit features
    products: Tensor  # (D, D), of unit features with themselves

    @classmethod
    def of(cls, features: np.ndarray, labels: np.ndarray, n_classes: int) -> Moments:
        """Of features float (m, D), of any length and normalised here, and labels int (m,) in [0, n_classes)."""
        x = F.normalize(torch.tensor(np.asarray(features), dtype=torch.float64), dim=-1)
        y = torch.tensor(np.asarray(labels, np.int64))
        counts = torch.bincount(y, minlength=n_classes)
        sums = torch.zeros(n_classes, x.shape[1], dtype=x.dtype).index_add_(0, y, x)
        return cls(counts.to(x.dtype), float(len(x)), sums, _products(x))

    def times(self, weight: float) -> Moments:
        """The same images, each of that weight."""
        return Moments(self.weights * weight, self.squares * weight**2, self.sums * weight, self.products * weight)

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            self.weights + other.weights,
            self.squares + other.squares,
            self.sums + other.sums,
            self.products + other.products,
        )

    def head(self) -> Head:
        """Linear discriminant analysis with equal priors, its covariance shrunk as OAS says (Chen et al. 2010, equation 23).

        The pooled covariance of the classes has m - N degrees of freedom and shrinks towards a multiple of the identity; with one
        image a class there is none, and the nearest class mean decides. Differences of logits are log-odds. Where images differ in
        weight, m is the number of equal ones that tell as much (Kish 1965). A class without images is never predicted.
        """
        n_classes, d = self.sums.shape
        there = self.weights > 0
        weights = torch.where(there, self.weights, 1.0)
        means = self.sums / weights[:, None]  # (N, D)
        middle = means[there].mean(0)
        weight = float(self.weights.sum())
        effective = weight**2 / self.squares
        freedom = effective - int(there.sum())
        centred = means - middle
        if freedom > 0:
            within = self.products - _products(self.sums / weights.sqrt()[:, None])  # without a mean a class
            share = weight * freedom / effective  # of the weight, what is left then
            factor = torch.linalg.cholesky_ex(_shrunk(within / share, freedom)).L
            towards = torch.cholesky_solve(centred.T, factor).T  # (N, D)
        else:
            towards = centred
        bias = -0.5 * (towards * centred).sum(1) - towards @ middle
        head = Head(n_features=d, n_classes=n_classes)
        with torch.no_grad():
            head.linear.weight.copy_(torch.where(there[:, None], towards, 0.0))
            head.linear.bias.copy_(torch.where(there, bias, NEVER))
        return head


def discriminant(features: np.ndarray, labels: np.ndarray, n_classes: int) -> Head:
    """The head of one set of images: see `Moments`."""
    return Moments.of(features, labels, n_classes).head()


def _shrunk(covariance: Tensor, n: float) -> Tensor:
    """The oracle approximating shrinkage of a covariance (D, D) that has n degrees of freedom."""
    d = len(covariance)
    trace, of_square = covariance.trace(), covariance.square().sum()
    above = (1 - 2 / d) * of_square + trace**2
    below = (n + 1 - 2 / d) * (of_square - trace**2 / d)
    share = 1.0 if below <= 0 else min(1.0, float(above / below))
    scale = max(float(trace) / d, torch.finfo(covariance.dtype).tiny)
    # All images of a class may be the same: then nothing varies but what sums of so many are rounded by, and that cannot be divided by.
    rounding = max(1e-12, 10 * n * torch.finfo(covariance.dtype).eps)
    return (1 - share) * covariance + (share * scale + rounding) * torch.eye(d, dtype=covariance.dtype)


def _products(x: Tensor) -> Tensor:
    """``x.T @ x``, (D, D). numpy gives it to BLAS as the symmetric product that it is, half the work; torch does not."""
    a = x.numpy()
    return torch.from_numpy(a.T @ a)

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
    squares: float  # the sum of all images' squared weights
    means: Tensor  # (N, D) of unit features
    within: Tensor  # (D, D): weighted squares of what is left of a feature without its class's mean

    @classmethod
    def of(cls, features: np.ndarray, labels: np.ndarray, n_classes: int) -> Moments:
        """Of features float (m, D), of any length and normalised here, and labels int (m,) in [0, n_classes)."""
        x = F.normalize(torch.tensor(np.asarray(features), dtype=torch.float64), dim=-1)
        y = torch.tensor(np.asarray(labels, np.int64))
        counts = torch.bincount(y, minlength=n_classes)
        sums = torch.zeros(n_classes, x.shape[1], dtype=x.dtype).index_add_(0, y, x)
        means = sums / counts.clamp(min=1)[:, None]
        within = x - means[y]
        return cls(counts.to(x.dtype), float(len(x)), means, within.T @ within)

    def times(self, weight: float) -> Moments:
        """The same images, each of that weight."""
        return Moments(self.weights * weight, self.squares * weight**2, self.means, self.within * weight)

    def __add__(self, other: Moments) -> Moments:
        weights = self.weights + other.weights
        total = weights.clamp(min=torch.finfo(weights.dtype).tiny)
        means = (self.weights[:, None] * self.means + other.weights[:, None] * other.means) / total[:, None]
        apart = self.means - other.means
        between = (apart.T * (self.weights * other.weights / total)) @ apart
        return Moments(weights, self.squares + other.squares, means, self.within + other.within + between)

    def head(self) -> Head:
        """Linear discriminant analysis with equal priors, its covariance shrunk as OAS says (Chen et al. 2010, equation 23).

        The pooled covariance of the classes has m - N degrees of freedom and shrinks towards a multiple of the identity; with one
        image a class there is none, and the nearest class mean decides. Differences of logits are log-odds. Where images differ in
        weight, m is the number of equal ones that tell as much (Kish 1965). A class without images is never predicted.
        """
        n_classes, d = self.means.shape
        there = self.weights > 0
        middle = self.means[there].mean(0)
        weight = float(self.weights.sum())
        effective = weight**2 / self.squares
        freedom = effective - int(there.sum())
        share = weight * freedom / effective  # of the weight, what is left of it without a mean a class
        covariance = _shrunk(self.within / share, freedom) if freedom > 0 else torch.eye(d, dtype=self.means.dtype)
        centred = self.means - middle
        weights = torch.linalg.solve(covariance, centred.T).T  # (N, D)
        bias = -0.5 * (weights * centred).sum(1) - weights @ middle
        head = Head(n_features=d, n_classes=n_classes)
        with torch.no_grad():
            head.linear.weight.copy_(torch.where(there[:, None], weights, 0.0))
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
    # All images of a class may be the same: then nothing varies, and a covariance of zeros cannot be divided by.
    return (1 - share) * covariance + (share * scale + 1e-12) * torch.eye(d, dtype=covariance.dtype)

"""Softmax regression on features held in memory: its gradient written down, its optimiser in a few lines.

The encoder is frozen, so a training step is one small matrix product. What costs time is everything around it: so there
is no data loader, targets are worked out once, and nothing is recorded by autograd.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from figment.classify.head import Head
from figment.classify.losses import cross_entropy_and_gradient, soft_targets
from figment.classify.settings import TuneSettings
from figment.errors import FigmentError

BETAS, EPS = (0.9, 0.999), 1e-8  # AdamW's


def schedule(learning_rate: float, warmup_steps: int, steps: int) -> list[float]:
    """The learning rate of each step: a linear rise over ``warmup_steps``, then half a cosine down to 0.

    Raises FigmentError where the warm-up is as long as the training or longer.
    """
    if warmup_steps >= steps:
        raise FigmentError(
            f"warmup_steps is {warmup_steps}, but the training has {steps} steps in all, so the learning rate would "
            f"never come down. Set warmup_steps below {steps} (0 is usual for a head), or train for more epochs or "
            "with a smaller batch_size."
        )
    rise = [learning_rate * (step + 1) / warmup_steps for step in range(warmup_steps)]
    left = steps - warmup_steps
    return rise + [learning_rate * 0.5 * (1 + math.cos(math.pi * step / left)) for step in range(left)]


class AdamW:
    """AdamW on one matrix, with clipping and the schedule: in so small a step, torch's own is mostly overhead."""

    def __init__(self, weights: Tensor, settings: TuneSettings, steps: int) -> None:
        self.weights, self.settings = weights, settings
        self.rates = schedule(settings.learning_rate, settings.warmup_steps, steps)
        self.mean, self.square = torch.zeros_like(weights), torch.zeros_like(weights)
        self.done = 0

    def step(self, gradient: Tensor) -> float:
        """One update in place; the learning rate it was made with."""
        rate, (beta1, beta2) = self.rates[self.done], BETAS
        self.done += 1
        gradient *= (self.settings.grad_clip / (torch.linalg.vector_norm(gradient) + 1e-6)).clamp(max=1.0)
        self.mean.lerp_(gradient, 1 - beta1)
        self.square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        spread = self.square.sqrt().div_(math.sqrt(1 - beta2**self.done)).add_(EPS)
        self.weights.mul_(1 - rate * self.settings.weight_decay)
        self.weights.addcdiv_(self.mean, spread, value=-rate / (1 - beta1**self.done))
        return rate


@dataclass(frozen=True)
class Term:
    """A part of the loss: ``weight`` times the cross-entropy to ``targets`` (n, N) at ``temperature``."""

    weight: float
    targets: Tensor
    temperature: float = 1.0


def loss_terms(x: Tensor, y: Tensor, teacher: Tensor, settings: TuneSettings) -> list[Term]:
    """The loss ``soft_weight * SCE + (1 - soft_weight) * CE``, with targets worked out once for every picture.

    Cross-entropy is linear in its targets, so both parts are one wherever the student's temperature is 1.
    """
    weight, smoothing = settings.soft_weight, settings.label_smoothing
    hard = F.one_hot(y, len(teacher)).float() * (1 - smoothing) + smoothing / len(teacher)
    if weight == 0:
        return [Term(1.0, hard)]
    soft = soft_targets(x @ teacher.T, settings.temperature)
    if settings.symmetric_temperature:
        return [Term(weight, soft, settings.temperature), Term(1 - weight, hard)]
    return [Term(1.0, weight * soft + (1 - weight) * hard)]


def loss_and_gradient(weights: Tensor, x: Tensor, terms: list[Term], batch: Tensor) -> tuple[Tensor, Tensor]:
    """The mean loss of the pictures ``batch`` (B,) with features ``x`` (B, D + 1), and its gradient (N, D + 1)."""
    logits = x @ weights.T  # (B, N)
    loss, slope = torch.zeros((), device=x.device), torch.zeros_like(logits)
    for term in terms:
        part, part_slope = cross_entropy_and_gradient(logits, term.targets[batch], term.temperature)
        loss, slope = loss + term.weight * part, slope.add_(part_slope, alpha=term.weight)
    return loss, slope.T @ x


def matrix_of(head: Head) -> Tensor:
    """A copy of the head's weights with the bias as one more column: float32 (N, D + 1)."""
    return torch.cat([head.linear.weight, head.linear.bias[:, None]], dim=1).detach()


def with_matrix(head: Head, weights: Tensor) -> Head:
    """A copy of ``head`` with the weights and bias of such a matrix."""
    head = copy.deepcopy(head)
    head.linear.weight.copy_(weights[:, :-1])
    head.linear.bias.copy_(weights[:, -1])
    return head


def tensors_of(head: Head, features: np.ndarray, labels: np.ndarray, what: str) -> tuple[Tensor, Tensor]:
    """Unit features and a 1 for the bias, float32 (n, D + 1), and labels int64 (n,), once they prove to be sound."""
    features, labels = np.asarray(features, dtype=np.float32), np.asarray(labels, dtype=np.int64)
    n_classes, n_features = head.linear.weight.shape
    if features.ndim != 2 or features.shape[1] != n_features or labels.shape != (len(features),) or not len(features):
        raise FigmentError(
            f"The {what} features have shape {features.shape} and the labels {labels.shape}; needed are "
            f"(n, {n_features}) and (n,), with n at least 1. Encode the pictures with the encoder of the classifier."
        )
    if labels.min() < 0 or labels.max() >= n_classes:
        raise FigmentError(
            f"The {what} labels run from {labels.min()} to {labels.max()}; the classifier has {n_classes} classes, so "
            f"they must lie in 0 to {n_classes - 1}. Check that the pictures and the classifier are of the same task."
        )
    broken = int((~np.isfinite(features).all(axis=1)).sum())
    if broken:
        raise FigmentError(
            f"{broken} of {len(features)} {what} features are NaN or infinite, and would spoil every weight. "
            "Drop those pictures, or encode them again in float32."
        )
    unit = F.normalize(torch.tensor(features, device=head.linear.weight.device), dim=-1)
    return F.pad(unit, (0, 1), value=1.0), torch.tensor(labels, device=unit.device)


def accuracy_of(weights: Tensor, x: Tensor, y: Tensor) -> float:
    """Share of the pictures ``x`` (m, D + 1) that go to their class in ``y`` (m,)."""
    return ((x @ weights.T).argmax(dim=-1) == y).float().mean().item()

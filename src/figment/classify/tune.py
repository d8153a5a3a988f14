"""Tuning a head on features held in memory (He et al. 2023, section 3.2 and appendix C).

The encoder is frozen, so a picture is encoded once and a training step is one small matrix product. Then what costs
time is everything around it: so there is no data loader, the soft targets are worked out once, and the gradient of
softmax regression is written down instead of recorded by autograd.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from figment.classify.head import Head
from figment.classify.losses import cross_entropy_and_gradient, soft_targets
from figment.classify.settings import TuneSettings
from figment.errors import FigmentError

FEW_SHOT_STEPS = 300  # at least; see `tune_few_shot`
BETAS, EPS = (0.9, 0.999), 1e-8  # AdamW's


@dataclass(frozen=True)
class Tuned:
    """A tuned head and how it got there: one dict an epoch with ``epoch`` (from 1), ``loss`` (mean over its pictures),
    ``learning_rate`` (of its last step) and ``val_accuracy`` (in [0, 1], or None without validation pictures)."""

    head: Head
    history: list[dict[str, Any]]


@torch.no_grad()
def tune(
    head: Head,
    features: np.ndarray,
    labels: np.ndarray,
    settings: TuneSettings,
    seed: int,
    *,
    teacher: Head | None = None,
    val: tuple[np.ndarray, np.ndarray] | None = None,
    min_steps: int = 0,
) -> Tuned:
    """Train a copy of ``head``, which itself stays as it is. On a CPU, the same seed gives bitwise the same weights.

    The loss is ``soft_weight * SCE + (1 - soft_weight) * CE``, where SCE is `soft_target_cross_entropy` to the teacher.

    Args:
        head: where to start; its device is the one used.
        features: float (n, D), of any length.
        labels: int (n,) in [0, N).
        settings: see `TuneSettings`.
        seed: of the order of the pictures, the only thing that chance decides.
        teacher: whose probabilities are the soft targets; without one, ``head`` as it was before training.
        val: validation features (m, D) and labels (m,): real pictures, and never the test ones.
        min_steps: where the epochs give fewer steps than this, there are as many more epochs as it takes.

    Raises:
        FigmentError: for arrays that do not fit or are not finite, ``select="validation"`` without ``val``, or a
            warm-up that would not end.
    """
    if settings.select == "validation" and val is None:
        raise FigmentError(
            "select: validation keeps the best epoch on validation pictures, and there are none. "
            "Give some real pictures that are not the test ones, or set select: last."
        )
    x, y = _tensors(head, features, labels, "training")
    seen = None if val is None else _tensors(head, *val, "validation")
    terms = _terms(x, y, _matrix(head if teacher is None else teacher).to(x.device), settings)
    steps_an_epoch = math.ceil(len(x) / settings.batch_size)
    epochs = max(settings.epochs, math.ceil(min_steps / steps_an_epoch))
    optimizer = _AdamW(_matrix(head), settings, epochs * steps_an_epoch)
    order = torch.Generator().manual_seed(seed)
    history: list[dict[str, Any]] = []
    best_accuracy, best = -1.0, None
    for epoch in range(1, epochs + 1):
        loss = torch.zeros((), device=x.device)  # a tensor until the epoch ends: a GPU need not wait at every step
        for batch in torch.randperm(len(x), generator=order).to(x.device).split(settings.batch_size):
            batch_loss, gradient = _loss_and_gradient(optimizer.weights, x[batch], terms, batch)
            rate = optimizer.step(gradient)
            loss += batch_loss * (len(batch) / len(x))
        val_accuracy = None if seen is None else _accuracy(optimizer.weights, *seen)
        history.append({"epoch": epoch, "loss": loss.item(), "learning_rate": rate, "val_accuracy": val_accuracy})
        if settings.select == "validation" and val_accuracy is not None and val_accuracy > best_accuracy:
            best_accuracy, best = val_accuracy, optimizer.weights.clone()
    return Tuned(_with_matrix(head, optimizer.weights if best is None else best), history)


def tune_few_shot(head: Head, features: np.ndarray, labels: np.ndarray, seed: int, settings: TuneSettings) -> Head:
    """Tune on a few real pictures: `tune` with plain cross-entropy and batches of 32, for 300 steps at the least.

    Batches of 32 are He et al.'s for real pictures. One picture a class fits in one of them, so 30 epochs would be 30
    steps, after which AdamW has hardly moved the head: the curve of real pictures would start too low, and generated
    ones would look worth more than they are. 300 steps are about what generated pictures get by default (30 epochs of
    4,000 pictures in batches of 512 are 240), so that neither side wins by training longer. The number comes from that
    count and from no test set.

    Args:
        head: where to start, usually the zero-shot classifier.
        features: float (n, D).
        labels: int (n,).
        seed: of the order of the pictures.
        settings: those of the run it is to be compared with. The learning rate decides how far 300 steps lead, so
            choose it on validation pictures. There are no soft targets, no warm-up, and the last epoch is kept.
    """
    few = {"batch_size": 32, "soft_weight": 0.0, "warmup_steps": 0, "select": "last"}
    return tune(head, features, labels, settings.model_copy(update=few), seed, min_steps=FEW_SHOT_STEPS).head


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


class _AdamW:
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
class _Term:
    """A part of the loss: ``weight`` times the cross-entropy to ``targets`` (n, N) at ``temperature``."""

    weight: float
    targets: Tensor
    temperature: float = 1.0


def _terms(x: Tensor, y: Tensor, teacher: Tensor, settings: TuneSettings) -> list[_Term]:
    """The loss ``soft_weight * SCE + (1 - soft_weight) * CE``, with targets worked out once for every picture.

    Cross-entropy is linear in its targets, so both parts are one wherever the student's temperature is 1.
    """
    weight, smoothing = settings.soft_weight, settings.label_smoothing
    hard = F.one_hot(y, len(teacher)).float() * (1 - smoothing) + smoothing / len(teacher)
    if weight == 0:
        return [_Term(1.0, hard)]
    soft = soft_targets(x @ teacher.T, settings.temperature)
    if settings.symmetric_temperature:
        return [_Term(weight, soft, settings.temperature), _Term(1 - weight, hard)]
    return [_Term(1.0, weight * soft + (1 - weight) * hard)]


def _loss_and_gradient(weights: Tensor, x: Tensor, terms: list[_Term], batch: Tensor) -> tuple[Tensor, Tensor]:
    """The mean loss of the pictures ``batch`` (B,) with features ``x`` (B, D + 1), and its gradient (N, D + 1)."""
    logits = x @ weights.T  # (B, N)
    loss, slope = torch.zeros((), device=x.device), torch.zeros_like(logits)
    for term in terms:
        part, part_slope = cross_entropy_and_gradient(logits, term.targets[batch], term.temperature)
        loss, slope = loss + term.weight * part, slope.add_(part_slope, alpha=term.weight)
    return loss, slope.T @ x


def _matrix(head: Head) -> Tensor:
    """A copy of the head's weights with the bias as one more column: float32 (N, D + 1)."""
    return torch.cat([head.linear.weight, head.linear.bias[:, None]], dim=1).detach()


def _with_matrix(head: Head, weights: Tensor) -> Head:
    """A copy of ``head`` with the weights and bias of such a matrix."""
    head = copy.deepcopy(head)
    head.linear.weight.copy_(weights[:, :-1])
    head.linear.bias.copy_(weights[:, -1])
    return head


def _tensors(head: Head, features: np.ndarray, labels: np.ndarray, what: str) -> tuple[Tensor, Tensor]:
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


def _accuracy(weights: Tensor, x: Tensor, y: Tensor) -> float:
    """Share of the pictures ``x`` (m, D + 1) that go to their class in ``y`` (m,)."""
    return ((x @ weights.T).argmax(dim=-1) == y).float().mean().item()

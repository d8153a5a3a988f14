"""Tuning a head on features held in memory (He et al. 2023, section 3.2 and appendix C).

The encoder is frozen, so a picture is encoded once and a training step is one small matrix product. Then what costs
time is everything around it; hence no data loader, no module but the head, and soft targets worked out once.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from figment.classify.head import Head
from figment.classify.losses import cross_entropy_to, soft_targets
from figment.classify.settings import FEW_SHOT, TuneSettings
from figment.errors import FigmentError

FEW_SHOT_STEPS = 300  # at least; see `tune_few_shot`


@dataclass(frozen=True)
class Tuned:
    """A tuned head and how it got there: one dict an epoch with ``epoch`` (from 1), ``loss`` (mean over its pictures),
    ``learning_rate`` (of its last step) and ``val_accuracy`` (in [0, 1], or None without validation pictures)."""

    head: Head
    history: list[dict[str, Any]]


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
    soft = _soft_targets(teacher or head, features, settings, x.device)
    steps_an_epoch = math.ceil(len(x) / settings.batch_size)
    epochs = max(settings.epochs, math.ceil(min_steps / steps_an_epoch))
    rates = iter(schedule(settings.learning_rate, settings.warmup_steps, epochs * steps_an_epoch))

    head = copy.deepcopy(head)
    optimizer = torch.optim.AdamW(
        head.parameters(), betas=(0.9, 0.999), eps=1e-8, weight_decay=settings.weight_decay, fused=True
    )
    order = torch.Generator().manual_seed(seed)
    history: list[dict[str, Any]] = []
    best_accuracy, best_state = -1.0, None
    for epoch in range(1, epochs + 1):
        batches = torch.randperm(len(x), generator=order).to(x.device).split(settings.batch_size)
        loss = _train_epoch(head, optimizer, batches, rates, x, y, soft, settings)
        rate = optimizer.param_groups[0]["lr"]
        val_accuracy = None if seen is None else _accuracy(head, *seen)
        history.append({"epoch": epoch, "loss": loss, "learning_rate": rate, "val_accuracy": val_accuracy})
        if settings.select == "validation" and val_accuracy is not None and val_accuracy > best_accuracy:
            best_accuracy, best_state = val_accuracy, copy.deepcopy(head.state_dict())
    if best_state is not None:
        head.load_state_dict(best_state)
    return Tuned(head, history)


def tune_few_shot(
    head: Head, features: np.ndarray, labels: np.ndarray, seed: int, settings: TuneSettings = FEW_SHOT
) -> Head:
    """Tune on a few real pictures: `tune` with plain cross-entropy, for 30 epochs or 300 steps, whichever is more.

    One picture a class fits in one batch, so 30 epochs are 30 steps there, and at a step size of 1e-3 AdamW has hardly
    moved the head by then: the curve of real pictures would start too low, and generated ones would look worth more
    than they are. 300 steps are what 30 epochs give for 320 pictures (16 shots of 20 classes), where the recipe is at
    home. The number comes from that count and from no test set.

    Args:
        head: where to start, usually the zero-shot classifier.
        features: float (n, D).
        labels: int (n,).
        seed: of the order of the pictures.
        settings: choose others on validation pictures only. ``soft_weight`` is taken as 0; the last epoch stays.
    """
    settings = settings.model_copy(update={"soft_weight": 0.0, "select": "last"})
    return tune(head, features, labels, settings, seed, min_steps=FEW_SHOT_STEPS).head


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


def _train_epoch(
    head: Head,
    optimizer: torch.optim.Optimizer,
    batches: Sequence[Tensor],
    rates: Iterator[float],
    x: Tensor,
    y: Tensor,
    soft: Tensor | None,
    settings: TuneSettings,
) -> float:
    """One pass over the pictures; the mean loss of a picture. It stays a tensor until the end: a GPU need not wait."""
    total = torch.zeros((), device=x.device)
    for batch in batches:
        optimizer.param_groups[0]["lr"] = next(rates)
        # `x` is of unit length already, so the head's own normalisation is left out.
        loss = _loss(head.linear(x[batch]), y[batch], None if soft is None else soft[batch], settings)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(head.parameters(), settings.grad_clip)
        optimizer.step()
        total += loss.detach() * len(batch)
    return total.item() / len(x)


def _loss(logits: Tensor, labels: Tensor, soft: Tensor | None, settings: TuneSettings) -> Tensor:
    """``soft_weight * SCE + (1 - soft_weight) * CE`` of one batch; a term of no weight is not computed."""
    weight, losses = settings.soft_weight, []
    if soft is not None:
        student_temperature = settings.temperature if settings.symmetric_temperature else 1.0
        losses.append(weight * cross_entropy_to(soft, logits, student_temperature))
    if weight < 1:
        losses.append((1 - weight) * F.cross_entropy(logits, labels, label_smoothing=settings.label_smoothing))
    return torch.stack(losses).sum()


def _soft_targets(teacher: Head, features: np.ndarray, settings: TuneSettings, device: torch.device) -> Tensor | None:
    """The teacher's probabilities (n, N), or None where nothing will look at them."""
    if settings.soft_weight == 0:
        return None
    return soft_targets(torch.from_numpy(teacher.predict(features)), settings.temperature).to(device)


def _tensors(head: Head, features: np.ndarray, labels: np.ndarray, what: str) -> tuple[Tensor, Tensor]:
    """Unit features float32 (n, D) and labels int64 (n,) on the head's device, once they are known to be sound."""
    features, labels = np.asarray(features, dtype=np.float32), np.asarray(labels, dtype=np.int64)
    n_classes, n_features = head.linear.weight.shape
    if features.ndim != 2 or features.shape[1] != n_features or labels.shape != (len(features),) or not len(features):
        raise FigmentError(
            f"The {what} features have shape {features.shape} and the labels {labels.shape}; needed are "
            f"(n, {n_features}) and (n,), with n at least 1. Encode the pictures with the encoder the classifier was made "
            "with."
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
    device = head.linear.weight.device
    return F.normalize(torch.tensor(features, device=device), dim=-1), torch.tensor(labels, device=device)


@torch.inference_mode()
def _accuracy(head: Head, x: Tensor, y: Tensor) -> float:
    """Share of unit features ``x`` (m, D) that go to their class in ``y`` (m,)."""
    return (head.linear(x).argmax(dim=-1) == y).float().mean().item()

"""Tuning a head on features held in memory (He et al. 2023, section 3.2 and appendix C).

The encoder is frozen, so an image is encoded once, and what is left is softmax regression: see `figment.learners.clip_head.linear`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from figment.learners.clip_head.head import Head
from figment.learners.clip_head.linear import (
    AdamW,
    accuracy_of,
    loss_and_gradient,
    loss_terms,
    matrix_of,
    tensors_of,
    with_matrix,
)
from figment.learners.clip_head.settings import TuneSettings
from figment.learners.training import n_epochs, needs_validation

FEW_SHOT_STEPS = 300  # at least; see `tune_few_shot`


@dataclass(frozen=True)
class Tuned:
    """A tuned head and how it got there: one dict an epoch with ``epoch`` (from 1), ``loss`` (mean over its images),
    ``learning_rate`` (of its last step) and ``val_accuracy`` (in [0, 1], or None without validation images)."""

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
        seed: of the order of the images, the only thing that chance decides.
        teacher: whose probabilities are the soft targets; without one, ``head`` as it was before training.
        val: validation features (m, D) and labels (m,): real images, and never the test ones, unless ``select`` is
            "test_best", which reproduces those who chose the epoch on them; then whoever calls says that it did.
        min_steps: where the epochs give fewer steps than this, there are as many more epochs as it takes.

    Raises:
        FigmentError: for arrays that do not fit or are not finite, another ``select`` than "last" without ``val``, or
            a warm-up that would not end.
    """
    needs_validation(settings.select, val)
    x, y = tensors_of(head, features, labels, "training")
    seen = None if val is None else tensors_of(head, *val, "validation")
    terms = loss_terms(x, y, matrix_of(head if teacher is None else teacher).to(x.device), settings)
    steps_an_epoch = math.ceil(len(x) / settings.batch_size)
    epochs = n_epochs(settings.epochs, steps_an_epoch, min_steps)
    optimizer = AdamW(matrix_of(head), settings, epochs * steps_an_epoch)
    order = torch.Generator().manual_seed(seed)
    history: list[dict[str, Any]] = []
    best_accuracy, best = -1.0, None
    for epoch in range(1, epochs + 1):
        loss = torch.zeros((), device=x.device)  # a tensor until the epoch ends: a GPU need not wait at every step
        for batch in torch.randperm(len(x), generator=order).to(x.device).split(settings.batch_size):
            batch_loss, gradient = loss_and_gradient(optimizer.weights, x, terms, batch)
            rate = optimizer.step(gradient)
            loss.add_(batch_loss, alpha=len(batch) / len(x))
        val_accuracy = None if seen is None else accuracy_of(optimizer.weights, *seen)
        history.append({"epoch": epoch, "loss": loss.item(), "learning_rate": rate, "val_accuracy": val_accuracy})
        if settings.select != "last" and val_accuracy is not None and val_accuracy > best_accuracy:
            best_accuracy, best = val_accuracy, optimizer.weights.clone()
    return Tuned(with_matrix(head, optimizer.weights if best is None else best), history)


def tune_few_shot(head: Head, features: np.ndarray, labels: np.ndarray, seed: int, settings: TuneSettings) -> Head:
    """Tune on a few real images: `tune` with plain cross-entropy and batches of 32, for 300 steps at the least.

    Batches of 32 are He et al.'s for real images. One image a class fits in one of them, so 30 epochs would be 30
    steps, after which AdamW has hardly moved the head: the curve of real images would start too low, and generated
    ones would look worth more than they are. 300 steps are about what generated images get by default (30 epochs of
    4,000 images in batches of 512 are 240), so that neither side wins by training longer. The number comes from that
    count and from no test set.

    Args:
        head: where to start, usually the zero-shot classifier.
        features: float (n, D).
        labels: int (n,).
        seed: of the order of the images.
        settings: those of the run it is to be compared with. The learning rate decides how far 300 steps lead, so
            choose it on validation images. There are no soft targets, no warm-up, and the last epoch is kept.
    """
    few = {"batch_size": 32, "soft_weight": 0.0, "warmup_steps": 0, "select": "last"}
    return tune(head, features, labels, settings.model_copy(update=few), seed, min_steps=FEW_SHOT_STEPS).head

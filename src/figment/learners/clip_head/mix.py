"""Training on a few real images and many generated ones (He et al. 2023, section 4.2 and Table 7)."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

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
from figment.learners.clip_head.settings import MixSettings
from figment.learners.clip_head.tune import Tuned, tune
from figment.learners.training import n_epochs, needs_validation

Labelled = tuple[np.ndarray, np.ndarray]


def tune_mixed(
    head: Head,
    real: Labelled,
    synthetic: Labelled,
    settings: MixSettings,
    seed: int,
    *,
    teacher: Head | None = None,
    val: Labelled | None = None,
    min_steps: int = 0,
) -> Tuned:
    """Train a copy of ``head`` on both kinds of images, in the order that ``settings.order`` names.

    "mix" takes one batch of each kind a step, with the loss
    ``real_weight * CE(real) + synthetic_weight * (soft_weight * SCE + (1 - soft_weight) * CE)(synthetic)``. An epoch is one
    pass over the generated images; the real ones go round and round, in a new order at each turn. The two other orders
    are a whole training on one kind and then on the other, each with a schedule of its own.

    Args:
        head: where to start, usually the zero-shot classifier.
        real: features float (n, D) and labels int (n,).
        synthetic: features float (m, D) and labels int (m,).
        settings: see `MixSettings`.
        seed: of the order of the images.
        teacher: whose probabilities are the soft targets of the generated images; without one, ``head`` as given.
        val: validation features and labels, for ``select="validation"``, or the test ones for "test_best": see `tune`.
        min_steps: where "mix" would take fewer steps than this, there are as many more epochs as it takes.

    Raises FigmentError for arrays that do not fit the head or are not finite, and as `tune` does.
    """
    teacher = teacher or head
    if settings.order == "mix":
        return _mixed(head, real, synthetic, settings, seed, teacher, val, min_steps)
    on_real = settings.model_copy(update={"batch_size": settings.real_batch_size, "soft_weight": 0.0})
    first, second = ((synthetic, settings), (real, on_real))
    if settings.order == "real_then_synthetic":
        first, second = second, first
    before = tune(head, *first[0], first[1], seed, teacher=teacher, val=val)
    after = tune(before.head, *second[0], second[1], seed, teacher=teacher, val=val)
    return Tuned(after.head, before.history + after.history)


@torch.no_grad()
def _mixed(
    head: Head,
    real: Labelled,
    synthetic: Labelled,
    s: MixSettings,
    seed: int,
    teacher: Head,
    val: Labelled | None,
    min_steps: int,
) -> Tuned:
    needs_validation(s.select, val)
    real_x, real_y = tensors_of(head, *real, "real")
    x, y = tensors_of(head, *synthetic, "synthetic")
    seen = None if val is None else tensors_of(head, *val, "validation")
    hard = s.model_copy(update={"soft_weight": 0.0})
    teacher_matrix = matrix_of(teacher).to(x.device)
    real_terms, terms = loss_terms(real_x, real_y, teacher_matrix, hard), loss_terms(x, y, teacher_matrix, s)
    steps_an_epoch = math.ceil(len(x) / s.batch_size)
    epochs = n_epochs(s.epochs, steps_an_epoch, min_steps)
    optimizer = AdamW(matrix_of(head), s, epochs * steps_an_epoch)
    order = torch.Generator().manual_seed(seed)
    real_batches = round_and_round(len(real_x), s.real_batch_size, torch.Generator().manual_seed(seed + 1))
    history = []
    best_accuracy, best = -1.0, None
    for epoch in range(1, epochs + 1):
        loss = torch.zeros((), device=x.device)
        for batch in torch.randperm(len(x), generator=order).to(x.device).split(s.batch_size):
            own = next(real_batches).to(x.device)
            real_loss, real_gradient = loss_and_gradient(optimizer.weights, real_x, real_terms, own)
            made_loss, made_gradient = loss_and_gradient(optimizer.weights, x, terms, batch)
            rate = optimizer.step(s.real_weight * real_gradient + s.synthetic_weight * made_gradient)
            loss += (s.real_weight * real_loss + s.synthetic_weight * made_loss) * (len(batch) / len(x))
        val_accuracy = None if seen is None else accuracy_of(optimizer.weights, *seen)
        history.append({"epoch": epoch, "loss": loss.item(), "learning_rate": rate, "val_accuracy": val_accuracy})
        if s.select != "last" and val_accuracy is not None and val_accuracy > best_accuracy:
            best_accuracy, best = val_accuracy, optimizer.weights.clone()
    return Tuned(with_matrix(head, optimizer.weights if best is None else best), history)


def round_and_round(n: int, size: int, order: torch.Generator) -> Iterator[Tensor]:
    """Batches of positions in [0, n), int64 (<= size,), each turn over all of them in a new order."""
    while True:
        yield from torch.randperm(n, generator=order).split(size)

"""Tuning a head on features held in memory (He et al. 2023, section 3.2 and appendix C).

The encoder is frozen, so an image is encoded once, and what is left is softmax regression: see `figment.learners.clip_head.linear`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from figment.errors import FigmentError
from figment.learners.clip_head.head import Head
from figment.learners.clip_head.linear import checked_labels, matrix_of, tensors_of, unit_rows, with_matrix
from figment.learners.clip_head.settings import MixSettings, TuneSettings
from figment.learners.clip_head.together import Part, Plan, plan, teacher_probabilities, train_together
from figment.learners.training import needs_validation


@dataclass(frozen=True)
class Tuned:
    """A tuned head and how it got there: one dict an epoch with ``epoch`` (from 1), ``loss`` (mean over its images),
    ``learning_rate`` (of its last step) and ``val_accuracy`` (in [0, 1], or None without validation images)."""

    head: Head
    history: list[dict[str, Any]]


@dataclass(frozen=True)
class Chosen:
    """What one of many trainings learns from: ``rows`` int (n,) of features that all share, which may repeat, and their
    ``labels`` int (n,), which may be others than another training's."""

    rows: np.ndarray
    labels: np.ndarray


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
    part = Part(torch.arange(len(x)), y.cpu(), settings.batch_size, settings.soft_weight)
    plans = [plan([part], settings.epochs, seed, min_steps)]
    return train_plans([head], x, plans, settings, teacher=teacher or head, val=val)[0]


def tune_many(
    head: Head,
    features: np.ndarray,
    trainings: Sequence[Chosen],
    settings: TuneSettings,
    seeds: Sequence[int],
    *,
    teacher: Head | None = None,
    val: tuple[np.ndarray, np.ndarray] | None = None,
    min_steps: int = 0,
) -> list[Tuned]:
    """`tune` for many trainings at once, on rows of the same features float (n, D): each as it would be on its own.

    Weights differ from those of `tune` by rounding, 1e-5 at the most for weights up to 100. Trainings with the same number
    of steps run side by side, which is where the time goes down: for a few images each, to a tenth and less.
    """
    needs_validation(settings.select, val)
    x = shared_features(head, features)
    plans = [
        plan([part_of(head, len(x), t, settings.batch_size, settings.soft_weight)], settings.epochs, seed, min_steps)
        for t, seed in zip(trainings, seeds, strict=True)
    ]
    return train_plans([head] * len(plans), x, plans, settings, teacher=teacher or head, val=val)


def train_plans(
    heads: Sequence[Head],
    x: Tensor,
    plans: Sequence[Plan],
    settings: TuneSettings,
    *,
    teacher: Head,
    val: tuple[np.ndarray, np.ndarray] | None,
) -> list[Tuned]:
    """Copies of ``heads``, one a plan, trained on rows of x float32 (n, W)."""
    if not plans:
        return []
    seen = None if val is None else tensors_of(heads[0], *val, "validation")
    asked = any(bool(p.soft.any()) for p in plans)
    soft = teacher_probabilities(x, matrix_of(teacher).to(x.device), settings) if asked else None
    starts = torch.stack([matrix_of(head) for head in heads])
    trained = train_together(starts, x, soft, plans, settings, seen)
    return [Tuned(with_matrix(head, t.weights), t.history) for head, t in zip(heads, trained, strict=True)]


def shared_features(head: Head, features: np.ndarray) -> Tensor:
    """Features float (n, D) of many trainings as `tensors_of` has them. Raises FigmentError where they do not fit the head."""
    features = np.asarray(features)
    if features.ndim != 2 or features.shape[1] != head.linear.in_features or not len(features):
        raise FigmentError(
            f"The training features have shape {features.shape}; needed are (n, {head.linear.in_features}), with n at least 1."
            " Encode the images with the encoder of the classifier."
        )
    return unit_rows(features, "training", head.linear.weight.device)


def part_of(head: Head, n: int, chosen: Chosen, batch_size: int, soft_weight: float = 0.0, weight: float = 1.0) -> Part:
    """``chosen`` of n rows as a part of a plan, once it proves to be sound."""
    rows = np.array(chosen.rows, dtype=np.int64)
    if rows.ndim != 1 or not len(rows) or np.shape(chosen.labels) != rows.shape or rows.min() < 0 or rows.max() >= n:
        raise FigmentError(
            f"A training names rows of shape {rows.shape} and labels of shape {np.shape(chosen.labels)}; both must be (m,), with m at"
            f" least 1, and rows lie in 0 to {n - 1}, since there are features of {n} images."
        )
    labels = checked_labels(chosen.labels, head.linear.out_features, "training")
    return Part(torch.from_numpy(rows), torch.from_numpy(labels), batch_size, soft_weight, weight)


def tune_few_shot(head: Head, features: np.ndarray, labels: np.ndarray, seed: int, settings: MixSettings) -> Head:
    """Tune on a few real images: `tune` with plain cross-entropy, in batches of ``settings.real_batch_size`` and for
    ``settings.min_steps`` at the least.

    Args:
        head: where to start, usually the zero-shot classifier.
        features: float (n, D).
        labels: int (n,).
        seed: of the order of the images.
        settings: those of the run it is to be compared with. The learning rate decides how far so many steps lead, so
            choose it on validation images. There are no soft targets, no warm-up, and the last epoch is kept.
    """
    return tune(head, features, labels, few_shot(settings), seed, min_steps=settings.min_steps).head


def few_shot(settings: MixSettings) -> MixSettings:
    """``settings`` as `tune_few_shot` takes them."""
    few = {"batch_size": settings.real_batch_size, "soft_weight": 0.0, "warmup_steps": 0, "select": "last"}
    return settings.model_copy(update=few)

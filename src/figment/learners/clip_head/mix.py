"""Training on a few real images and many generated ones (He et al. 2023, section 4.2 and Table 7)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from figment.learners.clip_head.head import Head
from figment.learners.clip_head.linear import tensors_of
from figment.learners.clip_head.settings import MixSettings
from figment.learners.clip_head.together import Plan, plan
from figment.learners.clip_head.tune import Chosen, Tuned, part_of, shared_features, train_plans
from figment.learners.training import needs_validation

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

    Raises FigmentError for arrays that do not fit the head or are not finite, and as `tune` does.
    """
    needs_validation(settings.select, val)
    (made_x, made_y), (real_x, real_y) = tensors_of(head, *synthetic, "synthetic"), tensors_of(head, *real, "real")
    made = Chosen(np.arange(len(made_x)), made_y.cpu().numpy())
    own = Chosen(len(made_x) + np.arange(len(real_x)), real_y.cpu().numpy())
    x = torch.cat([made_x, real_x])
    return _mixed_many(head, x, [own], [made], settings, [seed], teacher or head, val)[0]


def tune_mixed_many(
    head: Head,
    features: np.ndarray,
    real: Sequence[Chosen],
    synthetic: Sequence[Chosen],
    settings: MixSettings,
    seeds: Sequence[int],
    *,
    teacher: Head | None = None,
    val: Labelled | None = None,
) -> list[Tuned]:
    """`tune_mixed` for many trainings at once, on rows of the same features float (n, D), as `tune_many` is to `tune`."""
    needs_validation(settings.select, val)
    x = shared_features(head, features)
    return _mixed_many(head, x, real, synthetic, settings, seeds, teacher or head, val)


def _mixed_many(
    head: Head,
    x: Tensor,
    real: Sequence[Chosen],
    synthetic: Sequence[Chosen],
    s: MixSettings,
    seeds: Sequence[int],
    teacher: Head,
    val: Labelled | None,
) -> list[Tuned]:
    n, mixed = len(x), s.order == "mix"
    made_weight, real_weight = (s.synthetic_weight, s.real_weight) if mixed else (1.0, 1.0)
    made = [part_of(head, n, c, s.batch_size, s.soft_weight, made_weight) for c in synthetic]
    own = [part_of(head, n, c, s.real_batch_size, weight=real_weight) for c in real]

    def train(heads: Sequence[Head], plans: list[Plan]) -> list[Tuned]:
        return train_plans(heads, x, plans, s, teacher=teacher, val=val)

    start = [head] * len(seeds)
    if mixed:
        pairs = zip(made, own, seeds, strict=True)
        return train(start, [plan(parts, s.epochs, seed, s.min_steps) for *parts, seed in pairs])
    first, second = (made, own) if s.order == "synthetic_then_real" else (own, made)
    before = train(start, [plan([p], s.epochs, seed) for p, seed in zip(first, seeds, strict=True)])
    after = train([t.head for t in before], [plan([p], s.epochs, seed) for p, seed in zip(second, seeds, strict=True)])
    return [Tuned(b.head, a.history + b.history) for a, b in zip(before, after, strict=True)]

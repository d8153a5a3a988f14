"""The multi-positive contrastive loss (Tian et al. 2023, StableRep, section 3.2), in memory that does not grow with the square of the batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from figment.learners.pretrain.gather import gather
from figment.learners.processes import Processes

CHUNK = 512  # rows of logits held at a time


def multi_positive(features: Tensor, groups: Tensor, temperature: float, on: Processes, chunk: int = CHUNK) -> Tensor:
    """Cross-entropy between what features say belongs together and what does: the images of one caption.

    For an image i, ``q`` is a softmax over all *other* images of the cosines to it by ``temperature``, and ``p`` is uniform
    over those of its own group. The loss is the mean of ``-sum_j p_j log q_j``. With two of each group it is SimCLR's
    NT-Xent; with m of each it cannot fall below ln(m - 1), and equal features of K images have ln(K - 1).

    Args:
        features: float (B, D) of this process, of any length.
        groups: int64 (B,), equal for images of one caption wherever they are in the batch, also in other processes.
        temperature: > 0.
        on: the images of all processes are negatives, or positives where they share a group.

    Returns:
        () float32: over the images of all processes its mean over processes is the loss. Images that are alone in their group
        have no ``p`` and are left out; where all are, the loss is 0.
    """
    own = F.normalize(features.float(), dim=-1)
    all_features, all_groups = gather(own, on), gather(groups, on)
    itself = torch.arange(len(own), device=own.device) + on.rank * len(own)
    return contrast(own / temperature, all_features, groups, all_groups, on, itself, chunk)


def contrast(
    rows: Tensor,
    columns: Tensor,
    row_groups: Tensor,
    column_groups: Tensor,
    on: Processes,
    itself: Tensor | None = None,
    chunk: int = CHUNK,
) -> Tensor:
    """The loss of rows against columns, whose logits are their products.

    Args:
        rows: float32 (B, D) of this process.
        columns: float32 (K, D) of all processes.
        row_groups, column_groups: int64 (B,) and (K,): a row's positives are the columns of its group.
        itself: int64 (B,), the column that is the row itself and counts as neither positive nor negative.

    Returns:
        () float32, see `multi_positive`.
    """
    with torch.autocast(rows.device.type, enabled=False):  # half precision would spoil what is divided by a temperature
        return _contrast(rows, columns, row_groups, column_groups, on, itself, chunk)


def _contrast(
    rows: Tensor,
    columns: Tensor,
    row_groups: Tensor,
    column_groups: Tensor,
    on: Processes,
    itself: Tensor | None,
    chunk: int,
) -> Tensor:
    names, place = torch.unique(torch.cat([row_groups, column_groups]), return_inverse=True)
    of_row, of_column = place[: len(rows)], place[len(rows) :]
    # The sum over positives of products is a product with their sum: no mask of B x K, whatever the captions are.
    sums = torch.zeros(len(names), columns.shape[1], device=columns.device).index_add(0, of_column, columns)
    positives, count = sums[of_row], torch.bincount(of_column, minlength=len(names))[of_row]
    if itself is not None:
        positives, count = positives - columns[itself], count - 1
    mean_positive = (rows * positives).sum(1) / count.clamp(min=1)
    has = count > 0
    total = on.sum(has.sum())  # of all processes, whose mean of sums is then the mean over images
    weights = has * on.world_size / total.clamp(min=1)
    left_out = torch.full((len(rows),), -1, device=rows.device) if itself is None else itself
    return _WeightedSum.apply(rows, columns, mean_positive, weights, left_out, chunk)


class _WeightedSum(torch.autograd.Function):
    """sum_i weights_i (log sum_k exp(row_i . column_k) - means_i) without the column ``left_out`` (-1: none), ``chunk`` rows at a time.

    Autograd would keep a softmax of B x K. Here the gradients are worked out as the logits pass by, which is once.
    """

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, columns: Tensor, means: Tensor, weights: Tensor, left_out: Tensor, chunk: int
    ) -> Tensor:
        of_rows = torch.empty_like(rows) if ctx.needs_input_grad[0] else None
        of_columns = torch.zeros_like(columns) if ctx.needs_input_grad[1] else None  # a teacher's have none
        sums = []
        for start in range(0, len(rows), chunk):
            part = slice(start, start + chunk)
            logits = _logits(rows[part], columns, left_out[part])
            highest = logits.amax(1)
            exponentials = logits.sub_(highest[:, None]).exp_()
            total = exponentials.sum(1)
            sums.append(highest + total.log())
            scale = (weights[part] / total)[:, None]  # makes them a softmax, where there are D columns and not K
            if of_rows is not None:
                of_rows[part] = (exponentials @ columns) * scale
            if of_columns is not None:
                of_columns.addmm_(exponentials.T, rows[part] * scale)
        ctx.save_for_backward(of_rows, of_columns, weights)
        return (weights * (torch.cat(sums) - means)).sum()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor, None, None, None]:
        of_rows, of_columns, weights = ctx.saved_tensors
        by = [None if one is None else one * grads[0] for one in (of_rows, of_columns)]
        return by[0], by[1], -weights * grads[0], None, None, None


def _logits(rows: Tensor, columns: Tensor, left_out: Tensor) -> Tensor:
    logits = rows @ columns.T
    has = (left_out >= 0).nonzero().squeeze(1)
    logits[has, left_out[has]] = -torch.inf
    return logits

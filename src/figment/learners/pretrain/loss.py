"""The multi-positive contrastive loss (Tian et al. 2023, StableRep, section 3.2), in memory that does not grow with the square of the batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from figment.learners.pretrain.gather import gather
from figment.learners.processes import Processes

CHUNK = 1024  # rows of logits held at a time


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
    left_out = torch.full((len(rows),), -1, device=rows.device) if itself is None else itself
    each: Tensor = _LogSumExp.apply(rows, columns, left_out, chunk) - mean_positive
    has = count > 0
    total = on.sum(has.sum())  # of all processes, whose mean of sums is then the mean over images
    return (each * has).sum() * on.world_size / total.clamp(min=1)


class _LogSumExp(torch.autograd.Function):
    """log sum_k exp(row . column_k) without the column ``left_out`` (-1: none), ``chunk`` rows at a time, forward and backward.

    Autograd would keep a softmax of B x K; here a backward pass takes the products once more.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, columns: Tensor, left_out: Tensor, chunk: int) -> Tensor:
        parts = [
            _logits(r, columns, o).logsumexp(1) for r, o in zip(rows.split(chunk), left_out.split(chunk), strict=True)
        ]
        result = torch.cat(parts)
        ctx.save_for_backward(rows, columns, left_out, result)
        ctx.chunk = chunk
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        rows, columns, left_out, result = ctx.saved_tensors
        of_rows, of_columns = torch.empty_like(rows), torch.zeros_like(columns)
        for start in range(0, len(rows), ctx.chunk):
            part = slice(start, start + ctx.chunk)
            softmax = (_logits(rows[part], columns, left_out[part]) - result[part, None]).exp_()
            softmax *= grads[0][part, None]
            of_rows[part] = softmax @ columns
            of_columns.addmm_(softmax.T, rows[part])
        return of_rows, of_columns, None, None


def _logits(rows: Tensor, columns: Tensor, left_out: Tensor) -> Tensor:
    logits = rows @ columns.T
    has = (left_out >= 0).nonzero().squeeze(1)
    logits[has, left_out[has]] = -torch.inf
    return logits

"""What several processes hold, put together so that a loss of one process sees the images of all."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from figment.learners.processes import Processes


class _Gather(torch.autograd.Function):
    """Forward: the parts of all processes, in order. Backward: what all of them ask of this process's part, added up."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rank: int, world_size: int) -> Tensor:
        ctx.rows = slice(rank * len(x), (rank + 1) * len(x))
        parts = [torch.empty_like(x) for _ in range(world_size)]
        torch.distributed.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        total = grads[0].clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(total)
        return total[ctx.rows], None, None


def gather(x: Tensor, on: Processes) -> Tensor:
    """``x`` (B, ...) of every process as one (W * B, ...), by rank; each process has as many rows.

    Gradients flow back to the process a row came from, from the losses of all. These are meant to be each process's own
    mean, over which DDP takes the mean.
    """
    return x if on.world_size == 1 else _Gather.apply(x, on.rank, on.world_size)

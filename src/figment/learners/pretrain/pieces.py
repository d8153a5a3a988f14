"""Large batches in little memory: gradient caching (Gao et al. 2021, "Scaling deep contrastive learning batch size under memory
limited setup", section 3.2).

A contrastive loss needs the features of all images of a step, and a network that makes them all at once keeps every activation
until the backward pass. Here it makes them a few at a time and keeps features alone; the loss gives each feature its gradient; then
each piece is run once more, with its activations and the same random numbers, and passes its gradients on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def in_pieces(encode: Callable[..., Tensor], module: nn.Module, piece: int | None, *inputs: Tensor) -> Tensor:
    """``encode(*inputs)``, its rows a piece at a time: the same values and gradients, for one more forward pass.

    What looks at several rows at once sees those of its piece: BatchNorm takes its statistics of them. Dropout draws other
    numbers than for all rows together.

    Args:
        encode: (B, ...) tensors to one of (B, ...), by the weights of ``module``.
        module: its BatchNorms count each piece once, though it is run twice.
        piece: rows at a time, at most; None = all of them.
    """
    if piece is None or len(inputs[0]) <= piece:
        return encode(*inputs)
    n = math.ceil(
        len(inputs[0]) / piece
    )  # nearly equal: BatchNorm makes little of a few that are left over, of one nothing
    pieces = zip(*(x.tensor_split(n) for x in inputs), strict=True)
    if not torch.is_grad_enabled():
        return torch.cat([encode(*some) for some in pieces])

    def contexts() -> tuple[
        AbstractContextManager[None], AbstractContextManager[None]
    ]:  # of the first run, of the second
        return nullcontext(), statistics_kept(module)

    # Autograd takes the last piece first, to its end, and lets its activations go before it comes to the next.
    return torch.cat([checkpoint(encode, *some, use_reentrant=False, context_fn=contexts) for some in pieces])


@contextmanager
def statistics_kept(module: nn.Module) -> Iterator[None]:
    """BatchNorm normalises as ever and leaves its running statistics as they are."""
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    before = [(norm.momentum, cast(Tensor, norm.num_batches_tracked).clone()) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, (momentum, batches) in zip(norms, before, strict=True):
            norm.momentum = momentum
            cast(Tensor, norm.num_batches_tracked).copy_(batches)

"""Projectors: small networks between a backbone and a loss, thrown away after training."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from figment.learners.pretrain.gather import gather
from figment.learners.processes import Processes


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation over the batch of all processes: ``float (B, D)`` to the same.

    torch's SyncBatchNorm is for GPUs alone.
    """

    def __init__(self, features: int, on: Processes, affine: bool = True):
        super().__init__(features, affine=affine)
        self.on = on

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or self.on.world_size == 1:
            return super().forward(input)
        x = input.float()
        mean = gather(x.mean(0, keepdim=True), self.on).mean(0)  # processes have as many rows
        variance = gather((x - mean).square().mean(0, keepdim=True), self.on).mean(0)
        n = len(x) * self.on.world_size
        rate = self.momentum or 0.0
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        self.running_mean.lerp_(mean.detach(), rate)
        self.running_var.lerp_(variance.detach() * n / (n - 1), rate)
        self.num_batches_tracked.add_(1)
        x = (x - mean) * (variance + self.eps).rsqrt()
        return (x * self.weight + self.bias if self.affine else x).to(input.dtype)


def mlp(
    sizes: Sequence[int],
    on: Processes,
    norm: Literal["batch", "layer"] | None = "batch",
    activation: type[nn.Module] = nn.ReLU,
    norm_last: bool = False,
) -> nn.Sequential:
    """``sizes[0]`` to ``sizes[-1]`` features by linear layers, all but the last followed by a norm and an activation.

    With ``norm_last`` the last one has a norm too, without weights.
    """

    def normed(features: int, affine: bool = True) -> list[nn.Module]:
        if norm == "layer":
            return [nn.LayerNorm(features, elementwise_affine=affine)]
        return [BatchNorm(features, on, affine)] if norm == "batch" else []

    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(sizes[:-1]):
        layers += [nn.Linear(a, b, bias=norm != "batch"), *normed(b), activation()]
    layers.append(nn.Linear(sizes[-2], sizes[-1], bias=not norm_last))
    return nn.Sequential(*layers, *(normed(sizes[-1], affine=False) if norm_last else []))

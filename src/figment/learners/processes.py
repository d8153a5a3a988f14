"""One training on many processes: accelerate says which of them this one is, torch adds up their gradients.

What starts them is accelerate's or torch's own command, on one machine or under Slurm: ``accelerate launch``,
``torchrun``. A single process needs neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, nn

from figment.machine import launched

#: The others wait while the first process writes a checkpoint of gigabytes or generates what it chooses weights by: longer than torch's
#: ten minutes.
PATIENCE = timedelta(days=1)


@dataclass(frozen=True)
class Processes:
    """Which process this is, of how many, and the device it works on."""

    rank: int
    world_size: int
    device: torch.device

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module as it is trained: with many processes, each step's gradients are the mean of theirs."""
        if self.world_size == 1:
            return module
        ids = None if self.device.type == "cpu" else [self.device.index]
        return nn.parallel.DistributedDataParallel(module, device_ids=ids)

    def synchronised(self, module: nn.Module) -> nn.Module:
        """The module with BatchNorm over the images of all processes, on GPUs: torch's knows no CPU.

        By timm's conversion: torch's own drops the activation that many networks of timm have in theirs.
        """
        if self.world_size == 1 or self.device.type != "cuda":
            return module
        from timm.layers import convert_sync_batchnorm

        return convert_sync_batchnorm(module)

    def mean(self, value: Tensor) -> Tensor:
        """Of the values of all processes."""
        return self.sum(value) / self.world_size

    def sum(self, value: Tensor) -> Tensor:
        """Of the values of all processes."""
        if self.world_size > 1:
            value = value.clone()
            torch.distributed.all_reduce(value)
        return value

    def agree(self, tensors: Mapping[str, Tensor]) -> None:
        """Give all processes the first one's values, in place."""
        if self.world_size > 1:
            for value in tensors.values():
                torch.distributed.broadcast(value, 0)


def leave() -> None:
    """Part from the others, at the end of a program: torch complains of those who just go."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def processes(device: str | None = None) -> Processes:
    """This process. ``device`` is torch's name of one; None takes a GPU where there is one."""
    cpu = (device or "").startswith("cpu")
    if launched() is not None:
        from accelerate import PartialState

        state = PartialState(cpu=cpu, timeout=PATIENCE)
        return Processes(state.process_index, state.num_processes, state.device)
    return Processes(0, 1, torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")))

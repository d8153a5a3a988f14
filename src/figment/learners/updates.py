"""Updates of weights in a loop: mixed precision, a learning rate and a weight decay for each step, clipped gradients."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Updates:
    """Of what ``optimizer`` holds, with the learning rate ``rates[step]``; ``grad_clip`` 0 = gradients as they are.

    With ``decays`` what decays at all does so by ``decays[step]``.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        rates: Sequence[float],
        precision: str,
        device: torch.device,
        grad_clip: float | None,
        decays: Sequence[float] | None = None,
    ):
        self.optimizer, self.rates, self.device, self.grad_clip = optimizer, rates, device, grad_clip
        self.dtype = autocast_dtype(precision, device)
        self.decays = decays
        self.decaying = [group["weight_decay"] > 0 for group in optimizer.param_groups]  # not biases and norms
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype == torch.float16)

    def forward(self) -> torch.autocast:
        """The precision of a forward pass, as a context."""
        return computing_in(self.dtype, self.device)

    def __call__(self, step: int, loss: Tensor, module: nn.Module, frozen: Iterable[nn.Parameter] = ()) -> Tensor:
        """Take one step down, with all but ``frozen``; returns the loss () without its graph."""
        for group, decays in zip(self.optimizer.param_groups, self.decaying, strict=True):
            group["lr"] = self.rates[step]
            if decays and self.decays is not None:
                group["weight_decay"] = self.decays[step]
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        for parameter in frozen:
            parameter.grad = None  # with one of zeros it would still decay
        if self.grad_clip:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(module.parameters(), self.grad_clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss.detach()

    def state_dict(self) -> dict[str, Any]:
        return {"optimizer": self.optimizer.state_dict(), "scaler": self.scaler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        # What torch saves of an optimizer is loaded as it is; a copy, since it keeps the lists.
        self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
        self.scaler.load_state_dict(state["scaler"])


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The type of the forward pass. float32 where "auto" finds no GPU with bfloat16."""
    if precision == "auto":
        precision = "bfloat16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "float32"
    return getattr(torch, precision)


def computing_in(dtype: torch.dtype, device: torch.device) -> torch.autocast:
    """The forward pass in that type, as a context; in float32 as without it."""
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)

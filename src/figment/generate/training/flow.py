"""Rectified flow, as Stable Diffusion 3 and Flux are trained: straight ways from the latents to the noise (Esser et al. 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from figment.errors import FigmentError


@dataclass(frozen=True)
class Flow:
    """``noisy = (1 - sigma) latents + sigma noise``; the denoiser says noise - latents. In the place of `noise.Noise`.

    Args:
        sigmas: float32 (T,), in (0, 1], falling: of each time that the denoiser knows.
        logit_normal: whether times are drawn as in section 3.1 of the paper, with location 0 and scale 1; else uniformly.
    """

    sigmas: Tensor
    logit_normal: bool

    @classmethod
    def of(cls, scheduler: Any, logit_normal: bool, model: str) -> Flow:
        """That of a pipeline's scheduler, shifted towards noise where its configuration says so. Raises FigmentError for others."""
        config = scheduler.config
        if not (isinstance(scheduler, FlowMatchEulerDiscreteScheduler) or "shift" in config):
            raise FigmentError(
                f"The denoiser of {model} cannot be trained: its {type(scheduler).__name__} does not say how the noise of a flow is"
                " spread. Leave generate.scheduler out."
            )
        # A new one, as a scheduler that was sampled with knows the times of its steps alone.
        whole = FlowMatchEulerDiscreteScheduler.from_config(config)
        return cls(whole.sigmas[: len(whole.timesteps)].float().cpu(), logit_normal)

    def draw(self, n: int, draws: torch.Generator) -> Tensor:
        """Times (n,), as positions in ``sigmas``."""
        if self.logit_normal:
            share = torch.randn(n, generator=draws).sigmoid()
            return (share * len(self.sigmas)).long().clamp(max=len(self.sigmas) - 1)
        return torch.randint(len(self.sigmas), (n,), generator=draws)

    def told(self, t: Tensor) -> Tensor:
        """Times as the denoiser is told them, up to T. (n,)"""
        return self.sigmas.to(t.device)[t] * len(self.sigmas)

    def add(self, latents: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """(B, C, h, w)"""
        sigma = self.sigmas.to(t.device)[t].view(-1, 1, 1, 1)
        return (1 - sigma) * latents + sigma * noise

    def target(self, latents: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """What the denoiser should say, the velocity. (B, C, h, w)"""
        return noise - latents

    def weights(self, t: Tensor, gamma: float | None) -> Tensor:
        """How much each time counts: all alike, as the times are drawn where they matter. (B,)"""
        return torch.ones(len(t), device=t.device)

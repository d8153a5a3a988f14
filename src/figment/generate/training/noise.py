"""The noise of a latent-diffusion model: how it is added, what the denoiser says of it, and how much each time counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from figment.errors import FigmentError

PREDICTIONS = ("epsilon", "v_prediction", "sample")


@dataclass(frozen=True)
class Noise:
    """``noisy = a latents + s noise`` with a^2 = alpha-bar of the time and a^2 + s^2 = 1.

    Args:
        alphas_cumprod: float32 (T,), in (0, 1), falling.
        prediction_type: what the denoiser predicts: the noise ("epsilon"), a noise - s latents ("v_prediction"), or the latents
            ("sample").
    """

    alphas_cumprod: Tensor
    prediction_type: str

    @classmethod
    def of(cls, scheduler: Any, model: str) -> Noise:
        """That of a pipeline's scheduler. Raises FigmentError for one of another kind, as those of flow matching."""
        kind = scheduler.config.get("prediction_type", "epsilon")
        known = getattr(scheduler, "alphas_cumprod", None)
        if known is None or kind not in PREDICTIONS:
            raise FigmentError(
                f"The denoiser of {model} cannot be trained: its {type(scheduler).__name__} ({kind}) is not one of those that"
                " predict epsilon, v or the sample. Choose a Stable Diffusion or SDXL model."
            )
        return cls(known.float().cpu(), kind)

    def draw(self, n: int, draws: torch.Generator) -> Tensor:
        """Times (n,), uniform, as positions in ``alphas_cumprod``."""
        return torch.randint(len(self.alphas_cumprod), (n,), generator=draws)

    def told(self, t: Tensor) -> Tensor:
        """Times as the denoiser is told them. (n,)"""
        return t

    def scales(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """a and s of times (B,), each (B, 1, 1, 1)."""
        alpha_bar = self.alphas_cumprod.to(t.device)[t].view(-1, 1, 1, 1)
        return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()

    def add(self, latents: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        a, s = self.scales(t)
        return a * latents + s * noise

    def target(self, latents: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """What the denoiser should say. (B, C, h, w)"""
        a, s = self.scales(t)
        return {"epsilon": noise, "v_prediction": a * noise - s * latents, "sample": latents}[self.prediction_type]

    def latents_in(self, noisy: Tensor, said: Tensor, t: Tensor) -> Tensor:
        """The latents that a denoiser sees in ``noisy`` when this is what it says. (B, C, h, w)"""
        a, s = self.scales(t)
        if self.prediction_type == "epsilon":
            return (noisy - s * said) / a
        return a * noisy - s * said if self.prediction_type == "v_prediction" else said

    def snr(self, t: Tensor) -> Tensor:
        """Signal-to-noise ratio (B,)."""
        alpha_bar = self.alphas_cumprod.to(t.device)[t]
        return alpha_bar / (1 - alpha_bar)

    def weights(self, t: Tensor, gamma: float | None) -> Tensor:
        """How much each time counts: min(SNR, gamma), as the loss on what the denoiser predicts has it. (B,)"""
        if gamma is None:
            return torch.ones(len(t), device=t.device)
        snr = self.snr(t)
        least = snr.clamp(max=gamma)
        return {
            "epsilon": (gamma / snr).clamp(max=1),
            "v_prediction": least / (snr + 1),
            "sample": least,
        }[self.prediction_type]

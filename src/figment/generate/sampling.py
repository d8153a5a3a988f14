"""What a pipeline samples with, in one record, in diffusers' words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from figment.generate.guidance_interval import GuidanceInterval


@dataclass(frozen=True)
class Sampling:
    """Numbers are those that are used: what None stood for is found out before. ``scheduler`` None is the pipeline's own."""

    num_inference_steps: int
    guidance_scale: float  # 1 or less: none
    interval: GuidanceInterval
    scheduler: str | None = None
    log_variance: float | None = None  # of DDPM, in [0, 1]
    noise_level: int | None = None  # of what enlarges images, a step of training
    negative_prompt: str = ""

    @property
    def guided(self) -> bool:
        """Whether images are pulled towards their text."""
        return self.guidance_scale > 1

    @property
    def settings(self) -> dict[str, Any]:
        """All that changes what an image shows, JSON-able. What is not used is not told."""
        asked = {
            "guidance_start": self.interval.start or None,
            "log_variance": self.log_variance,
            "noise_level": self.noise_level,
        }
        return {
            "guidance_scale": self.guidance_scale,
            "guidance_stop": self.interval.stop,
            "num_inference_steps": self.num_inference_steps,
            "scheduler": self.scheduler,
            "negative_prompt": self.negative_prompt,
            **{name: value for name, value in asked.items() if value is not None},
        }

    def said(self, scheduler: str) -> str:
        """In words, with the name of the scheduler that it comes to: ``DDIMScheduler, 20 steps, guidance 2``."""
        told = f"{scheduler}, {self.num_inference_steps} steps, guidance {self.guidance_scale:g}"
        if not self.interval.whole:
            told += f" from {100 * self.interval.start:g} to {100 * self.interval.stop:g} % of them"
        if self.log_variance is not None:
            told += f", log-variance {self.log_variance:g}"
        return told if self.noise_level is None else f"{told}, noise level {self.noise_level}"

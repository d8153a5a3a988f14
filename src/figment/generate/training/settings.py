"""How a denoiser is trained. Apart from what trains, so that settings can be read without loading torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from figment import limits
from figment.task import Strict


class TrainingSettings(Strict):
    """How the weights follow from the losses: the optimizer, a linear rise of the learning rate, half a cosine, an average of the weights."""

    steps: int | None = Field(None, ge=1, le=limits.STEPS, description="of training; None = until the minutes are over")
    minutes: float | None = Field(
        None,
        gt=0,
        description="end by then, whatever the step: the learning rate follows the clock, so a training is not repeatable to"
        " the bit; None = only the steps count",
    )
    optimizer: Literal["adamw", "adafactor"] = Field(
        "adamw",
        description="adafactor (Shazeer and Stern 2018): its memory of a matrix is a row and a column, not two more matrices",
    )
    learning_rate: float = Field(1e-4, gt=0, le=limits.RATE, description="the optimizer's step size at its highest")
    warmup_steps: int = Field(100, ge=0, le=limits.STEPS, description="steps over which the learning rate rises")
    weight_decay: float = Field(0.01, ge=0, le=limits.RATE, description="the optimizer's, on matrices and kernels")
    betas: tuple[float, float] = Field((0.9, 0.999), description="AdamW's, of the mean and of the square")
    grad_clip: float = Field(1.0, gt=0, le=limits.WEIGHT, description="highest norm of a step's gradient")
    ema_decay: float | None = Field(
        0.9999,
        ge=0,
        lt=1,
        description="of the moving average of the weights, which is what is kept; lower in the first steps; None = the last weights",
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="of products and convolutions (autocast); the weights are float32 always"
    )

    @model_validator(mode="after")
    def _ends(self) -> TrainingSettings:
        if self.steps is None and self.minutes is None:
            raise ValueError("neither steps nor minutes is set, so the training would never end: give one of them")
        if self.steps is not None and self.warmup_steps >= self.steps:
            raise ValueError(f"warmup_steps is {self.warmup_steps}, and there are only {self.steps} steps: lower it")
        return self


class DenoiserSettings(TrainingSettings):
    """All weights of a denoiser, on images and captions. The defaults are Stable Diffusion's fine-tuning in diffusers."""

    batch_size: int = Field(64, ge=1, le=limits.BATCH, description="images a step")
    caption_dropout: float = Field(0.1, ge=0, le=1, description="share of empty captions, which guidance needs")
    min_snr_gamma: float | None = Field(
        5.0, gt=0, le=limits.WEIGHT, description="weigh times by min(SNR, gamma) (Hang et al. 2023); None = all alike"
    )


class DistilSettings(TrainingSettings):
    """A student that makes in few steps, and one pass each, what its teacher makes in many steps of two passes."""

    method: Literal["progressive", "consistency"] = Field(
        "progressive",
        description="progressive (Salimans and Ho 2022): each of the student's ``points`` steps ends where the teacher's do."
        " consistency (Song et al. 2023): each leads to the teacher's image at once, and new noise is added for the next",
    )
    points: int = Field(
        4, ge=1, le=1000, description="times at which the student learns; progressive: the steps it samples in"
    )
    solver_steps: int = Field(2, ge=1, le=1000, description="of the teacher between two of them (DPM-Solver++)")
    guidance: tuple[float, float] = Field(
        (1.0, 3.0), description="least and greatest guidance scale; the student is told which one (Meng et al. 2023)"
    )
    trajectories: int = Field(4096, ge=1, le=limits.STEPS, description="from noise to image, made once by the teacher")
    batch_size: int = Field(64, ge=1, le=limits.BATCH, description="trajectories a step, each at one time")
    ema_decay: float | None = Field(0.99, ge=0, lt=1, description="of the moving average of the weights, which is kept")

    @model_validator(mode="after")
    def _rises(self) -> DistilSettings:
        low, high = self.guidance
        if not 0 <= low <= high:
            raise ValueError(f"guidance is {low:g} to {high:g}: give the lower one first, 0 or more")
        return self

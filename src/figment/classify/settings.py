"""How a head is tuned. Apart from `tune`, so that a recipe can be read without loading torch."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class TuneSettings(BaseModel):
    """The defaults are those of He et al. 2023 for generated pictures alone (section 3.2 and the authors' README)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    learning_rate: float = Field(default=2e-3, gt=0, description="AdamW's step size at its highest")
    weight_decay: float = Field(default=0.1, ge=0, description="AdamW's weight decay, on weights and biases alike")
    epochs: int = Field(default=30, ge=1, description="passes over the pictures")
    batch_size: int = Field(default=512, ge=1, description="pictures a step")
    warmup_steps: int = Field(default=0, ge=0, description="steps over which the learning rate rises linearly")
    soft_weight: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="share of the loss that follows the untuned head's probabilities; the rest follows labels",
    )
    temperature: float = Field(
        default=2.0, gt=0, description="softens the untuned head's probabilities; 1 = as they are"
    )
    symmetric_temperature: bool = Field(
        default=False,
        description="soften the tuned head too, and scale that term by temperature^2 (Hinton et al. 2015)",
    )
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="share of a label that is spread over all classes"
    )
    grad_clip: float = Field(default=1.0, gt=0, description="highest norm of a step's gradient")
    select: Literal["last", "validation"] = Field(
        default="last", description="keep the last epoch, or the best one on the validation pictures"
    )


class MixSettings(TuneSettings):
    """He et al. 2023 for a few real pictures and many generated ones (section 4.2): both in every step."""

    learning_rate: float = Field(default=1e-3, gt=0, description="AdamW's step size at its highest")
    order: Literal["mix", "synthetic_then_real", "real_then_synthetic"] = Field(
        default="mix", description="a batch of each kind a step, or one kind after the other"
    )
    real_batch_size: int = Field(default=32, ge=1, description="real pictures a step; batch_size counts generated ones")
    real_weight: float = Field(default=1.0, ge=0, description="of the loss on real pictures, where they are mixed")
    synthetic_weight: float = Field(default=1.0, ge=0, description="of the loss on generated pictures, where mixed")

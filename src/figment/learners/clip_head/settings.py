"""How a head is tuned. Apart from `tune`, so that a recipe can be read without loading torch."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from figment import limits
from figment.learners.settings import Share
from figment.task import Strict

#: Of real images alone and of mixed training, at least, in a recipe. One image a class fits in one batch, so 30 epochs would be 30
#: steps, after which AdamW has hardly moved the head: real images would look poor, and generated ones worth more than they are. 300
#: are about what generated images get by default (30 epochs of 4,000 images in batches of 512 are 240). The number comes from that
#: count and from no test set.
FEW_SHOT_STEPS = 300

#: The classifier that tuning starts from, and whose probabilities are the soft targets.
Start = Literal["bias_removed", "zero_shot"]


class TuneSettings(Strict):
    """The defaults are those of He et al. 2023 for generated images alone (section 3.2 and the authors' README)."""

    learning_rate: float = Field(default=2e-3, gt=0, le=limits.RATE, description="AdamW's step size at its highest")
    weight_decay: float = Field(
        default=0.1, ge=0, le=limits.RATE, description="AdamW's weight decay, on weights and biases alike"
    )
    epochs: int = Field(default=30, ge=1, le=limits.EPOCHS, description="passes over the images")
    batch_size: int = Field(default=512, ge=1, le=limits.BATCH, description="images a step")
    warmup_steps: int = Field(
        default=0, ge=0, le=limits.STEPS, description="steps over which the learning rate rises linearly"
    )
    soft_weight: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="share of the loss that follows the untuned head's probabilities; the rest follows labels",
    )
    temperature: float = Field(
        default=2.0, gt=0, le=1_000, description="softens the untuned head's probabilities; 1 = as they are"
    )
    symmetric_temperature: bool = Field(
        default=False,
        description="soften the tuned head too, and scale that term by temperature^2 (Hinton et al. 2015)",
    )
    hard_pseudo_labels: bool = Field(
        default=False,
        description="the soft part of the loss follows the one class that the untuned head finds likeliest, in place of its"
        " probabilities; temperature then changes nothing",
    )
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="share of a label that is spread over all classes"
    )
    grad_clip: float = Field(default=1.0, gt=0, le=limits.WEIGHT, description="highest norm of a step's gradient")
    select: Literal["last", "validation", "test_best"] = Field(
        default="last",
        description="keep the last epoch, or the best one on the validation images; test_best takes the test images "
        "for that, which flatters: it exists to reproduce published numbers",
    )

    @model_validator(mode="after")
    def _softens_something(self) -> Self:
        if self.hard_pseudo_labels and self.symmetric_temperature:
            raise ValueError(
                "symmetric_temperature softens both heads alike, and hard_pseudo_labels leaves nothing of the untuned one to soften:"
                " set one of the two to false"
            )
        return self


class MixSettings(TuneSettings):
    """He et al. 2023 for a few real images and many generated ones (section 4.2): both in every step."""

    learning_rate: float = Field(default=1e-3, gt=0, le=limits.RATE, description="AdamW's step size at its highest")
    order: Literal["mix", "synthetic_then_real", "real_then_synthetic"] = Field(
        default="mix", description="a batch of each kind a step, or one kind after the other"
    )
    real_batch_size: int = Field(
        default=32, ge=1, le=limits.BATCH, description="real images a step; batch_size counts generated ones"
    )
    min_steps: int = Field(
        default=0,
        ge=0,
        le=limits.STEPS,
        description="real images alone, and both kinds mixed, get as many more epochs as it takes to have so many steps; 0 = the"
        " epochs as they are, as in the paper",
    )
    real_weight: float = Field(
        default=1.0, ge=0, le=limits.WEIGHT, description="of the loss on real images, where they are mixed"
    )
    synthetic_weight: float = Field(
        default=1.0, ge=0, le=limits.WEIGHT, description="of the loss on generated images, where mixed"
    )


class UnfrozenSettings(Strict):
    """The encoder in the loop, beside `TuneSettings`: what of it is tuned, and what its BatchNorm layers do meanwhile.

    The defaults tune the head alone, as on cached features, only slower.
    """

    trainable_fraction: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="share of the image encoder's parameters that are tuned, from the output end in whole layers and"
        " blocks; 0 = the head alone, 1 = end to end",
    )
    batch_norm: Literal["eval", "train"] = Field(
        default="eval",
        description="eval: normalise by the running statistics and keep them; train: by those of the batch, and update"
        " the running ones",
    )
    lora_rank: int = Field(
        default=0,
        ge=0,
        le=limits.RANK,
        description="rank of a LoRA on the image encoder's attention layers; 0 = none, 16 is usual",
    )
    lora_alpha: int = Field(default=32, ge=1, le=10_000, description="the LoRA is scaled by lora_alpha / lora_rank")
    lora_dropout: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="dropout before the LoRA's layers; torch's MultiheadAttention, which open_clip has, goes without",
    )
    learning_rate: float = Field(
        default=1e-5,
        gt=0,
        le=limits.RATE,
        description="AdamW's step size for the encoder at its highest; a LoRA takes more, 1e-4 or so",
    )
    augment: bool = Field(default=False, description="a new random crop and mirroring of each image in every epoch")
    crop_scale: tuple[Share, Share] = Field(
        default=(0.9, 1.0), description="least and greatest share of an image's area in a random crop"
    )
    micro_batch: int = Field(
        default=512,
        ge=1,
        le=limits.BATCH,
        description="images that go through the encoder at a time: less needs less memory; with batch_norm: train, the"
        " images that statistics are of",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto",
        description="of the encoder's forward pass, its weights being float32; auto = bfloat16 on a GPU that has it, else float32",
    )

    @property
    def lighter(self) -> str:
        """What would need less memory, in a sentence; with BatchNorm frozen ``micro_batch`` is lowered without asking."""
        ways = []
        if self.batch_norm == "train":
            ways.append("lower unfrozen.micro_batch (statistics are then of as many images)")
        if self.precision == "float32":
            ways.append("set unfrozen.precision: bfloat16")
        if self.trainable_fraction:
            ways.append("lower unfrozen.trainable_fraction")
        sentence = ", ".join([*ways, f"{'or ' if ways else ''}choose a smaller encoder"])
        return f"{sentence[0].upper()}{sentence[1:]}."

    @model_validator(mode="after")
    def _agree(self) -> UnfrozenSettings:
        if self.trainable_fraction and self.lora_rank:
            raise ValueError(
                f"trainable_fraction: {self.trainable_fraction:g} tunes the encoder's own weights and lora_rank: {self.lora_rank} tunes a LoRA"
                " beside them: set one of the two to 0"
            )
        if not 0 < self.crop_scale[0] <= self.crop_scale[1] <= 1:
            raise ValueError(
                f"crop_scale {list(self.crop_scale)} must be two shares of the area, 0 < least <= greatest <= 1, such as [0.9, 1.0]"
            )
        return self

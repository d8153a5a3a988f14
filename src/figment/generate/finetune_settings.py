"""How a generator is tuned on real images. Apart from `finetune`, so that a recipe can be read without loading torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, model_validator

from figment import limits
from figment.generate.training.settings import TrainingSettings
from figment.task import PathText, Strict, Template, Text

ONLY_LORA = ("per_class", "text_encoder", "rank", "alpha", "scale")
ONLY_FULL = ("ema_decay",)
SPEED = ("gradient_checkpointing", "gradient_accumulation_steps")  # change what a step costs, not where it leads
#: Fields that came later. Left as they are they change nothing, and what was trained before keeps its name.
LATER = ("optimizer", "validate_steps", "validate_images")
WORDS = ("contexts", "caption_column")  # places; the captions that come of them count by what they say


class FinetuneSettings(Strict):
    """The defaults are those of DataDream (Kim et al., ECCV 2024), one LoRA for all classes."""

    method: Literal["lora", "full"] = Field(
        "lora",
        description="lora: low-rank changes to the attention; full: all weights of the denoiser (Azizi et al. 2023)",
    )
    per_class: bool = Field(False, description="a LoRA of its own for each class, in place of one for all")
    text_encoder: bool = Field(True, description="tune the text encoders' attention too, not the denoiser's alone")
    rank: int = Field(16, ge=1, le=limits.RANK, description="of each change to a weight matrix")
    alpha: int = Field(16, ge=1, le=10_000, description="the change is multiplied by alpha / rank")
    optimizer: Literal["adamw", "adafactor"] = Field(
        "adamw", description="adafactor keeps a row and a column of each matrix where AdamW keeps two more matrices"
    )
    learning_rate: float = Field(
        1e-4, gt=0, le=limits.RATE, description="the optimizer's step size at its highest; falls along half a cosine"
    )
    weight_decay: float = Field(0.01, ge=0, le=limits.RATE, description="the optimizer's weight decay")
    warmup_steps: int = Field(
        100, ge=0, le=limits.STEPS, description="steps over which the learning rate rises linearly"
    )
    epochs: int = Field(
        200, ge=1, le=limits.EPOCHS, description="passes over the images (of a class, where each has its own LoRA)"
    )
    steps: int | None = Field(None, ge=1, le=limits.STEPS, description="of training, for each LoRA, in place of epochs")
    batch_size: int = Field(8, ge=1, le=limits.BATCH, description="images a step")
    gradient_accumulation_steps: int = Field(
        1, ge=1, le=limits.BATCH, description="parts that a batch is gone through in: less memory, the same step"
    )
    grad_clip: float = Field(1.0, gt=0, le=limits.WEIGHT, description="highest norm of a step's gradient")
    template: Template | None = Field(None, description="the caption of every image; None = the task's first template")
    contexts: PathText | None = Field(
        None,
        description="a CSV with the file name of each image, its background and its pose, which follow the class in its caption (BOB)",
    )
    caption_column: Text | None = Field(
        None, description="the column of the images' own table with a caption of each; None = the template"
    )
    caption_dropout: float = Field(0.0, ge=0, le=1, description="share of the captions that are left empty")
    min_snr_gamma: float | None = Field(
        None,
        gt=0,
        le=limits.WEIGHT,
        description="weigh steps by min(SNR, gamma) (Hang et al. 2023); Real-Fake takes 5; None = all alike",
    )
    horizontal_flip: bool = Field(False, description="show half of the images mirrored")
    ema_decay: float = Field(
        0.9999, ge=0, lt=1, description="full: of the moving average of the weights, which is what generates"
    )
    gradient_checkpointing: bool = Field(False, description="less memory and more time; changes nothing else")
    validate_steps: int | None = Field(
        None,
        ge=1,
        le=limits.STEPS,
        description="measure the Frechet distance to task.real.val every so many steps and keep the nearest weights; None = the last",
    )
    validate_images: int = Field(200, ge=2, le=limits.IMAGES_A_CLASS, description="generated for each measurement")
    scale: float = Field(
        1.0, gt=0, le=100, description="share of the change that is used to generate; Real-Fake takes 0.5"
    )

    @model_validator(mode="after")
    def _of_its_method(self) -> FinetuneSettings:
        foreign = ONLY_LORA if self.method == "full" else ONLY_FULL
        asked = [name for name in foreign if getattr(self, name) != type(self).model_fields[name].default]
        if asked:
            other = "lora" if self.method == "full" else "full"
            raise ValueError(
                f"{', '.join(asked)} belong to method: {other}, and method is {self.method}. Leave them out"
            )
        if self.contexts is not None and self.caption_column is not None:
            raise ValueError("contexts follow the template, and caption_column takes its place: leave one of them out")
        if self.validate_steps is not None and self.per_class:
            raise ValueError("validate_steps judges one LoRA for all classes: set per_class: false, or leave it out")
        return self

    @property
    def has_own_captions(self) -> bool:
        """Whether captions say more than the class."""
        return self.contexts is not None or self.caption_column is not None

    @property
    def learned(self) -> dict[str, Any]:
        """What the weights depend on: JSON-able. (That of a LoRA is what it was before there were other methods.)"""
        without = {*SPEED, *WORDS, *(ONLY_LORA if self.method == "full" else ("scale", "method", *ONLY_FULL))}
        without |= {name for name in LATER if getattr(self, name) == type(self).model_fields[name].default}
        return self.model_dump(exclude=without)

    def steps_of(self, images: int) -> int:
        """Of training on so many images."""
        return self.steps or self.epochs * -(-images // self.batch_size)

    def steps_on(self, counts: Sequence[int]) -> int:
        """The same of everything that is trained, where there are so many images of each class."""
        return sum(self.steps_of(n) for n in (counts if self.per_class else [sum(counts)]))

    def training(self, steps: int, half: bool = False) -> TrainingSettings:
        """How the weights follow from the losses; ``half``: products in bfloat16."""
        full = self.method == "full"
        return TrainingSettings(
            steps=steps,
            optimizer=self.optimizer,
            learning_rate=self.learning_rate,
            warmup_steps=self.warmup_steps,
            weight_decay=self.weight_decay,
            grad_clip=self.grad_clip,
            ema_decay=self.ema_decay if full else None,
            precision="bfloat16" if half and full else "float32",
        )

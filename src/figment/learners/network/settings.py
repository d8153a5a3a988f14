"""How a network is trained. Apart from the training, so that a recipe can be read without loading torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, JsonValue, SerializerFunctionWrapHandler, field_serializer, model_validator

from figment import limits
from figment.learners.pretrain.settings import AnyMethod, PretrainSettings
from figment.learners.settings import LearnerSettings, Share, epoch_images
from figment.task import PathText

if TYPE_CHECKING:
    from figment.learners.network.network import NetworkLearner
    from figment.recipe.given import Given
    from figment.recipe.recipe import Recipe

#: Fields that no trained weight depends on, each with its reason.
NOT_PART_OF_A_MODEL = {
    "kind": "says which settings these are",
    "workers": "batches are the same for any number of them",
    "seeds": "each training has a seed of its own",
    "images_per_class": "decides what is given to a training, and the images are part of its identity",
    "pretrain": "what pre-trains has a fingerprint of its own, which is part of the identity",
}
#: Fields of ``pretrain`` that are the network's own -> which.
OF_THE_NETWORK = {
    "backbone": "architecture",
    "options": "options",
    "pretrained": "pretrained",
    "image_size": "image_size",
    "seeds": "seeds",
    "images_per_class": "images_per_class",
    "workers": "workers",
}

#: Fields that came later. Left as they are they change nothing, and models from before there were such keep their names.
LATER = ("steps", "fresh_epochs")


class NetworkSettings(LearnerSettings):
    """Any architecture of timm, trained on generated images, real ones, or both."""

    starts_untrained: ClassVar[bool] = False

    kind: Literal["network"] = "network"
    architecture: str = Field(
        "resnet50", description="a name of timm's (timm.list_models() has them all), or small_cnn: three layers, grey"
    )
    options: dict[str, JsonValue] = Field(
        {}, description="timm's own arguments of that architecture, such as {patch_size: 4} or {drop_path_rate: 0.1}"
    )
    pretrained: PathText | None = Field(
        None, description="weights to start from, with a new classifier: a timm folder or Hub id; None = from scratch"
    )
    image_size: int = Field(
        224, ge=8, le=2_048, description="side of the square images that the network sees, in pixels"
    )
    crop_pct: float | None = Field(
        None,
        gt=0,
        le=1,
        description="share of an image's shorter side that is seen in testing; None = the pre-trained's, or 1",
    )

    pretrain: AnyMethod | None = Field(
        None,
        description="first pre-train the network on the same images, by any method of docs/pretrain.md: {kind: simclr}; its backbone,"
        " image_size and the like are the network's. None = no pre-training",
    )
    epochs: int = Field(90, ge=1, le=limits.EPOCHS, description="passes over the images")
    min_steps: int = Field(
        0, ge=0, le=limits.STEPS, description="as many more epochs as it takes to have so many steps"
    )
    steps: int | None = Field(
        None,
        ge=1,
        le=limits.STEPS,
        description="exactly so many steps in place of epochs, however many images there are: trainings on sets of different size"
        " are then of one length",
    )
    batch_size: int = Field(256, ge=2, le=limits.BATCH, description="images a step, of all processes together")
    real_share: float | None = Field(
        None,
        gt=0,
        le=1,
        description="share of real images in every batch, classes balanced, where there are generated ones too; 1, with pretrain, ="
        " pre-train on all images and then learn from the real ones alone; None = each image once an epoch",
    )
    fresh_epochs: int = Field(
        1,
        ge=1,
        le=limits.EPOCHS,
        description="deal the generated images out to so many epochs, each of which shows images of its own (GaFi); 1 = each epoch"
        " shows all of them",
    )
    optimizer: Literal["sgd", "adamw"] = Field("sgd", description="sgd is with Nesterov's momentum")
    learning_rate: float = Field(
        0.1, gt=0, le=limits.RATE, description="at its highest; after the warm-up, half a cosine down to 0"
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="of sgd")
    weight_decay: float = Field(1e-4, ge=0, le=limits.RATE, description="of weights alone: not of biases and norms")
    warmup: float = Field(
        0.05, ge=0, lt=1, description="share of the steps over which the learning rate rises linearly"
    )
    grad_clip: float | None = Field(
        None, gt=0, le=limits.WEIGHT, description="highest norm of a step's gradient; None = no limit"
    )
    label_smoothing: float = Field(0.1, ge=0, lt=1, description="share of a label that is spread over all classes")
    ema: float | None = Field(
        None, gt=0, lt=1, description="decay of an average of the weights, which is then the model; 0.999 is usual"
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="of the forward pass; auto = bfloat16 on a GPU that has it, else float32"
    )

    crop_scale: tuple[Share, Share] | None = Field(
        (0.08, 1.0), description="least and greatest share of an image's area in a random crop; None = no crops"
    )
    pad: int = Field(0, ge=0, le=2_048, description="shift at random by up to so many pixels, edges mirrored")
    flip: float = Field(0.5, ge=0, le=1, description="probability of a mirror image")
    rand_augment: int = Field(
        0, ge=0, le=100, description="RandAugment's number of operations on an image; 0 = none, 2 is usual"
    )
    rand_augment_magnitude: int = Field(9, ge=0, le=30, description="RandAugment's strength of each")
    random_erasing: float = Field(0.0, ge=0, le=1, description="probability that a box of an image is erased")
    mixup: float = Field(
        0.0, ge=0, le=1_000, description="alpha of mixup; 0 = none, 0.2 is usual. With cutmix too, one or the other"
    )
    cutmix: float = Field(0.0, ge=0, le=1_000, description="alpha of cutmix; 0 = none, 1 is usual")

    select: Literal["last", "validation", "test_best"] = Field(
        "last",
        description="keep the last epoch, or the best one on the validation images; test_best takes the test images "
        "for that, which flatters: it exists to reproduce published numbers",
    )
    workers: int | None = Field(
        None, ge=0, le=1_024, description="processes that prepare images; None = none on a CPU, up to 8 beside a GPU"
    )

    @model_validator(mode="before")
    @classmethod
    def _is_one_network(cls, data: Any) -> Any:
        own = data.get("pretrain") if isinstance(data, dict) else None
        own = own.model_fields_set if isinstance(own, PretrainSettings) else own
        if isinstance(own, dict | set) and (said := [name for name in OF_THE_NETWORK if name in own]):
            raise ValueError(
                f"pretrain.{said[0]} is the network's own {OF_THE_NETWORK[said[0]]}: set that, and leave it out of pretrain"
            )
        return data

    @field_serializer("pretrain", mode="wrap")
    def _without_the_networks_own(self, own: Any, plain: SerializerFunctionWrapHandler) -> Any:
        data = plain(own)
        return data and {name: value for name, value in data.items() if name not in OF_THE_NETWORK}

    @model_validator(mode="after")
    def _agree(self) -> NetworkSettings:
        if self.real_share == 1 and self.pretrain is None:
            raise ValueError(
                "real_share: 1 learns from real images alone, so the generated ones would be for nothing: give pretrain, which learns from"
                " all of them first, or a share below 1"
            )
        if (self.mixup or self.cutmix) and self.batch_size % 2:
            raise ValueError(f"mixup and cutmix take images in pairs, and batch_size {self.batch_size} is odd")
        if self.crop_scale and not 0 < self.crop_scale[0] <= self.crop_scale[1] <= 1:
            raise ValueError(
                f"crop_scale {list(self.crop_scale)} must be two shares of the area, 0 < least <= greatest <= 1, such as [0.35, 1.0]"
            )
        if self.steps is not None and self.min_steps:
            raise ValueError("steps says how long a training is, and so does min_steps: give one of them")
        if self.fresh_epochs > 1 and self.real_share is not None:
            raise ValueError(
                "fresh_epochs says which generated images an epoch shows, and so does real_share: leave one of them out"
            )
        if self.pad >= self.image_size:
            raise ValueError(f"pad {self.pad} must be less than image_size {self.image_size}")
        return self

    @property
    def pretraining(self) -> PretrainSettings | None:
        """``pretrain``, of this network."""
        own = {name: getattr(self, field) for name, field in OF_THE_NETWORK.items()}
        return None if self.pretrain is None else self.pretrain.model_copy(update=own)

    @property
    def has_placebo(self) -> bool:
        """Where labels are read of real images alone, it depends on how the pre-training reads the others."""
        return self.real_share != 1 or self.pretrain is None or self.pretrain.has_placebo

    @property
    def parts(self) -> Sequence[LearnerSettings]:
        if self.pretraining is None:
            return [self]
        alone = {"pretrain": None, "real_share": None if self.real_share == 1 else self.real_share}
        return [self.pretraining, self.model_copy(update=alone)]

    @property
    def lighter(self) -> str:
        """What would need less memory, in a sentence."""
        half = "set precision: bfloat16, " if self.precision == "float32" else ""
        return f"Lower batch_size or image_size, {half}or choose a smaller architecture."

    def shown(self, images: int) -> int:
        first = 0 if self.pretraining is None else self.pretraining.shown(images)
        return first + super().shown(images if self.steps is not None else -(-images // self.fresh_epochs))

    def goes_with(self, recipe: Recipe) -> None:
        if self.pretrain is not None and "train" not in recipe.task.real.places:
            raise ValueError("train.pretrain is watched by real training images while it learns. Set task.real.train")
        if self.real_share == 1 and recipe.few_shot is None:
            raise ValueError(
                "train.real_share: 1 learns from real images alone after the pre-training, and there are none: give few_shot, such as"
                " few_shot: {shots: 16}"
            )

    def build(self, given: Given) -> NetworkLearner:
        """The learner. Raises FigmentError for what cannot be trained, before anything is."""
        from figment.learners.network.network import NetworkLearner

        val = epoch_images(self.select, given)
        own = self.pretraining
        pretrainer = None if own is None else own.build(given)
        folder = given.caches / "networks"
        track = given.recipe.track
        return NetworkLearner(self, given.task.class_names, val=val, pretrainer=pretrainer, folder=folder, track=track)

"""How a backbone is pre-trained. Apart from the training, so that a recipe can be read without loading torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, get_args

from pydantic import Field, JsonValue, model_validator

from figment import limits
from figment.learners.settings import LearnerSettings, Share, epoch_images
from figment.task import PathText

if TYPE_CHECKING:
    from figment.learners.pretrain.learner import PretrainLearner
    from figment.recipe.given import Given
    from figment.recipe.recipe import Recipe

Kind = Literal["simclr", "stablerep", "stablerep_plus", "clip", "supervised", "moco", "byol", "mae", "dino"]
KINDS: tuple[str, ...] = get_args(Kind)

#: What each method's paper or program has, for fields that a recipe leaves out. Where it names LARS, AdamW stands in its place:
#: LARS is for batches of thousands. docs/pretrain.md names the papers.
PUBLISHED: dict[str, dict[str, Any]] = {
    "simclr": {"temperature": 0.1, "projector": [2048, 128], "color": 0.8},
    "stablerep": {"temperature": 0.1, "projector": [4096, 4096, 256], "images_per_caption": 6, "views": 1},
    "stablerep_plus": {"temperature": 0.1, "projector": [4096, 4096, 256], "images_per_caption": 6, "views": 1},
    "clip": {"crop_scale": (0.5, 1.0), "color": 0.0, "grayscale": 0.0, "blur": 0.0},
    "supervised": {
        "optimizer": "sgd", "learning_rate": 0.1, "weight_decay": 1e-4, "color": 0.0, "grayscale": 0.0, "blur": 0.0
    },
    "moco": {
        "optimizer": "sgd", "learning_rate": 0.03, "weight_decay": 1e-4, "crop_scale": (0.2, 1.0), "temperature": 0.2,
        "momentum": 0.999, "queue": 65_536, "projector": [2048, 128],
    },
    "byol": {"momentum": 0.996, "projector": [4096, 256]},
    "mae": {
        "crop_scale": (0.2, 1.0), "color": 0.0, "grayscale": 0.0, "blur": 0.0, "mask_ratio": 0.75,
        "weight_decay": 0.05, "learning_rate": 1.5e-4, "decoder": [512, 8],
    },
    "dino": {
        "crop_scale": (0.4, 1.0), "temperature": 0.1, "teacher_temperature": 0.04, "momentum": 0.996, "local_views": 8,
        "prototypes": 65_536, "projector": [2048, 2048, 256], "learning_rate": 5e-4, "weight_decay": 0.04,
    },
}  # fmt: skip
#: Of fields that all methods read, where the table above is silent.
USUAL: dict[str, Any] = {
    "optimizer": "adamw",
    "learning_rate": 1e-4,
    "weight_decay": 0.1,
    "images_per_caption": 1,
    "crop_scale": (0.08, 1.0),
    "color": 0.4,
    "grayscale": 0.2,
    "blur": 0.5,
}
#: Of fields that just some methods read.
OWN_FIELDS = {
    "views": ("stablerep", "stablerep_plus"),
    "temperature": ("simclr", "stablerep", "stablerep_plus", "moco", "dino"),
    "teacher_temperature": ("dino",),
    "projector": ("simclr", "stablerep", "stablerep_plus", "moco", "byol", "dino"),
    "momentum": ("moco", "byol", "dino"),
    "queue": ("moco",),
    "local_views": ("dino",),
    "prototypes": ("dino",),
    "mask_ratio": ("mae",),
    "decoder": ("mae",),
}
READ_CAPTIONS = ("stablerep", "stablerep_plus", "clip")
READ_TEXTS = ("stablerep_plus", "clip")
NOT_PART_OF_A_MODEL = {
    "workers": "batches are the same for any number of them",
    "seeds": "each training has a seed of its own",
    "images_per_class": "decides what is given to a training, and the images are part of its identity",
}
_NONE = "; None = as published"
Features = Annotated[int, Field(ge=1, le=65_536)]
Layers = Annotated[int, Field(ge=1, le=100)]


class PretrainSettings(LearnerSettings):
    """A backbone of timm, pre-trained on the kept images, and judged by a linear probe on real training images."""

    untrained: ClassVar[Mapping[str, str]] = {
        "called": "untrained backbone",
        "what": "the backbone as it starts, with a linear probe on the same real images",
    }

    kind: Kind
    backbone: str = Field("vit_small_patch16_224", description="a name of timm's (timm.list_models() has them all)")
    options: dict[str, JsonValue] = Field(
        {}, description="timm's own arguments of that architecture, such as {patch_size: 4}"
    )
    pretrained: PathText | None = Field(
        None, description="weights to start from: a timm folder or Hub id; None = from scratch"
    )
    image_size: int = Field(
        224, ge=8, le=2_048, description="side of the square images that the backbone sees, in pixels"
    )
    seeds: int = Field(1, ge=1, le=limits.TRAININGS, description="trainings, averaged in the result")

    epochs: int = Field(
        100,
        ge=1,
        le=limits.EPOCHS,
        description="passes over the captions where several images of each are shown, else the images",
    )
    min_steps: int = Field(
        0, ge=0, le=limits.STEPS, description="as many more epochs as it takes to have so many steps"
    )
    batch_size: int = Field(
        256,
        ge=2,
        le=limits.BATCH,
        description="images a step, of all processes together; whole captions of them are taken",
    )
    images_per_caption: int | None = Field(
        None, ge=1, le=1_000, description=f"images of a caption in a step, drawn anew each time (m){_NONE}"
    )
    views: int | None = Field(None, ge=1, le=16, description=f"crops of each image{_NONE}")
    optimizer: Literal["adamw", "sgd", "lars"] | None = Field(
        None, description=f"sgd is with Nesterov's momentum{_NONE}"
    )
    learning_rate: float | None = Field(
        None,
        gt=0,
        le=limits.RATE,
        description=f"of a batch of 256 images, at its highest; it grows with the batch{_NONE}",
    )
    weight_decay: float | None = Field(
        None, ge=0, le=limits.RATE, description=f"of weights alone: not of biases and norms{_NONE}"
    )
    warmup: float = Field(
        0.05, ge=0, lt=1, description="share of the steps over which the learning rate rises linearly"
    )
    grad_clip: float | None = Field(
        None, gt=0, le=limits.WEIGHT, description="highest norm of a step's gradient; None = no limit"
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="of the forward pass; auto = bfloat16 on a GPU that has it, else float32"
    )

    crop_scale: tuple[Share, Share] | None = Field(
        None, description=f"least and greatest share of an image's area in a random crop{_NONE}"
    )
    flip: float = Field(0.5, ge=0, le=1, description="probability of a mirror image")
    color: float | None = Field(
        None, ge=0, le=1, description=f"strength of changes of brightness, contrast and saturation; 0 = none{_NONE}"
    )
    grayscale: float | None = Field(None, ge=0, le=1, description=f"probability that colours are taken away{_NONE}")
    blur: float | None = Field(None, ge=0, le=1, description=f"probability of a blur{_NONE}")
    downsample: float = Field(
        0.0, ge=0, le=1, description="probability that an image is shrunk to a quarter or a half and enlarged again"
    )

    temperature: float | None = Field(None, gt=0, le=limits.WEIGHT, description=f"of the loss{_NONE}")
    teacher_temperature: float | None = Field(None, gt=0, le=limits.WEIGHT, description=f"of the teacher{_NONE}")
    projector: list[Features] | None = Field(
        None, min_length=1, max_length=8, description=f"features after each layer of the projector{_NONE}"
    )
    momentum: float | None = Field(None, ge=0, lt=1, description=f"of the weights that follow{_NONE}")
    queue: int | None = Field(None, ge=1, le=limits.BATCH, description=f"images that are remembered{_NONE}")
    local_views: int | None = Field(None, ge=0, le=16, description=f"small crops of each image{_NONE}")
    prototypes: int | None = Field(None, ge=2, le=limits.BATCH, description=f"that images are assigned to{_NONE}")
    mask_ratio: float | None = Field(None, gt=0, lt=1, description=f"share of patches that are hidden{_NONE}")
    decoder: tuple[Features, Layers] | None = Field(
        None, description=f"its width, a multiple of 32, and its layers{_NONE}"
    )
    tokenizer: PathText = Field(
        "starter/clip", description="a folder of a CLIP, or a Hub id, whose tokenizer reads captions"
    )
    text_tower: tuple[Features, Layers] = Field(
        (512, 12), description="its width, a multiple of 64 or 64 itself, and its layers"
    )

    select: Literal["last"] = "last"
    workers: int | None = Field(
        None, ge=0, le=1_024, description="processes that prepare images; None = none on a CPU, up to 8 beside a GPU"
    )

    @property
    def has_placebo(self) -> bool:
        """A method that reads neither captions nor labels learns the same from shuffled ones."""
        return self.kind in (*READ_CAPTIONS, "supervised")

    def value(self, field: str) -> Any:
        """A field as it is set, or as published."""
        own = getattr(self, field)
        return PUBLISHED[self.kind].get(field, USUAL.get(field)) if own is None else own

    @model_validator(mode="after")
    def _agree(self) -> PretrainSettings:
        for field, kinds in OWN_FIELDS.items():
            if getattr(self, field) is not None and self.kind not in kinds:
                raise ValueError(f"{field} is a setting of kind: {', '.join(kinds)}, not of {self.kind}. Leave it out")
        low, high = self.value("crop_scale")
        if low > high:
            raise ValueError(
                f"crop_scale {[low, high]} must be two shares of the area, 0 < least <= greatest <= 1, such as [0.08, 1.0]"
            )
        for field, unit in (("decoder", 32), ("text_tower", 64)):
            width, layers = self.value(field) or (unit, 1)
            if width % unit:
                raise ValueError(f"{field} {[width, layers]} must be a width that is a multiple of {unit}, and layers")
        if self.batch_size < 2 * self.value("images_per_caption"):
            raise ValueError(
                f"batch_size {self.batch_size} must hold two captions or more, with {self.value('images_per_caption')} images of each"
            )
        return self

    def goes_with(self, recipe: Recipe) -> None:
        """Only real images can tell what a backbone is good for."""
        if not recipe.task.real.train:
            raise ValueError(
                f"train.kind: {self.kind} gives a backbone, which is judged by a linear probe on real training images. Set"
                " task.real.train"
            )

    def build(self, given: Given) -> PretrainLearner:
        """The learner. Raises FigmentError for what cannot be trained, before anything is."""
        from figment.errors import FigmentError
        from figment.learners.pretrain.learner import PretrainLearner

        labelled = given.real("train")
        if labelled is None:
            raise FigmentError("A backbone is judged by a linear probe on real training images. Set task.real.train.")
        return PretrainLearner(
            self,
            given.task.class_names,
            labelled,
            val=epoch_images(self.select, given),
            template=given.task.templates[0],
            folder=given.caches / "pretrain",
        )

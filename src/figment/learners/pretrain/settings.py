"""How a backbone is pre-trained. Apart from the training, so that a recipe can be read without loading torch.

Defaults are what each method's paper or program has. Where that is LARS, AdamW stands in its place: LARS is for batches of
thousands. docs/pretrain.md names the papers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, JsonValue, model_validator

from figment import limits
from figment.learners.settings import LearnerSettings, Share, epoch_images
from figment.task import PathText

if TYPE_CHECKING:
    from figment.learners.pretrain.learner import PretrainLearner
    from figment.recipe.given import Given
    from figment.recipe.recipe import Recipe

NOT_PART_OF_A_MODEL = {
    "compile": "the same arithmetic in another order, as on another machine",
    "workers": "batches are the same for any number of them",
    "seeds": "each training has a seed of its own",
    "images_per_class": "decides what is given to a training, and the images are part of its identity",
}

USUAL_BATCH = 256  # images, which a learning rate is given for

# Fields whose defaults are each method's own.
Optimizer = Annotated[Literal["adamw", "sgd", "lars"], Field(description="sgd is with Nesterov's momentum")]
Rate = Annotated[
    float,
    Field(gt=0, le=limits.RATE, description="of a batch of 256 images, at its highest; it grows with the batch"),
]
Decay = Annotated[float, Field(ge=0, le=limits.RATE, description="of weights alone: not of biases and norms")]
Beta = Annotated[float, Field(ge=0, lt=1)]
Betas = Annotated[
    tuple[Beta, Beta],
    Field(description="of adamw: how much of the gradients' mean, and of their squares', stays each step"),
]
Flip = Annotated[float, Field(ge=0, le=1, description="probability of a mirror image")]
PerCaption = Annotated[
    int, Field(ge=1, le=1_000, description="images of a caption in a step, drawn anew each time (m)")
]
Crops = Annotated[
    tuple[Share, Share], Field(description="least and greatest share of an image's area in a random crop")
]
Color = Annotated[
    float, Field(ge=0, le=1, description="strength of changes of brightness, contrast and saturation; 0 = none")
]
Grayscale = Annotated[float, Field(ge=0, le=1, description="probability that colours are taken away")]
Blur = Annotated[float, Field(ge=0, le=1, description="probability of a blur")]
Temperature = Annotated[float, Field(gt=0, le=limits.WEIGHT, description="of the loss")]
Features = Annotated[int, Field(ge=1, le=65_536)]
Layers = Annotated[int, Field(ge=1, le=100)]
Projector = Annotated[
    list[Features], Field(min_length=1, max_length=8, description="features after each layer of the projector")
]
Momentum = Annotated[float, Field(ge=0, lt=1, description="of the weights that follow; all but moco raise it to 1")]
Warmup = Annotated[
    float, Field(ge=0, lt=1, description="share of the steps over which the learning rate rises linearly")
]
DecayEnd = Annotated[
    Annotated[float, Field(ge=0, le=limits.RATE)] | None,
    Field(description="what weight_decay has become at the end, by half a cosine; None = it stays"),
]
GradClip = Annotated[
    Annotated[float, Field(gt=0, le=limits.WEIGHT)] | None,
    Field(description="highest norm of a step's gradient; None = no limit"),
]
Downsample = Annotated[
    float,
    Field(ge=0, le=1, description="probability that an image is shrunk to a quarter or a half and enlarged again"),
]
LocalViews = Annotated[int, Field(ge=0, le=16, description="small crops of each image")]
PatchTemperature = Annotated[float, Field(ge=0.02, le=1)]  # exp(1 / 0.02) is well within float32
MaskRatio = Annotated[float, Field(gt=0, lt=1, description="share of patches that are hidden")]


class PretrainSettings(LearnerSettings):
    """A backbone of timm, pre-trained on the kept images, and judged by a linear probe on real training images where there are any."""

    untrained: ClassVar[Mapping[str, str]] = {
        "called": "untrained backbone",
        "what": "the backbone as it starts, with a linear probe on the same real images",
    }
    reads_labels: ClassVar[bool] = False
    reads_captions: ClassVar[bool] = False  # which images show one
    teaches_features: ClassVar[bool] = True

    kind: str
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
    steps: int | None = Field(
        None,
        ge=1,
        le=limits.STEPS,
        description="exactly so many steps in place of epochs, however many images there are: trainings on sets of different size"
        " are then of one length",
    )
    batch_size: int = Field(
        256,
        ge=2,
        le=limits.BATCH,
        description="images a step, of all processes together; whole captions of them are taken",
    )
    images_per_caption: PerCaption = 1
    optimizer: Optimizer = "adamw"
    learning_rate: Rate = 1e-4
    betas: Betas = (0.9, 0.98)
    weight_decay: Decay = 0.1
    weight_decay_end: DecayEnd = None
    warmup: Warmup = 0.05
    grad_clip: GradClip = None
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="of the forward pass; auto = bfloat16 on a GPU that has it, else float32"
    )
    gradient_cache: int | None = Field(
        None,
        ge=1,
        le=limits.BATCH,
        description="images that the backbone takes at a time: large batches in little memory, for one more forward pass (GradCache);"
        " None = all of a step",
    )
    gradient_checkpointing: bool = Field(
        False,
        description="less memory, for one more forward pass, within the backbone; BatchNorm's running statistics move twice a step",
    )
    compile: bool = Field(False, description="torch.compile the backbone: faster after minutes of waiting")

    crop_scale: Crops = (0.08, 1.0)
    flip: Flip = 0.5
    color: Color = 0.4
    grayscale: Grayscale = 0.2
    blur: Blur = 0.5
    downsample: Downsample = 0.0

    select: Literal["last"] = "last"
    workers: int | None = Field(
        None, ge=0, le=1_024, description="processes that prepare images; None = none on a CPU, up to 8 beside a GPU"
    )

    def highest_rate(self, images: int) -> float:
        """The learning rate at its highest, of a step of so many images."""
        return self.learning_rate * images / USUAL_BATCH

    @property
    def has_placebo(self) -> bool:
        """A method that reads neither captions nor labels learns the same from shuffled ones."""
        return self.reads_captions

    @property
    def lighter(self) -> str:
        """What would need less memory, in a sentence."""
        ways = ["set gradient_cache: 32" if self.gradient_cache is None else "lower gradient_cache"]
        ways += [] if self.gradient_checkpointing else ["set gradient_checkpointing: true"]
        ways += ["set precision: bfloat16"] if self.precision == "float32" else []
        return f"{', '.join([*ways, 'lower batch_size or image_size'])}, or choose a smaller network.".capitalize()

    @model_validator(mode="after")
    def _agree(self) -> PretrainSettings:
        if self.crop_scale[0] > self.crop_scale[1]:
            raise ValueError(
                f"crop_scale {list(self.crop_scale)} must be two shares of the area, 0 < least <= greatest <= 1, such as [0.08, 1.0]"
            )
        if self.weight_decay_end and not self.weight_decay:
            raise ValueError(
                f"weight_decay_end {self.weight_decay_end} is what weight_decay comes to, and weight_decay is 0: give it a start above 0, or set"
                " weight_decay_end: null"
            )
        if self.batch_size < 2 * self.images_per_caption:
            raise ValueError(
                f"images_per_caption {self.images_per_caption} must be at most half of batch_size {self.batch_size}: a step takes two"
                " captions or more"
            )
        if self.steps is not None and self.min_steps:
            raise ValueError("steps says how long a training is, and so does min_steps: give one of them")
        return self

    def goes_with(self, recipe: Recipe) -> None:
        """A probe can only be tested that was learnt. Without any labelled images there is none, and the backbone is as it is."""
        places = recipe.task.real.places
        if "test" in places and "train" not in places:
            raise ValueError(
                f"train.kind: {self.kind} gives a backbone, which task.real.test can judge by a linear probe alone, and the probe learns from"
                " real training images. Set task.real.train too, or leave task.real.test out: then nothing is measured that needs labels"
            )
        if recipe.evaluate.exchange_rate and self.steps is None:
            raise ValueError(
                "evaluate.exchange_rate of a backbone pre-trains on real images in place of the generated ones, few and many, which must"
                " be equally long: give train.steps, such as train.steps: 2000"
            )

    def build(self, given: Given) -> PretrainLearner:
        """The learner. Raises FigmentError for what cannot be trained, before anything is."""
        from figment.learners.pretrain.learner import PretrainLearner

        return PretrainLearner(
            self,
            given.task.class_names,
            given.real("train"),
            val=epoch_images(self.select, given),
            template=given.task.templates[0],
            folder=given.caches / "pretrain",
            track=given.recipe.track,
        )


class SimCLRSettings(PretrainSettings):
    """SimCLR: two views of an image."""

    kind: Literal["simclr"] = "simclr"
    color: Color = 0.8
    temperature: Temperature = 0.1
    projector: Projector = [2048, 128]


class StableRepSettings(PretrainSettings):
    """StableRep: several images of a caption."""

    reads_captions: ClassVar[bool] = True

    kind: Literal["stablerep"] = "stablerep"
    images_per_caption: PerCaption = 6
    views: int = Field(
        1, ge=1, le=16, description="crops of each image, each of which counts as one for the learning rate"
    )
    positives: Literal["captions", "slots"] = Field(
        "captions",
        description="what belongs together: all images of a caption, or those that a step has drawn together (the published program's),"
        " so that a caption it shows twice is two",
    )
    temperature: Temperature = 0.1
    projector: Projector = [4096, 4096, 256]

    def highest_rate(self, images: int) -> float:
        return super().highest_rate(images) * self.views


class TextSettings(PretrainSettings):
    """What reads captions."""

    reads_captions: ClassVar[bool] = True

    tokenizer: PathText = Field(
        "starter/clip", description="a folder of a CLIP, or a Hub id, whose tokenizer reads captions"
    )
    text_tower: tuple[Features, Layers] = Field((512, 12), description="its width, a multiple of 64, and its layers")

    @model_validator(mode="after")
    def _has_heads(self) -> TextSettings:
        if self.text_tower[0] % 64:
            raise ValueError(f"text_tower {list(self.text_tower)} must begin with a width that is a multiple of 64")
        return self


class StableRepPlusSettings(StableRepSettings, TextSettings):  # in this order: whose defaults count
    """StableRep+: the captions too."""

    kind: Literal["stablerep_plus"] = "stablerep_plus"  # type: ignore[assignment]


class CLIPSettings(TextSettings):
    """CLIP: an image and its caption."""

    kind: Literal["clip"] = "clip"
    weight_decay: Decay = 0.2
    crop_scale: Crops = (0.9, 1.0)
    flip: Flip = 0.0
    color: Color = 0.0
    grayscale: Grayscale = 0.0
    blur: Blur = 0.0


class SupervisedSettings(PretrainSettings):
    """A classifier of the classes that images were generated as."""

    reads_labels: ClassVar[bool] = True

    kind: Literal["supervised"] = "supervised"
    optimizer: Optimizer = "sgd"
    learning_rate: Rate = 0.1
    weight_decay: Decay = 1e-4
    color: Color = 0.0
    grayscale: Grayscale = 0.0
    blur: Blur = 0.0

    @property
    def has_placebo(self) -> bool:
        return True


class MoCoSettings(PretrainSettings):
    """MoCo v2: a queue of negatives."""

    kind: Literal["moco"] = "moco"
    optimizer: Optimizer = "sgd"
    learning_rate: Rate = 0.03
    weight_decay: Decay = 1e-4
    crop_scale: Crops = (0.2, 1.0)
    temperature: Temperature = 0.2
    projector: Projector = [2048, 128]
    momentum: Momentum = 0.999
    queue: int = Field(65_536, ge=1, le=limits.BATCH, description="images that are remembered")


class MoCoV3Settings(PretrainSettings):
    """MoCo v3: a view's prediction is found among the keys of the batch."""

    kind: Literal["moco_v3"] = "moco_v3"
    learning_rate: Rate = 1.5e-4
    betas: Betas = (0.9, 0.999)
    warmup: Warmup = 0.13
    temperature: Temperature = 0.2
    projector: Projector = [4096, 4096, 256]
    momentum: Momentum = 0.99
    freeze_patches: bool = Field(True, description="a ViT's projection of patches stays as it starts")


class BYOLSettings(PretrainSettings):
    """BYOL: one view predicts the other."""

    kind: Literal["byol"] = "byol"
    projector: Projector = [4096, 256]
    momentum: Momentum = 0.996


class MAESettings(PretrainSettings):
    """MAE: hidden patches are drawn."""

    kind: Literal["mae"] = "mae"
    learning_rate: Rate = 1.5e-4
    betas: Betas = (0.9, 0.95)
    weight_decay: Decay = 0.05
    crop_scale: Crops = (0.2, 1.0)
    color: Color = 0.0
    grayscale: Grayscale = 0.0
    blur: Blur = 0.0
    mask_ratio: MaskRatio = 0.75
    decoder: tuple[Features, Layers] = Field((512, 8), description="its width, a multiple of 32, and its layers")

    @model_validator(mode="after")
    def _has_heads(self) -> MAESettings:
        if self.decoder[0] % 32:
            raise ValueError(f"decoder {list(self.decoder)} must begin with a width that is a multiple of 32")
        return self


class DINOSettings(PretrainSettings):
    """DINO: crops are assigned to prototypes."""

    kind: Literal["dino"] = "dino"
    learning_rate: Rate = 5e-4
    betas: Betas = (0.9, 0.999)
    weight_decay: Decay = 0.04
    weight_decay_end: DecayEnd = 0.4
    warmup: Warmup = 0.1
    grad_clip: GradClip = 3.0
    crop_scale: Crops = (0.4, 1.0)
    temperature: Temperature = 0.1
    teacher_temperature: float = Field(0.04, gt=0, le=limits.WEIGHT, description="of what the teacher says")
    projector: Projector = [2048, 2048, 256]
    momentum: Momentum = 0.996
    local_views: LocalViews = 8
    prototypes: int = Field(65_536, ge=2, le=limits.BATCH, description="that images are assigned to")
    frozen_epochs: int = Field(
        1, ge=0, le=limits.EPOCHS, description="first epochs, in which prototypes stay as they start"
    )


class SynCLRSettings(PretrainSettings):
    """SynCLR: several images of a caption, a teacher, and hidden patches."""

    reads_captions: ClassVar[bool] = True

    kind: Literal["synclr"] = "synclr"
    options: dict[str, JsonValue] = Field(
        {"drop_path_rate": 0.1},
        description="timm's own arguments of that architecture; those of your own take the place of all",
    )
    images_per_caption: PerCaption = 4
    learning_rate: Rate = 7.5e-5
    betas: Betas = (0.9, 0.999)
    weight_decay: Decay = 0.04
    weight_decay_end: DecayEnd = 0.2
    warmup: Warmup = 0.16
    crop_scale: Crops = (0.32, 1.0)
    downsample: Downsample = 0.05
    temperature: Temperature = 0.08
    projector: Projector = [4096, 4096, 256]
    momentum: Momentum = 0.994
    local_views: LocalViews = 4
    mask_ratio: MaskRatio = 0.5
    patch_projector: Projector = [2048, 2048, 256]
    teacher_temperature: tuple[PatchTemperature, PatchTemperature] = Field(
        (0.04, 0.07),
        description="of what the teacher says of a patch: at first, and from a fifteenth of the training on",
    )
    prototypes: int = Field(65_536, ge=2, le=limits.BATCH, description="that patches are assigned to")


#: Any method's, by its kind.
AnyMethod = Annotated[
    SimCLRSettings
    | StableRepSettings
    | StableRepPlusSettings
    | CLIPSettings
    | SupervisedSettings
    | MoCoSettings
    | BYOLSettings
    | MAESettings
    | DINOSettings
    | MoCoV3Settings
    | SynCLRSettings,
    Field(discriminator="kind"),
]

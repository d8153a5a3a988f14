"""How images are made: the ``generate`` of a recipe."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from math import log2
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
from pydantic import Discriminator, Field, Tag, model_validator

from figment import limits
from figment.errors import FigmentError
from figment.generate.finetune_settings import FinetuneSettings
from figment.generate.loras_settings import LoraSettings
from figment.generate.real_guidance_settings import RealGuidanceSettings
from figment.generate.speed_settings import SpeedSettings
from figment.recipe.plugin import PLUGIN, Plugin, kind_of
from figment.records import fingerprint
from figment.saving import Format, Saving
from figment.task import PathText, Strict, Text

if TYPE_CHECKING:
    from figment.generate.finetune import Finetuning, Validation
    from figment.recipe.given import Given
    from figment.types import Generator


MANY = 1_000_000  # images of a run, from which on the number of its files matters
FEW = 256  # images a file
A_SIDE = 512
A_PHOTO = A_SIDE**2  # pixels
STARTER_SIDE = 32
#: What models make that are not here to be asked: pixels of a side, by the longest part that their name has in common with these.
SIDES = {
    "stable-diffusion-2": 768,
    "stable-diffusion-2-base": 512,
    "stable-diffusion-2-1-base": 512,
    "stable-diffusion-3": 1_024,
    "stable-diffusion-xl": 1_024,
    "FLUX": 1_024,
    "Qwen-Image": 1_024,
    "Z-Image": 1_024,
}
ENLARGED = 4, 64  # times by a stage of a cascade, and pixels of a side of the first one's images (DeepFloyd IF)
BYTES_A_PIXEL: dict[Format, float] = {"png": 1.6, "webp": 1.3, "jpeg": 0.5}  # of photographs, docs/format.md
ENCODED = 64  # images that an encoder is given at a time


class GeneratorSettings(Strict):
    """What the settings of all generators have."""

    images_per_class: int = Field(
        200, ge=1, le=limits.IMAGES_A_CLASS, description="attempts for each class, spread evenly over its prompts"
    )
    images_per_prompt: int | None = Field(
        None,
        ge=1,
        le=limits.IMAGES_A_CLASS,
        description="attempts for each prompt, in place of images_per_class, which then follows from the number of prompts; None = that says"
        " how many",
    )
    shard_size: int = Field(
        FEW,
        ge=1,
        le=limits.SHARD,
        description="images a file; an interrupted run loses at most two for each worker; up to 4,096 unless you say it, where there are a"
        " million small ones",
    )

    save_size: int | None = Field(
        None,
        ge=8,
        le=limits.SIDE,
        description="pixels of the shorter side that images are reduced to before they are written; None = as they are made",
    )
    format: Format = Field("png", description="of the files: png and webp lose nothing, jpeg (quality 95) is smallest")

    @property
    def saving(self) -> Saving:
        """How images are written."""
        return Saving(self.format, self.save_size)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width that images are made in, in pixels: as the settings say, or what such a model is known to make."""
        return A_SIDE, A_SIDE

    @property
    def passes(self) -> float | None:
        """Of a denoiser for an image, of which guidance takes two a step; None where the settings do not say it."""
        return None

    @property
    def assumed_bytes(self) -> float:
        """Of an image as it is written, where none has been made."""
        height, width = self.size
        shrunk = 1.0 if self.save_size is None else min(1.0, self.save_size / min(height, width))
        return height * width * shrunk**2 * BYTES_A_PIXEL[self.format]

    @property
    def assumed(self) -> str:
        """The same in words."""
        height, width = self.size
        reduced = f" reduced to {self.save_size}" if self.save_size else ""
        return (
            f"an image is taken to be {self.assumed_bytes / 1000:,.0f} KB ({self.format} of {width} x {height} pixels{reduced},"
            f" {BYTES_A_PIXEL[self.format]:g} bytes a pixel)"
        )

    @property
    def shard_size_of_many(self) -> int:
        """Images a file where there are a million and more: a power of two that makes files of some 100 MB, as 256 images of 512 pixels
        are, and at most 4,096. 256 where the size of the images is not said."""
        height, width = getattr(self, "height", None), getattr(self, "width", None)
        pixels = self.save_size**2 if self.save_size else (height or 0) * (width or 0)
        if not pixels:
            return FEW
        fit = FEW * A_PHOTO * BYTES_A_PIXEL["png"] / (pixels * BYTES_A_PIXEL[self.format])
        return min(4_096, max(FEW, 2 ** round(log2(fit))))

    @property
    def once(self) -> bool:
        """Whether the images are there already: each prompt has one, and a class as many as there are."""
        return False

    @property
    def of_each_prompt(self) -> int | None:
        """How many images each prompt has, and no more; None where each class has as many, whatever its prompts."""
        return 1 if self.once else self.images_per_prompt

    def of_prompts(self, prompts: int, kind: str) -> Self:
        """The same with ``images_per_class`` of a class that comes to have all ``prompts`` that it is asked for. Raises ValueError."""
        of_each = self.images_per_prompt
        if of_each is None:
            return self
        if self.once or not 0 < prompts < sys.maxsize:
            raise ValueError(
                f"generate.images_per_prompt needs to know how many prompts there are at most, and {kind} prompts do not say it: give"
                " prompts.per_class where they have it, or generate.images_per_class in its place"
            )
        n = of_each * prompts
        said = f"generate.images_per_prompt: {of_each:,} of {prompts:,} prompts are {n:,} images of a class"
        if "images_per_class" in self.model_fields_set and self.images_per_class != n:
            raise ValueError(
                f"{said}, and generate.images_per_class says {self.images_per_class:,}: give one of the two and leave the other out"
            )
        if n > limits.IMAGES_A_CLASS:
            raise ValueError(f"{said}, and at most {limits.IMAGES_A_CLASS:,} are allowed: lower one of them")
        return self.model_copy(update={"images_per_class": n})

    @property
    def guided(self) -> bool:
        """Whether images start from the real images of ``few_shot``."""
        return False

    @property
    def finetunes(self) -> bool:
        """Whether the generator is first tuned on real images."""
        return False

    def build(self, given: Given) -> Generator:
        """The generator as it comes, before any fine-tuning."""
        raise NotImplementedError

    def finetuning(self, given: Given, generator: Generator, root: Path) -> Finetuning | None:
        """How ``generator`` is tuned on real images, below the folder ``root``; None where it is not. Raises FigmentError."""
        return None


class SamplerSettings(Strict):
    """A diffusers pipeline and how it samples. Names are those of diffusers; None = the pipeline's own."""

    model: PathText = Field(
        "starter", description="'starter', a pipeline folder, or a Hub id (owner/name, owner/name@revision)"
    )
    guidance_scale: float | None = Field(
        2.0,
        ge=0,
        le=1_000,
        description="1 = no guidance; training gains from less than looks do; None = the pipeline's own",
    )
    guidance_start: float = Field(0.0, ge=0, lt=1, description="share of the steps before which there is no guidance")
    guidance_stop: float = Field(1.0, gt=0, le=1, description="share of the steps after which guidance ends")
    num_inference_steps: int | None = Field(20, ge=1, le=10_000, description="None = the pipeline's own")
    scheduler: str | None = Field(None, description="a diffusers scheduler class; None = the pipeline's own")
    log_variance: float | None = Field(
        None,
        ge=0,
        le=1,
        description="how much noise a DDPMScheduler adds, from 0 (fixed_small) to 1 (fixed_large); None = its own",
    )
    negative_prompt: Text = ""

    @property
    def passes(self) -> float | None:
        steps, scale = self.num_inference_steps, self.guidance_scale
        if steps is None or scale is None:
            return None
        return steps * (1 + (self.guidance_stop - self.guidance_start if scale > 1 else 0))

    @model_validator(mode="after")
    def _interval(self) -> Self:
        if self.guidance_start >= self.guidance_stop:
            raise ValueError(
                f"guidance_start ({self.guidance_start:g}) must be smaller than guidance_stop ({self.guidance_stop:g})"
            )
        return self


class DiffusersSettings(SamplerSettings, GeneratorSettings):
    """A diffusers text-to-image pipeline, how it samples, and what it is tuned on."""

    kind: Literal["diffusers"] = "diffusers"
    height: int | None = Field(None, ge=8, le=limits.SIDE, description="in pixels; None = the pipeline's own")
    width: int | None = Field(None, ge=8, le=limits.SIDE, description="in pixels; None = the pipeline's own")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = "auto"
    batch_size: Annotated[int, Field(ge=1, le=limits.BATCH)] | Literal["auto"] = Field(
        "auto", description="halved by itself when memory runs out"
    )
    offload: Literal["none", "model", "sequential"] = Field(
        "none",
        description="keep weights in main memory until they are needed: model moves one part of the pipeline at a time to the GPU,"
        " sequential one layer at a time, many times slower",
    )
    allow_pickle: bool = Field(False, description="load weights stored as pickles, which can run code")
    denoiser: PathText | None = Field(
        None,
        description="a folder with unet/ or transformer/, and perhaps scheduler/, in the place of the model's own: distilled, or fine-tuned in full",
    )
    loras: list[LoraSettings] = Field(
        [], max_length=limits.FILTERS, description="LoRAs that others made for this model, merged into its weights"
    )
    finetune: FinetuneSettings | None = Field(
        None,
        description="tune the model on the real images first (DataDream's LoRA, or in full); {} = with the defaults, None = do not",
    )
    real_guidance: RealGuidanceSettings | None = Field(
        None,
        description="start each image from a noised real image of few_shot; {} = as noisy as the paper has it, None = from noise",
    )
    speed: SpeedSettings = Field(
        SpeedSettings(), description="what makes images sooner, each timed before it is used; {} = nothing"
    )

    @property
    def size(self) -> tuple[int, int]:
        if self.height is not None and self.width is not None:
            return self.height, self.width
        known = max((name for name in SIDES if name.lower() in self.model.lower()), key=len, default="")
        side = STARTER_SIDE if self.model == "starter" else SIDES.get(known, A_SIDE)
        return self.height or side, self.width or side

    @model_validator(mode="after")
    def _lora_beside_speed(self) -> Self:
        """Told before the LoRA is trained, which takes hours."""
        taken = "speed.compile" if self.speed.compile else "speed.backend: openvino"
        if self.finetune and self.finetune.method == "lora" and (self.speed.compile or self.speed.backend != "torch"):
            raise ValueError(
                f"{taken} takes the denoiser as it is, and the LoRA of finetune is added to its layers image by image: leave one of them"
                " out, or set finetune.method: full"
            )
        return self

    @property
    def guided(self) -> bool:
        return self.real_guidance is not None

    @property
    def finetunes(self) -> bool:
        return self.finetune is not None

    def build(self, given: Given) -> Generator:
        from figment.generate.diffusers import DiffusersGenerator

        options = self.model_dump(
            exclude={*GeneratorSettings.model_fields, "kind", "finetune", "real_guidance", "speed"}
        )
        shots = given.shots_per_class if self.real_guidance is not None else None
        if self.real_guidance is not None and shots is not None:
            options["real_guidance"] = self.real_guidance.resolved(shots)
        generator = DiffusersGenerator(**options, speed=self.speed)
        if generator.upscales:
            raise FigmentError(
                f"{generator.folder.name} enlarges images, and makes none from text alone. Make it a later stage of a cascade: generate:"
                " {kind: cascade, stages: [...]}, with a model that makes images from text before it."
            )
        return generator

    def finetuning(self, given: Given, generator: Generator, root: Path) -> Finetuning | None:
        from figment.generate.captions import captions_of
        from figment.generate.diffusers import DiffusersGenerator
        from figment.generate.finetune import Finetuning

        if self.finetune is None or not isinstance(
            generator, DiffusersGenerator
        ):  # one given from Python stays as it is
            return None
        train = given.real("train")
        if train is None:
            raise FigmentError(
                "generate.finetune tunes the generator on real training images, and there are none. Set task.real.train to a"
                " folder of yours, or leave generate.finetune out."
            )
        settings = self.finetune.model_copy(update={"template": self.finetune.template or given.task.templates[0]})
        names = tuple(given.task.class_names)
        captions = tuple(captions_of(train, names, settings)) if settings.has_own_captions else None
        validation = None if settings.validate_steps is None else _validation(given)
        return Finetuning(generator, train, names, settings, root, given.seed, captions, validation, given.recipe.track)


def _validation(given: Given) -> Validation:
    """The distance of images to the real ones of validation, in the features of the recipe's encoder."""
    from figment.evaluate.fidelity import frechet_distance
    from figment.generate.finetune import Validation

    real, features = given.real("val"), given.features()
    if real is None or len(real) < 2:
        raise FigmentError(
            "generate.finetune.validate_steps measures how far generated images are from validation images, and there are not two of"
            " them. Set task.real.val, or leave validate_steps out: then the last weights are kept."
        )

    def distance(images: Sequence[np.ndarray]) -> float:
        parts = [features.encoder.images(images[i : i + ENCODED]) for i in range(0, len(images), ENCODED)]
        return frechet_distance(np.concatenate(parts), features(real))

    return Validation(distance, fingerprint([features.encoder.fingerprint, list(real.digests)]))


class CascadeStage(SamplerSettings):
    """One pipeline of a cascade. Steps and guidance are its own where nothing is said."""

    guidance_scale: float | None = Field(None, ge=0, le=1_000, description="1 = no guidance; None = the pipeline's own")
    num_inference_steps: int | None = Field(None, ge=1, le=10_000, description="None = the pipeline's own")
    noise_level: int | None = Field(
        None,
        ge=0,
        lt=1_000,
        description="noise that is added to the images to enlarge, as a step of training; 0 = next to none; None = the pipeline's own",
    )


class CascadeSettings(GeneratorSettings):
    """A small image from text, enlarged stage by stage: Imagen's way, with DeepFloyd IF and diffusers' upscalers."""

    kind: Literal["cascade"] = "cascade"
    stages: list[CascadeStage] = Field(
        min_length=1, max_length=limits.STAGES, description="the first makes images from text, the others enlarge them"
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = "auto"
    offload: bool = Field(False, description="keep a stage's weights in main memory while another is at work")
    allow_pickle: bool = Field(False, description="load weights stored as pickles, which can run code")

    @property
    def size(self) -> tuple[int, int]:
        times, side = ENLARGED
        last: int = side * times ** (len(self.stages) - 1)
        return last, last

    @property
    def passes(self) -> float | None:
        own = [stage.passes for stage in self.stages]
        return None if None in own else sum(n for n in own if n is not None)

    def build(self, given: Given) -> Generator:
        from figment.generate.cascade import CascadeGenerator
        from figment.generate.diffusers import DiffusersGenerator

        shared = self.model_dump(include={"dtype", "device", "allow_pickle"})
        stages = [DiffusersGenerator(**stage.model_dump(), **shared) for stage in self.stages]
        return CascadeGenerator(stages, offload=self.offload)


class GlideSettings(GeneratorSettings):
    """GLIDE's released models (Nichol et al. 2021), by the package of their authors: 64 pixels from text, enlarged to 256."""

    kind: Literal["glide"] = "glide"
    weights: PathText = Field("glide_model_cache", description="a folder with base.pt and upsample.pt")
    guidance_scale: float = Field(3.0, ge=0, le=1_000, description="of the first stage; 1 = no guidance")
    num_inference_steps: int = Field(100, ge=2, le=1_000, description="of the first stage; the second takes its own 27")
    device: str = "auto"
    batch_size: int = Field(16, ge=1, le=limits.BATCH, description="images at a time")

    @property
    def size(self) -> tuple[int, int]:
        return 256, 256

    def build(self, given: Given) -> Generator:
        from figment.generate.glide import GlideGenerator

        own = {"weights", "guidance_scale", "num_inference_steps", "device", "batch_size"}
        return GlideGenerator(**self.model_dump(include=own))


class ProceduralSettings(GeneratorSettings):
    """Images drawn by arithmetic: the whole path without a model."""

    kind: Literal["procedural"] = "procedural"
    height: int = Field(32, ge=1, le=limits.SIDE, description="in pixels")
    width: int = Field(32, ge=1, le=limits.SIDE, description="in pixels")
    noise: float = Field(8.0, ge=0, le=255, description="standard deviation, in grey levels")

    @property
    def size(self) -> tuple[int, int]:
        return self.height, self.width

    def build(self, given: Given) -> Generator:
        from figment.generate.procedural import ProceduralGenerator

        return ProceduralGenerator(height=self.height, width=self.width, noise=self.noise)


class FolderSettings(GeneratorSettings):
    """Images that are there already, made by whatever made them. Their prompts come with them: ``prompts: {kind: of_images}``."""

    kind: Literal["folder"] = "folder"
    path: PathText = Field(
        description="labelled images in any form that real ones may have (docs/data.md): class folders, a table, Parquet, tars,"
        " datasets:NAME:SPLIT. Of a class with more than images_per_class a seeded choice is taken, of one with fewer all"
    )

    @property
    def once(self) -> bool:
        return True

    def build(self, given: Given) -> Generator:
        from figment.generate.folder import FolderGenerator

        generator = FolderGenerator(self.path, given.task.class_names, given.task.own_names)
        _ = generator.images  # what is not there, or is of other classes, is told before anything is spent
        return generator


class GeneratorPlugin(Plugin, GeneratorSettings):
    """Your own generator: ``kind: package.module:Name``, called with ``options``."""

    def build(self, given: Given) -> Generator:
        from figment.plugins.generator import PluginGenerator
        from figment.plugins.load import load

        return PluginGenerator(load(self.kind, self.options, given))


def _generator_kind(value: Any) -> str:
    """Most recipes name a diffusers model and no kind."""
    return "diffusers" if isinstance(value, dict) and "kind" not in value else kind_of(value)


Generate = Annotated[
    Annotated[DiffusersSettings, Tag("diffusers")]
    | Annotated[CascadeSettings, Tag("cascade")]
    | Annotated[GlideSettings, Tag("glide")]
    | Annotated[ProceduralSettings, Tag("procedural")]
    | Annotated[FolderSettings, Tag("folder")]
    | Annotated[GeneratorPlugin, Tag(PLUGIN)],
    Discriminator(_generator_kind),
]

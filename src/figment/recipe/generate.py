"""How images are made: the ``generate`` of a recipe."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from figment.generate.finetune_settings import FinetuneSettings
from figment.generate.real_guidance_settings import RealGuidanceSettings
from figment.recipe.plugin import PLUGIN, Plugin, kind_of
from figment.task import PathText, Strict, Text


class DiffusersSettings(Strict):
    """A diffusers text-to-image pipeline and how it samples. Names are those of diffusers."""

    kind: Literal["diffusers"] = "diffusers"
    model: PathText = Field(
        "starter", description="'starter', a pipeline folder, or a Hub id (owner/name, owner/name@revision)"
    )
    images_per_class: int = Field(200, ge=1, description="attempts for each class, spread evenly over its prompts")
    guidance_scale: float = Field(2.0, ge=0, description="1 = no guidance; training gains from less than looks do")
    guidance_stop: float = Field(1.0, gt=0, le=1, description="share of the steps after which guidance ends")
    num_inference_steps: int = Field(20, ge=1)
    scheduler: str | None = Field(None, description="a diffusers scheduler class; None = the pipeline's own")
    negative_prompt: Text = ""
    height: int | None = Field(None, ge=8, description="in pixels; None = the pipeline's own")
    width: int | None = Field(None, ge=8, description="in pixels; None = the pipeline's own")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = "auto"
    batch_size: int | Literal["auto"] = Field("auto", description="halved by itself when memory runs out")
    shard_size: int = Field(256, ge=1, description="images a file; an interrupted run loses at most the one it is at")
    allow_pickle: bool = Field(False, description="load weights stored as pickles, which can run code")
    finetune: FinetuneSettings | None = Field(
        None,
        description="tune the model on the real images first (DataDream's LoRA); {} = with the defaults, None = do not",
    )
    real_guidance: RealGuidanceSettings | None = Field(
        None,
        description="start each image from a noised real image of few_shot; {} = as noisy as the paper has it, None = from noise",
    )


class ProceduralSettings(Strict):
    """Images drawn by arithmetic: the whole path without a model."""

    kind: Literal["procedural"] = "procedural"
    images_per_class: int = Field(200, ge=1, description="attempts for each class, spread evenly over its prompts")
    height: int = Field(32, ge=1, description="in pixels")
    width: int = Field(32, ge=1, description="in pixels")
    noise: float = Field(8.0, ge=0, description="standard deviation, in grey levels")
    shard_size: int = Field(256, ge=1, description="images a file; an interrupted run loses at most the one it is at")


class GeneratorPlugin(Plugin):
    """Your own generator: ``kind: package.module:Name``, called with ``options``."""

    images_per_class: int = Field(200, ge=1, description="attempts for each class, spread evenly over its prompts")
    shard_size: int = Field(256, ge=1, description="images a file; an interrupted run loses at most the one it is at")


def _generator_kind(value: Any) -> str:
    """Most recipes name a diffusers model and no kind."""
    return "diffusers" if isinstance(value, dict) and "kind" not in value else kind_of(value)


Generate = Annotated[
    Annotated[DiffusersSettings, Tag("diffusers")]
    | Annotated[ProceduralSettings, Tag("procedural")]
    | Annotated[GeneratorPlugin, Tag(PLUGIN)],
    Discriminator(_generator_kind),
]

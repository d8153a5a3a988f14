"""What differs between families of diffusers pipelines: how they take encoded text, how they are guided, which
noise their image-to-image twins start with, and which of them enlarge images.

Each row was checked against the pipeline's source and is tested; a pipeline of another family is given plain texts.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import diffusers
import numpy as np
import torch

from figment.generate.placing import computes_on

Encoded = dict[str, torch.Tensor]  # argument of the pipeline's __call__ -> (1, ...)
Schedule = Callable[[Any, int, int, int], dict[str, Any]]  # of a pipeline, the steps, height and width


@dataclass(frozen=True)
class Family:
    """``returned`` names what ``encode_prompt`` returns as ``__call__`` names its arguments ("" = not wanted)."""

    returned: tuple[str, ...]
    extra: Mapping[str, Any] = field(default_factory=dict)  # what encode_prompt must be told besides the text
    doubled: bool = False  # a guided step is one batch of two halves, the one without text first
    # What the image-to-image twin tells set_timesteps besides the number of steps; None = diffusers has no twin.
    schedule: Schedule | None = None
    # In what range an upscaler takes the pixels that it enlarges; None = it makes images from text alone.
    pixels: tuple[float, float] | None = None
    patch: int = 1  # latent pixels along a side that the denoiser takes as one
    tokens: int | None = None  # of a text that are read, where the pipeline says so in its code alone

    @property
    def guided(self) -> bool:
        """Whether guidance takes a second pass without the text. (Flux is told its guidance as a number.)"""
        return any(name.startswith("negative_") for name in self.returned)


def _of_the_scheduler(pipe: Any, steps: int, height: int, width: int) -> dict[str, Any]:
    return {}


def _shifted(pipe: Any, steps: int, height: int, width: int) -> dict[str, Any]:
    """SD3: larger images get more noise at the same step, where the scheduler says so."""
    if not pipe.scheduler.config.get("use_dynamic_shifting"):
        return {}
    return {"mu": _mu(pipe, pipe.transformer.config.patch_size, height, width, max_shift=1.16)}


def _flux_schedule(pipe: Any, steps: int, height: int, width: int) -> dict[str, Any]:
    """Flux has sigmas of its own, and packs four latent pixels into a token."""
    return {"sigmas": np.linspace(1.0, 1 / steps, steps), "mu": _mu(pipe, 2, height, width, max_shift=1.15)}


def _mu(pipe: Any, patch: int, height: int, width: int, max_shift: float) -> float:
    from diffusers.pipelines.flux.pipeline_flux import calculate_shift  # which imports all of Flux

    config, side = pipe.scheduler.config, pipe.vae_scale_factor
    return calculate_shift(
        (height // side // patch) * (width // side // patch),
        config.get("base_image_seq_len", 256),
        config.get("max_image_seq_len", 4096),
        config.get("base_shift", 0.5),
        config.get("max_shift", max_shift),
    )


_POOLED = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
_TEXT = ("prompt_embeds", "negative_prompt_embeds")
_UNCLEANED = {"clean_caption": False}  # True would make the text depend on whether two more packages are installed
_PIXART = Family(
    ("prompt_embeds", "prompt_attention_mask", "negative_prompt_embeds", "negative_prompt_attention_mask"),
    extra=_UNCLEANED,
    doubled=True,
)
FAMILIES = {
    "StableDiffusionPipeline": Family(_TEXT, doubled=True, schedule=_of_the_scheduler),
    "StableDiffusionXLPipeline": Family(_POOLED, doubled=True, schedule=_of_the_scheduler),
    "StableDiffusion3Pipeline": Family(
        _POOLED, extra={"prompt_2": None, "prompt_3": None}, doubled=True, schedule=_shifted, patch=2
    ),
    "PixArtAlphaPipeline": _PIXART,
    "PixArtSigmaPipeline": _PIXART,
    "FluxPipeline": Family(("prompt_embeds", "pooled_prompt_embeds", ""), schedule=_flux_schedule, patch=2),
    "IFPipeline": Family(_TEXT, extra=_UNCLEANED, doubled=True, tokens=77),
    "IFSuperResolutionPipeline": Family(_TEXT, extra=_UNCLEANED, doubled=True, tokens=77, pixels=(-1.0, 1.0)),
    "StableDiffusionUpscalePipeline": Family(_TEXT, doubled=True, pixels=(0.0, 1.0)),
}


def is_upscaler(name: str) -> bool:
    """Whether a pipeline, by its class, enlarges images."""
    return name in FAMILIES and FAMILIES[name].pixels is not None


def own_noise_level(name: str) -> int | None:
    """How much noise an upscaler adds where nobody says, by the pipeline's class; None of others."""
    if not is_upscaler(name):
        return None
    return int(inspect.signature(getattr(diffusers, name).__call__).parameters["noise_level"].default)


def encode(pipe: Any, family: Family, texts: Sequence[str]) -> list[Encoded]:
    """Each text as the pipeline's arguments, on its device."""
    unguided = {"do_classifier_free_guidance": False} if family.guided else {}
    named = _encode(pipe, family, prompt=list(texts), **unguided)
    # Clones, so that one text that is kept does not keep the whole batch.
    return [{name: tensor[i : i + 1].clone() for name, tensor in named.items()} for i in range(len(texts))]


def encode_negative(pipe: Any, family: Family, negative_prompt: str) -> Encoded:
    """What guidance pushes away from. No text means the family's own: SDXL's is zeros, not an encoded ""."""
    given = {"negative_prompt": [negative_prompt]} if negative_prompt else {}
    named = _encode(pipe, family, prompt=[""], do_classifier_free_guidance=True, **given)
    return {name: tensor for name, tensor in named.items() if name.startswith("negative_")}


def _encode(pipe: Any, family: Family, **arguments: Any) -> Encoded:
    returned = pipe.encode_prompt(device=computes_on(pipe), num_images_per_prompt=1, **family.extra, **arguments)
    return {name: tensor for name, tensor in zip(family.returned, returned, strict=True) if name and tensor is not None}

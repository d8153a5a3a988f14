"""What differs between families of diffusers pipelines: how they take encoded text, and how guidance is switched off.

Each row was checked against the pipeline's source and is tested; a pipeline of another family is given plain texts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

Encoded = dict[str, torch.Tensor]  # argument of the pipeline's __call__ -> (1, ...)


@dataclass(frozen=True)
class Family:
    """``returned`` names what ``encode_prompt`` returns as ``__call__`` names its arguments ("" = not wanted)."""

    returned: tuple[str, ...]
    extra: Mapping[str, Any] = field(default_factory=dict)  # what encode_prompt must be told besides the text
    doubled: tuple[
        str, ...
    ] = ()  # what a guided step holds twice, the half without text first; () = cannot be switched off

    @property
    def guided(self) -> bool:
        """Whether guidance takes a second pass without the text. (Flux is told its guidance as a number.)"""
        return any(name.startswith("negative_") for name in self.returned)


_POOLED = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
# clean_caption would make the text depend on whether two more packages are installed.
_PIXART = Family(
    ("prompt_embeds", "prompt_attention_mask", "negative_prompt_embeds", "negative_prompt_attention_mask"),
    extra={"clean_caption": False},
)
FAMILIES = {
    "StableDiffusionPipeline": Family(("prompt_embeds", "negative_prompt_embeds"), doubled=("prompt_embeds",)),
    "StableDiffusionXLPipeline": Family(_POOLED, doubled=("prompt_embeds", "add_text_embeds", "add_time_ids")),
    "StableDiffusion3Pipeline": Family(
        _POOLED, extra={"prompt_2": None, "prompt_3": None}, doubled=("prompt_embeds", "pooled_prompt_embeds")
    ),
    "PixArtAlphaPipeline": _PIXART,
    "PixArtSigmaPipeline": _PIXART,
    "FluxPipeline": Family(("prompt_embeds", "pooled_prompt_embeds", "")),
}


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
    returned = pipe.encode_prompt(device=pipe.device, num_images_per_prompt=1, **family.extra, **arguments)
    return {name: tensor for name, tensor in zip(family.returned, returned, strict=True) if name and tensor is not None}


def stop_guidance(after: float) -> Callable[[Any, int, Any, dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    """A ``callback_on_step_end`` that ends guidance after this share of the steps: the rest take one pass, not two."""

    def callback(pipe: Any, step: int, timestep: Any, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        if not pipe.do_classifier_free_guidance or step + 1 < round(after * pipe.num_timesteps):
            return {}
        pipe._guidance_scale = 0.0  # where diffusers' own callbacks switch it off
        return {name: tensor.chunk(2)[1] for name, tensor in tensors.items()}

    return callback

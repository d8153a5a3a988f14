"""What a denoiser is told besides the noisy latents and the time: the text, with SDXL also sizes, with Flux places and guidance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from figment.errors import FigmentError
from figment.generate.families import FAMILIES, Encoded, encode, encode_negative
from figment.generate.training.families import UNET, denoiser_of, trained

KEPT_BYTES = 256 * 2**20  # of encoded texts: two thousand of SD's
FLUX_GUIDANCE = 3.5  # that its training is told, as in diffusers' scripts; sampling may be told another


class Conditions:
    """Texts as arguments of a pipeline's denoiser, each distinct one encoded once while its encoders are frozen.

    Args:
        pipe: of a family of `families.TRAINED`. Raises FigmentError for others, and for a size of which Flux makes no tokens.
        size: height and width of the images in pixels, which SDXL and Flux are told.
        learns: whether the text encoders learn: then nothing is kept, and there are gradients.
    """

    def __init__(self, pipe: Any, size: tuple[int, int], learns: bool = False):
        self.trained = trained(type(pipe).__name__)
        if self.trained.packed and any(side % (2 * pipe.vae_scale_factor) for side in size):
            raise FigmentError(
                f"A {type(pipe).__name__} cannot be trained on images of {size[1]}x{size[0]} pixels: height and width must be"
                f" divisible by {2 * pipe.vae_scale_factor}. Set generate.height and generate.width so."
            )
        self.pipe, self.size, self.learns = pipe, size, learns
        self.family = FAMILIES[type(pipe).__name__]
        self._kept: dict[str, Encoded] = {}

    def __call__(self, texts: Sequence[str]) -> dict[str, Any]:
        """``encoder_hidden_states`` (B, L, D), and what else the denoiser takes."""
        if self.learns or sum(t.nbytes for one in self._kept.values() for t in one.values()) > KEPT_BYTES:
            self._kept = {}
        new = [text for text in dict.fromkeys(texts) if text not in self._kept]
        with torch.set_grad_enabled(self.learns):
            self._kept |= dict(zip(new, encode(self.pipe, self.family, new), strict=True)) if new else {}
        return self._arguments([self._kept[text] for text in texts])

    @torch.no_grad()
    def without_text(self, n: int) -> dict[str, Any]:
        """The half that a UNet's guidance pushes away from, n times. (SDXL's is zeros, not an encoded empty text.)"""
        negative = encode_negative(self.pipe, self.family, "")
        return self._arguments([{name.removeprefix("negative_"): t for name, t in negative.items()}] * n)

    def _arguments(self, encoded: Sequence[Encoded]) -> dict[str, Any]:
        tensors = {name: torch.cat([one[name] for one in encoded]) for name in encoded[0]}
        told = {"encoder_hidden_states": tensors["prompt_embeds"]}
        if "pooled_prompt_embeds" not in tensors:
            return told
        if self.trained.denoiser != UNET:
            return {
                **told,
                "pooled_projections": tensors["pooled_prompt_embeds"],
                **self._flux(tensors["prompt_embeds"]),
            }
        size = torch.tensor(
            [[*self.size, 0, 0, *self.size]] * len(encoded)
        )  # SDXL: of the original, the cut, the target
        more = {"text_embeds": tensors["pooled_prompt_embeds"], "time_ids": size.to(tensors["prompt_embeds"])}
        return {**told, "added_cond_kwargs": more}

    def _flux(self, embedded: Tensor) -> dict[str, Any]:
        """Where each token lies, text at the origin, and the guidance of one that is told it; nothing of other families."""
        if not self.trained.packed:
            return {}
        h, w = (side // self.pipe.vae_scale_factor // 2 for side in self.size)
        rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
        image = torch.stack([torch.zeros(h, w), rows, columns], -1).flatten(0, 1)  # (h w, 3)
        told = {"img_ids": image.to(embedded), "txt_ids": torch.zeros(embedded.shape[1], 3).to(embedded)}
        if denoiser_of(self.pipe).config.guidance_embeds:
            told["guidance"] = torch.full((len(embedded),), FLUX_GUIDANCE, device=embedded.device)
        return told


def both(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """The arguments for two batches as those for one after the other."""
    return {n: both(v, second[n]) if isinstance(v, dict) else torch.cat([v, second[n]]) for n, v in first.items()}


def guidance_embedding(guidance_scale: Tensor, size: int) -> Tensor:
    """How a UNet with ``time_cond_proj_dim`` is told its guidance: (B,) to (B, size), as diffusers' pipelines do it."""
    half = size // 2
    rates = torch.exp(-torch.log(torch.tensor(10_000.0)) / (half - 1) * torch.arange(half))
    angles = 1000.0 * (guidance_scale.float() - 1)[:, None] * rates.to(guidance_scale.device)
    return torch.nn.functional.pad(torch.cat([angles.sin(), angles.cos()], 1), (0, size % 2))


def as_dtype(arguments: dict[str, Any], dtype: torch.dtype) -> dict[str, Any]:
    """The same arguments for a UNet whose weights are of another type than the text encoders."""
    return {n: as_dtype(v, dtype) if isinstance(v, dict) else v.to(dtype) for n, v in arguments.items()}

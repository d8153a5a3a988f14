"""Latents to pixels, as many images at a time as fit: a batch that was denoised is not denoised again because its decoding ran out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import torch

from figment.memory import in_portions

#: Of one tensor. Kernels that count with 32 bits fail beyond, or write where they should not.
ELEMENTS = 2**31 - 1


class Slices:
    """A VAE's ``decode``, which goes on in halves when memory runs out, and then remembers how many images fit.

    diffusers' own ``vae.enable_slicing()`` is not used beside it: it decodes one image at a time, also where sixteen would fit, some
    VAEs lack it, and the batch during which memory ran out would be lost all the same. Images are those of the whole batch, up to rounding.

    Not so many images at a time are decoded that a tensor inside has more than `ELEMENTS`, where the VAE's configuration tells: 31 of 512
    pixels with Stable Diffusion's.
    """

    def __init__(self, vae: Any, device: torch.device):
        self.decode, self.device = vae.decode, device
        self.values = values_a_latent(getattr(vae, "config", {}))
        self.most = 2**31  # images at a time

    def __call__(self, latents: torch.Tensor, *more: Any, **named: Any) -> Any:
        """What ``decode`` returns, of ``(B, ...)`` latents. Raises what it raises for a single image, and for a device that failed."""

        def some(start: int, end: int) -> Any:
            return self.decode(latents[start:end], *more, **named)

        most = self.most
        if self.values:
            most = min(most, max(1, ELEMENTS // (self.values * prod(latents.shape[2:]))))
        parts, fits = in_portions(some, len(latents), most, self.device)
        if fits < most:  # memory ran out, which has nothing to do with how many kernels can count
            self.most = fits
        return parts[0] if len(parts) == 1 else _joined(parts)


def values_a_latent(config: Mapping[str, Any]) -> int:
    """How many values a decoder's largest tensor has for each place of a latent, by its configuration; 0 where that does not tell.

    All but one of its levels double the sides. At full size the last level has its own channels, and before that those of the level below
    it, which come there enlarged.
    """
    names = ("decoder_block_out_channels", "up_block_out_channels", "block_out_channels")
    channels = next((config[name] for name in names if config.get(name)), None)
    if channels is None and config.get("base_dim") and config.get("dim_mult"):  # Wan's, which is Qwen-Image's too
        channels = [config["base_dim"] * times for times in config["dim_mult"]]
    return 0 if channels is None else int(max(channels[:2]) * 4 ** (len(channels) - 1))


def decode_in_slices(pipe: Any, device: torch.device) -> None:
    """From now on the pipeline decodes by `Slices`. One without a ``vae`` (DeepFloyd IF, Kandinsky) stays as it is."""
    vae = getattr(pipe, "vae", None)
    if vae is not None:
        vae.decode = Slices(vae, device)


def _joined(parts: Sequence[Any]) -> Any:
    """``(tensor,)`` or diffusers' output with a ``sample``, of all images."""
    if isinstance(parts[0], tuple):
        return (torch.cat([part[0] for part in parts]),)
    return type(parts[0])(sample=torch.cat([part.sample for part in parts]))

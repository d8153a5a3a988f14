"""Latents to pixels, as many images at a time as fit: a batch that was denoised is not denoised again because its decoding ran out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from figment.memory import in_portions


class Slices:
    """A VAE's ``decode``, which goes on in halves when memory runs out, and then remembers how many images fit.

    diffusers' own ``vae.enable_slicing()`` is not used beside it: it decodes one image at a time, also where sixteen would fit, some
    VAEs lack it, and the batch during which memory ran out would be lost all the same. Images are those of the whole batch, up to rounding.
    """

    def __init__(self, vae: Any, device: torch.device):
        self.decode, self.device = vae.decode, device
        self.most = 2**31  # images at a time

    def __call__(self, latents: torch.Tensor, *more: Any, **named: Any) -> Any:
        """What ``decode`` returns, of ``(B, ...)`` latents. Raises what it raises for a single image, and for a device that failed."""

        def some(start: int, end: int) -> Any:
            return self.decode(latents[start:end], *more, **named)

        parts, self.most = in_portions(some, len(latents), self.most, self.device)
        return parts[0] if len(parts) == 1 else _joined(parts)


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

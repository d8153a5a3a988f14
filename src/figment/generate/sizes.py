"""How large a pipeline's images are, and how many of them it makes at a time."""

from __future__ import annotations

import inspect
from typing import Any

from figment.device import free_bytes
from figment.generate.families import FAMILIES
from figment.generate.placing import computes_on

CPU_LATENT_PIXELS = 8192  # a batch's; more no longer helps a CPU
CUDA_BYTES_PER_PIXEL = 2048  # of one image's output pixels and one byte of dtype: the decoder's peak, generously
CUDA_LARGEST_BATCH = 512


def own_size(pipe: Any, low: tuple[int, int] | None = None) -> tuple[int, int]:
    """Height and width of the images that a pipeline makes when nobody says, in pixels.

    ``low`` is the size of those that an upscaler enlarges: Stable Diffusion's multiplies it, DeepFloyd IF's has one size.
    """
    if low is not None and "height" not in inspect.signature(pipe.__call__).parameters:
        return low[0] * _scale(pipe), low[1] * _scale(pipe)
    denoiser = getattr(pipe, "unet", None) or getattr(pipe, "transformer", None)
    side = (
        getattr(pipe, "default_sample_size", None)
        or getattr(getattr(denoiser, "config", None), "sample_size", None)
        or 128
    )
    height, width = (side, side) if isinstance(side, int) else side
    return height * _scale(pipe), width * _scale(pipe)


def auto_batch_size(pipe: Any, height: int, width: int, to_come: int = 0) -> int:
    """Images a batch. On a CPU about 8,192 latent pixels: 128 images of 8x8 latents, 2 of 64x64.

    On a GPU what is free once the weights are there, torch's own cache counted as free, at 4 KB an output pixel in half precision and 8 KB in float32 (a
    published SDXL-Turbo measurement comes to 3.6 KB in half precision), 512 at most. Too much is halved by itself. ``to_come`` are bytes of
    weights that wait elsewhere and will be there too.
    """
    free = free_bytes(computes_on(pipe))
    if free is None:
        return max(1, CPU_LATENT_PIXELS // ((height // _scale(pipe)) * (width // _scale(pipe))))
    image = height * width * CUDA_BYTES_PER_PIXEL * pipe.dtype.itemsize
    return int(min(max(1, (free - to_come) // image), CUDA_LARGEST_BATCH))


def _scale(pipe: Any) -> int:
    """Pixels a latent, along a side. DeepFloyd IF has no latents."""
    in_pixels = type(pipe).__name__ in FAMILIES and not hasattr(pipe, "vae")
    return int(getattr(pipe, "vae_scale_factor", 1 if in_pixels else 8))

"""Decoded images to pixels, where they were decoded: main memory gets a byte a value, in one copy, and not four."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from diffusers.image_processor import VaeImageProcessor


def keep_on_device(pipe: Any) -> None:
    """From now on a pipeline that is asked for arrays (``output_type="np"``) hands over the tensor that it would make them of.

    ``output_type="pt"`` means something else in some: DeepFloyd IF's is in [-1, 1]. Those that do without diffusers' processor of images
    still hand over arrays.
    """
    processor = getattr(pipe, "image_processor", None)
    if isinstance(processor, VaeImageProcessor):
        own = processor.postprocess

        def postprocess(image: Any, output_type: str = "pil", *more: Any, **named: Any) -> Any:
            return own(image, "pt" if output_type == "np" else output_type, *more, **named)

        processor.postprocess = postprocess


def pixels_of(decoded: Any) -> list[np.ndarray | None]:
    """``uint8 (H, W, 3)`` images in order; None where one is not finite.

    ``decoded`` is a tensor ``(B, C, H, W)`` of any floating point, or ``float32 (B, H, W, C)`` as an array or a list; C is 1 or 3,
    values lie in [0, 1] and are rounded, half to even.
    """
    tensor = isinstance(decoded, torch.Tensor)
    images = (decoded.movedim(1, 3) if tensor else torch.from_numpy(np.asarray(decoded))).float()  # (B, H, W, C)
    finite = images.isfinite().flatten(1).all(1).tolist()
    levels = (images * 255).round().to(torch.uint8).expand(-1, -1, -1, 3 if images.shape[3] == 1 else -1)
    return [image if whole else None for image, whole in zip(_in_main_memory(levels), finite, strict=True)]


def _in_main_memory(levels: torch.Tensor) -> np.ndarray:
    """A GPU writes into pinned memory by itself, at several times the speed."""
    if levels.device.type != "cuda":
        return levels.contiguous().cpu().numpy()
    there = torch.empty(levels.shape, dtype=levels.dtype, pin_memory=True)
    there.copy_(levels.contiguous(), non_blocking=True)
    torch.cuda.current_stream(levels.device).synchronize()
    return there.numpy()

"""An image network as other programs make it again: its parts by their library's names, and how images are prepared for it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from figment.errors import FigmentError

RESCALE = 1 / 255  # what pixels are multiplied by, beside mean and std


@dataclass(frozen=True)
class Preparation:
    """How an image of any size becomes ``(S, S)`` pixels, in words that need no library: resized, cut out of the middle, normalised.

    Args:
        resize: pixels of the shorter side, the longer one in proportion and rounded down; with ``squash`` of both sides.
        crop: S.
        interpolation: nearest, bilinear, bicubic or lanczos, as Pillow has it: as wide as a reduction needs.
        rounds: whether half a pixel at the edge of the crop is rounded (torchvision) or cut off (transformers).
        mean, std: of each channel, of pixels in [0, 1].
    """

    resize: int
    crop: int
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    squash: bool = False
    rounds: bool = True


@dataclass(frozen=True)
class Tower:
    """What sees the image: ``module`` is float (B, 3, S, S), normalised, to float (B, D), in eval mode.

    ``tensors`` are its weights by the names of the library in ``made_by``, which also holds all that this library makes the network
    of, ready for JSON. ``preparation`` is None where :class:`Preparation` has no words for how images are prepared.
    """

    module: nn.Module
    tensors: Mapping[str, Tensor]
    made_by: Mapping[str, Any]
    preparation: Preparation | None


def of_timm(data: Mapping[str, Any]) -> Preparation | None:
    """Of timm's settings: ``input_size``, ``interpolation``, ``crop_pct``, ``crop_mode``, ``mean``, ``std``."""
    height, width = data["input_size"][-2:]
    if height != width or data["crop_mode"] not in ("center", "squash"):
        return None
    size = math.floor(height / data["crop_pct"])
    looks = tuple(data["mean"]), tuple(data["std"])
    # timm draws a "random" one for training alone.
    way = "bilinear" if data["interpolation"] == "random" else data["interpolation"]
    return Preparation(size, height, way, *looks, squash=data["crop_mode"] == "squash")


def of_open_clip(cfg: Any) -> Preparation | None:
    """Of open_clip's ``PreprocessCfg``."""
    sizes = {cfg.size} if isinstance(cfg.size, int) else set(cfg.size)
    if len(sizes) != 1 or cfg.resize_mode == "longest":
        return None
    (size,) = sizes
    way = "bilinear" if cfg.interpolation == "bilinear" else "bicubic"
    return Preparation(size, size, way, tuple(cfg.mean), tuple(cfg.std), squash=cfg.resize_mode == "squash")


def of_transformers(processor: Any) -> Preparation | None:
    """Of an image processor of transformers' CLIP."""
    import PIL.Image

    all_of_it = processor.do_resize and processor.do_rescale and processor.do_normalize
    if not all_of_it or not math.isclose(processor.rescale_factor, RESCALE, rel_tol=1e-6):
        return None
    size = {side: n for side, n in dict(processor.size).items() if n}
    crop = {n for n in dict(processor.crop_size or {}).values() if n} if processor.do_center_crop else set()
    squash = size.keys() == {"height", "width"}
    if len({*size.values()}) != 1 or len(crop) > 1 or not (squash or size.keys() == {"shortest_edge"}):
        return None
    if not (crop or squash):
        return None  # images of other shapes would stay so
    resize = next(iter(size.values()))
    way = PIL.Image.Resampling(processor.resample).name.lower()
    looks = tuple(processor.image_mean), tuple(processor.image_std)
    return Preparation(resize, next(iter(crop), resize), way, *looks, squash=squash, rounds=False)


def check_prepared(preparation: Preparation | None, name: str) -> Preparation:
    """Raise FigmentError for a network whose way of preparing images cannot be told."""
    if preparation is None:
        raise FigmentError(
            f"{name} prepares images in a way of its own (borders, other shapes than squares), which this format has no words for."
            " Export it with its library's own: --to timm, transformers or safetensors."
        )
    return preparation

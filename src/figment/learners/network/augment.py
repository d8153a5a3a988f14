"""What is done to images before a network sees them: torchvision's and timm's own transforms, put together.

Pixels stay uint8 until all that is left is to normalise them: on floats, RandAugment means something else and a bicubic
resize leaves the range.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from figment.learners.network.settings import NetworkSettings


class TrainTransform:
    """``uint8 (H, W, 3)`` to ``uint8 (3, S, S)``, at random. Can be pickled, for workers."""

    def __init__(self, s: NetworkSettings, data: Mapping[str, Any]):
        size, way = s.image_size, InterpolationMode(data["interpolation"])
        if s.crop_scale:
            steps: list[Any] = [v2.RandomResizedCrop(size, scale=s.crop_scale, interpolation=way, antialias=True)]
        else:
            steps = [v2.Resize(size, interpolation=way, antialias=True), v2.CenterCrop(size)]
        steps += [v2.RandomCrop(size, padding=s.pad, padding_mode="reflect")] if s.pad else []
        steps += [v2.RandomHorizontalFlip(s.flip)] if s.flip else []
        if s.rand_augment:
            steps += [
                v2.RandAugment(s.rand_augment, s.rand_augment_magnitude, interpolation=InterpolationMode.BILINEAR)
            ]
        self.transform = v2.Compose(steps)

    def __call__(self, image: np.ndarray) -> Tensor:
        return self.transform(torch.tensor(image).permute(2, 0, 1)).contiguous()


class EvalTransform:
    """``uint8 (H, W, 3)`` to ``float (3, S, S)``, normalised: exactly what timm does with the model's own configuration."""

    def __init__(self, data: Mapping[str, Any]):
        from timm.data import create_transform

        self.transform = create_transform(**data, is_training=False)

    def __call__(self, image: np.ndarray) -> Tensor:
        return self.transform(Image.fromarray(image))


class Batches:
    """What is done to a batch on its device: normalise, erase, mix.

    ``uint8 (B, 3, S, S)`` and ``int64 (B,)`` to ``float (B, 3, S, S)`` and targets: the labels, or ``float (B, N)``.
    """

    def __init__(self, s: NetworkSettings, data: Mapping[str, Any], n_classes: int, device: torch.device):
        from timm.data import Mixup
        from timm.data.random_erasing import RandomErasing

        mean, std = (torch.tensor(data[k], device=device).view(3, 1, 1) * 255 for k in ("mean", "std"))
        self.mean, self.std = mean, std
        self.erase: Callable[[Tensor], Tensor] | None = None
        if s.random_erasing:
            self.erase = RandomErasing(probability=s.random_erasing, mode="pixel", device=device)
        self.mix: Mixup | None = None
        if s.mixup or s.cutmix:  # without either, timm's Mixup fails, and with prob=0 it smooths labels all the same
            self.mix = Mixup(s.mixup, s.cutmix, label_smoothing=s.label_smoothing, num_classes=n_classes)
        self.smoothing = 0.0 if self.mix else s.label_smoothing  # which Mixup has put into its targets already

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        x = (images.float() - self.mean) / self.std
        x = self.erase(x) if self.erase else x
        return self.mix(x, labels) if self.mix else (x, labels)

"""Maps of features at four sizes, for detection and segmentation, of any network of timm's."""

from __future__ import annotations

import inspect
import math
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from figment.encoders import TimmEncoder
from figment.errors import FigmentError

LEVELS = 4
ANY_SIZE = {"dynamic_img_size": True, "dynamic_img_pad": True, "strict_img_size": False}  # of timm's transformers
STRIDE = 32  # of a usual network's smallest map: images are padded to a multiple of it
PLAIN = (4.0, 2.0, 1.0, 0.5)  # a plain ViT's maps, all of one size, are enlarged by so much


class Pyramid(nn.Module):
    """Images ``float (B, 3, H, W)`` to four maps ``(B, C_i, h_i, w_i)``, large ones first.

    A network of stages gives the maps of its last four. A plain ViT gives those of four blocks, equally far apart, resized
    bilinearly to four strides as BEiT and ViTDet have them (these learn the resizing). Strides are powers of two, as torchvision's
    detectors take them to be: a ViT with patches of 14 pixels sees images at 14/16 of their size. ``channels`` are C_i. Its body has
    the encoder's weights, and learns without changing those.

    H and W are multiples of `STRIDE`.

    Raises FigmentError for a network without maps (what timm calls ``features_only``).
    """

    def __init__(self, encoder: TimmEncoder):
        super().__init__()
        own: Any = encoder.image_tower
        info = list(getattr(own, "feature_info", None) or [])
        if not (hasattr(own, "forward_intermediates") and isinstance(info, list) and info):
            raise FigmentError(_no_maps(encoder))
        self.body = encoder.network(**_for_any_size(own)).to(encoder.device)
        self.data = encoder.data  # how images are prepared
        n = len(info)
        self.is_plain = len({level["reduction"] for level in info}) == 1
        if self.is_plain:
            self.patch = int(info[0]["reduction"])
            self.indices = [math.ceil(n * (i + 1) / LEVELS) - 1 for i in range(LEVELS)]
        else:
            self.indices = list(range(n))[-LEVELS:]
        self.channels = self._channels(encoder)

    def forward(self, x: Tensor) -> list[Tensor]:
        if self.is_plain and (wide := 2 ** math.ceil(math.log2(self.patch))) != self.patch:
            x = F.interpolate(x, [side * self.patch // wide for side in x.shape[-2:]], mode="bilinear", antialias=True)
        wanted = sorted(set(self.indices))
        found = cast(Any, self.body).forward_intermediates(
            x, indices=wanted, output_fmt="NCHW", intermediates_only=True
        )
        maps = [found[wanted.index(i)] for i in self.indices]
        if not self.is_plain:
            return maps
        return [
            m if s == 1 else F.interpolate(m, scale_factor=s, mode="bilinear") for m, s in zip(maps, PLAIN, strict=True)
        ]

    @torch.no_grad()
    def _channels(self, encoder: TimmEncoder) -> list[int]:
        """Of each map, as an image shows of other sides than the network was made for. Raises FigmentError where it does not go through."""
        side = (encoder.data["input_size"][-1] // STRIDE + 1) * STRIDE
        self.eval()
        try:
            maps = self(torch.zeros(1, 3, side, side + STRIDE, device=encoder.device))
        except (RuntimeError, AssertionError, ValueError, TypeError) as error:
            reason = " ".join(str(error).split())[:150].rstrip(".")
            raise FigmentError(f"{_no_maps(encoder)} timm says of images of other sides: {reason}.") from error
        if len(maps) < LEVELS:
            raise FigmentError(_no_maps(encoder))
        return [m.shape[1] for m in maps]


def _for_any_size(module: nn.Module) -> dict[str, bool]:
    """What timm is told so that a transformer takes images of other sizes than it was made for, where it can be told."""
    known = inspect.signature(type(module).__init__).parameters
    return {name: value for name, value in ANY_SIZE.items() if name in known}


def _no_maps(encoder: TimmEncoder) -> str:
    return (
        f"{encoder.architecture} has no {LEVELS} maps of features for images of any size, which detection and segmentation need. Judge it"
        " by the others (linear, knn, few_shot, lbfgs), or take a network that timm makes with features_only, such as a ResNet, a"
        " ConvNeXt or a ViT."
    )

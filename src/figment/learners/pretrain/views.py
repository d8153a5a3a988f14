"""How a method sees an image: random crops and changes of colour, of a whole batch at once on its device.

torchvision's own transforms take one image at a time; here each image of a batch draws its own numbers, and all are changed
together. A test compares each change with torchvision's of the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from figment.learners.pretrain.settings import PretrainSettings
from figment.learners.processes import Processes

TRIES = 10  # boxes drawn for a crop, as torchvision does
GREY = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Part:
    """Whose random numbers are drawn, those of ``n`` images, and which of these are here.

    Each process draws the numbers of all images of a step and takes those of its own: so a step sees the same on any number of them.
    """

    n: int
    here: slice

    @classmethod
    def whole(cls, n: int) -> Part:
        return cls(n, slice(0, n))

    @classmethod
    def of(cls, on: Processes, n: int) -> Part:
        """The ``n`` images of this process, of a step in which each has as many."""
        return cls(n * on.world_size, slice(on.rank * n, (on.rank + 1) * n))

    def uniform(self, low: float, high: float, *shape: int, device: torch.device) -> Tensor:
        """A number for each image here, or ``shape`` of them."""
        return torch.empty(self.n, *shape, device=device).uniform_(low, high)[self.here]


@dataclass(frozen=True)
class View:
    """One way to see an image; what torchvision's transforms of these names are called with. Probabilities are of an image."""

    size: int  # of the result, in pixels
    crop_scale: tuple[float, float] = (0.08, 1.0)
    flip: float = 0.5
    color: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)  # brightness, contrast, saturation, hue
    color_probability: float = 0.8
    grayscale: float = 0.0
    blur: float = 0.0
    solarize: float = 0.0
    downsample: float = 0.0


def view_of(s: PretrainSettings, size: int) -> View:
    """The view that the settings describe: hue changes by a quarter of what the others do, as published."""
    c = s.color
    return View(
        size,
        s.crop_scale,
        s.flip,
        (c, c, c, c / 4),
        grayscale=s.grayscale,
        blur=s.blur,
        downsample=s.downsample,
    )


class Views:
    """``uint8 (B, 3, H, W)`` to one ``float (B, 3, S, S)`` for each view, normalised with ``data``'s mean and std.

    ``sizes`` (B, 2) are the height and width of each image before it was squeezed into the size of all: crops are drawn of that.
    """

    def __init__(self, views: Sequence[View], data: Mapping[str, Any], device: torch.device):
        self.views = views
        self.mean, self.std = (torch.tensor(data[k], device=device).view(3, 1, 1) for k in ("mean", "std"))

    def __call__(self, images: Tensor, sizes: Tensor | None = None, part: Part | None = None) -> list[Tensor]:
        x = images.float() / 255
        return [(seen(x, view, sizes, part) - self.mean) / self.std for view in self.views]


def seen(x: Tensor, v: View, sizes: Tensor | None = None, part: Part | None = None) -> Tensor:
    """Float (B, 3, H, W) in [0, 1] to (B, 3, S, S) in [0, 1].

    ``sizes`` (B, 2) are as of `Views`, None = they have their own; ``part`` None = there are no others.
    """
    part = part or Part.whole(len(x))
    x = _some(x, part, v.downsample, lambda some, _: _shrunk_and_enlarged(some))
    here = torch.tensor(x.shape[2:], dtype=torch.float32, device=x.device)
    own = here.expand(len(x), 2) if sizes is None else sizes.float()
    box = boxes(own, v.crop_scale, part) * (here / own).repeat(1, 2)
    x = crop(x, box, v.size, part.uniform(0, 1, device=x.device) < v.flip)
    if any(v.color):
        x = _some(x, part, v.color_probability, lambda some, own: jitter(some, v.color, own))
    x = _some(x, part, v.grayscale, lambda some, _: grey(some).expand_as(some))
    x = _some(x, part, v.blur, lambda some, own: blur(some, own.uniform(0.1, 2.0, device=x.device)))
    return _some(x, part, v.solarize, lambda some, _: torch.where(some >= 128 / 255, 1 - some, some))


def boxes(sizes: Tensor, scale: tuple[float, float], part: Part) -> Tensor:
    """Random boxes as RandomResizedCrop draws them of images of the heights and widths ``sizes`` float (n, 2).

    Float (n, 4), whole numbers of pixels: top, left, height, width.
    """
    device = sizes.device
    height, width = sizes[:, :1], sizes[:, 1:]
    area = height * width * part.uniform(*scale, TRIES, device=device)
    aspect = part.uniform(math.log(3 / 4), math.log(4 / 3), TRIES, device=device).exp()
    w, h = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
    fits = (w >= 1) & (w <= width) & (h >= 1) & (h <= height)
    first = fits.int().argmax(1, keepdim=True)
    # Where none fits: as much as there is, in the nearest shape.
    most = torch.minimum(height, (width * 4 / 3).round()), torch.minimum(width, (height * 4 / 3).round())
    h, w = (
        torch.where(fits.any(1), one.gather(1, first)[:, 0], other[:, 0])
        for one, other in zip((h, w), most, strict=True)
    )
    top = (part.uniform(0, 1, device=device) * (sizes[:, 0] - h + 1)).floor()
    left = (part.uniform(0, 1, device=device) * (sizes[:, 1] - w + 1)).floor()
    return torch.stack([top, left, h, w], 1)


def crop(x: Tensor, box: Tensor, size: int, flip: Tensor) -> Tensor:
    """The boxes (B, 4) of the images, mirrored where ``flip`` bool (B,), bilinear, as ``size`` x ``size`` pixels."""
    height, width = x.shape[2:]
    top, left, h, w = box.unbind(1)
    # The place of each pixel's middle, within the box as torchvision has it: its edge is where the image ends for it.
    at = (torch.arange(size, device=x.device) + 0.5) / size
    rows = (at * h[:, None] - 0.5).clamp(min=0).minimum(h[:, None] - 1) + top[:, None]  # (B, S)
    columns = (at * w[:, None] - 0.5).clamp(min=0).minimum(w[:, None] - 1) + left[:, None]
    columns = torch.where(flip[:, None], columns.flip(1), columns)
    grid = torch.stack(
        torch.broadcast_tensors((columns * 2 + 1)[:, None] / width - 1, (rows * 2 + 1)[:, :, None] / height - 1), -1
    )
    return F.grid_sample(x, grid, align_corners=False, padding_mode="border")


def jitter(x: Tensor, color: tuple[float, float, float, float], part: Part) -> Tensor:
    """ColorJitter: each image by its own numbers, in an order that is the batch's."""
    brightness, contrast, saturation, hue = color

    def factor(strength: float) -> Tensor:
        return part.uniform(max(0.0, 1 - strength), 1 + strength, 1, 1, 1, device=x.device)

    changes: list[tuple[float, Callable[[Tensor], Tensor]]] = [
        (brightness, lambda x: (x * factor(brightness)).clamp(0, 1)),
        (contrast, lambda x: blend(x, grey(x).mean((1, 2, 3), keepdim=True), factor(contrast))),
        (saturation, lambda x: blend(x, grey(x), factor(saturation))),
        (hue, lambda x: shift_hue(x, part.uniform(-hue, hue, 1, 1, device=x.device))),
    ]
    for i in torch.randperm(4).tolist():
        strength, change = changes[i]
        x = change(x) if strength else x
    return x


def blend(x: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    return (factor * x + (1 - factor) * other).clamp(0, 1)


def grey(x: Tensor) -> Tensor:
    """(B, 3, H, W) to (B, 1, H, W)."""
    return (x * torch.tensor(GREY, device=x.device).view(3, 1, 1)).sum(1, keepdim=True)


def shift_hue(x: Tensor, by: Tensor) -> Tensor:
    """Turn the colours by ``by`` (B, 1, 1) of a whole circle: to hue, saturation and value, and back."""
    red, green, blue = x.unbind(1)
    value, lowest = x.amax(1), x.amin(1)
    chroma = value - lowest
    some = torch.where(chroma > 0, chroma, 1.0)
    of_red = ((green - blue) / some) % 6
    of_green, of_blue = (blue - red) / some + 2, (red - green) / some + 4
    hue = torch.where(value == red, of_red, torch.where(value == green, of_green, of_blue)) / 6
    hue = (hue + by) % 1
    places = torch.tensor([5.0, 3.0, 1.0], device=x.device).view(3, 1, 1)
    k = (places + hue[:, None] * 6) % 6
    return value[:, None] - chroma[:, None] * torch.minimum(k, 4 - k).clamp(0, 1)


def blur(x: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur of each image by its own ``sigma`` (B,) in pixels, with a kernel of a tenth of the side, as SimCLR's."""
    n, channels, size = len(x), x.shape[1], x.shape[-1]
    radius = max(1, size // 20)
    at = torch.arange(-radius, radius + 1, device=x.device)
    kernel = torch.exp(-0.5 * (at / sigma[:, None]).square())
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(channels, 0)[:, None]  # (3B, 1, k)
    flat = F.pad(x.reshape(1, n * channels, *x.shape[2:]), [radius] * 4, mode="reflect")
    flat = F.conv2d(flat, kernel[..., None], groups=n * channels)
    return F.conv2d(flat, kernel[:, :, None], groups=n * channels).view_as(x)


def _shrunk_and_enlarged(x: Tensor) -> Tensor:
    """To a quarter or a half, one of the two for all of them, and back (StableRep's appendix: from 256 to 64 or 128)."""
    part = (4, 2)[int(torch.randint(2, ()))]
    size = [max(1, side // part) for side in x.shape[2:]]
    small = F.interpolate(x, size, mode="bilinear", antialias=True)
    return F.interpolate(small, x.shape[2:], mode="bilinear")


def _some(x: Tensor, part: Part, probability: float, change: Callable[[Tensor, Part], Tensor]) -> Tensor:
    """``change`` those images that the dice choose."""
    if not probability:
        return x
    chosen = (Part.whole(part.n).uniform(0, 1, device=x.device) < probability).nonzero().squeeze(1)  # of all processes
    first, end = torch.searchsorted(chosen, torch.tensor([part.here.start, part.here.stop], device=x.device)).tolist()
    if not len(chosen):
        return x
    if first == end:  # others draw numbers, and so does this process
        change(x[:1], Part(len(chosen), slice(0, 1)))
        return x
    own = chosen[first:end] - part.here.start
    return x.index_copy(0, own, change(x[own], Part(len(chosen), slice(first, end))))

"""Changes of a whole batch against torchvision's of one image with the same numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as TF

from figment.learners.pretrain import views
from figment.learners.pretrain.learner import ToOneSize
from figment.learners.pretrain.views import Part, View, Views, seen

BOXES = [(0, 0, 24, 20), (3, 2, 8, 8), (1, 5, 20, 15), (10, 10, 1, 1), (0, 4, 24, 16)]
HALF = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}


def pictures(n: int, height: int = 24, width: int = 20) -> torch.Tensor:
    return torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", [16, 24, 32])
def test_crops(size: int):
    x = pictures(len(BOXES))
    flip = torch.tensor([False, True, False, True, True])
    found = views.crop(x, torch.tensor(BOXES, dtype=torch.float32), size, flip)
    for image, box, mirrored, own in zip(x, BOXES, flip, found, strict=True):
        expected = TF.resized_crop(image, *box, [size, size], antialias=False)
        torch.testing.assert_close(own, TF.horizontal_flip(expected) if mirrored else expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize(("height", "width"), [(24, 20), (32, 32), (10, 40), (40, 10)])
def test_boxes_are_drawn_as_torchvision_draws_them(height: int, width: int):
    torch.manual_seed(0)
    own = views.boxes(torch.tensor([[height, width]]).float().expand(4000, 2), (0.08, 1.0), Part.whole(4000))
    image = torch.zeros(3, height, width)
    crop = v2.RandomResizedCrop(8, scale=(0.08, 1.0))
    drawn = [crop.make_params([image]) for _ in range(1500)]
    theirs = torch.tensor([[d["top"], d["left"], d["height"], d["width"]] for d in drawn], dtype=torch.float32)
    assert (
        (own[:, 0] + own[:, 2] <= height).all() and (own[:, 1] + own[:, 3] <= width).all() and (own[:, 2:] >= 1).all()
    )
    for a, b in zip(own.T, theirs.T, strict=True):
        error = math.sqrt(float(a.var() / len(a) + b.var() / len(b))) + 1e-3
        assert abs(float(a.mean() - b.mean())) < 4 * error + 0.35  # where none fits, torchvision takes the middle


@pytest.mark.parametrize(("height", "width"), [(48, 120), (90, 60), (64, 64)])
def test_crops_are_of_the_whole_photograph(height: int, width: int, monkeypatch):
    """As torchvision crops the photograph itself, whose shape is none of the batch's: here a slope, which is the same in any size."""
    slope = torch.stack(
        torch.broadcast_tensors(torch.arange(height)[:, None] * 2, torch.arange(width) * 2, torch.tensor(9))
    )
    square, size = ToOneSize(32, "bilinear")(slope.permute(1, 2, 0).to(torch.uint8).numpy())
    assert square.shape == (3, 32, 32) and size.tolist() == [
        32 * height // min(height, width),
        32 * width // min(height, width),
    ]
    drawn, draw = [], views.boxes
    monkeypatch.setattr(views, "boxes", lambda *given: drawn.append(draw(*given)) or drawn[-1])
    torch.manual_seed(0)
    found = seen(square.expand(200, -1, -1, -1) / 255, View(16, (0.2, 1.0), flip=0.0), size.expand(200, 2))
    for own, box in zip(found, (drawn[0] * height / size[0]).tolist(), strict=True):
        expected = TF.resized_crop(slope.float() / 255, *map(round, box), [16, 16], antialias=False)
        assert (own - expected).abs().mean() < 0.02
    tops, lefts, heights, widths = drawn[0].T
    assert ((tops + heights).max(), (lefts + widths).max()) == tuple(size)  # edges are seen
    ratio = widths / heights
    assert ratio.min() > 0.7 and ratio.max() < 1.45  # of the photograph, not of the square that it was squeezed into


@pytest.mark.parametrize("shift", [-0.4, -0.1, 0.0, 0.25, 0.5])
def test_hue(shift: float):
    x = pictures(3)
    x[0] = 0.5  # grey
    found = views.shift_hue(x, torch.full((3, 1, 1), shift))
    torch.testing.assert_close(found, TF.adjust_hue(x, shift), rtol=0, atol=1e-5)


@pytest.mark.parametrize("strength", [0.2, 1.0, 1.7])
def test_contrast_saturation_and_grey(strength: float):
    x, factor = pictures(3), torch.full((3, 1, 1, 1), strength)
    grey = TF.rgb_to_grayscale(x)
    torch.testing.assert_close(views.grey(x), grey, rtol=0, atol=2e-4)
    torch.testing.assert_close(
        views.blend(x, views.grey(x), factor), TF.adjust_saturation(x, strength), rtol=0, atol=5e-4
    )
    mean = views.grey(x).mean((1, 2, 3), keepdim=True)
    torch.testing.assert_close(views.blend(x, mean, factor), TF.adjust_contrast(x, strength), rtol=0, atol=5e-4)


@pytest.mark.parametrize("sigma", [0.1, 1.0, 2.0])
def test_blur(sigma: float):
    x = pictures(2, 40, 40)
    found = views.blur(x, torch.full((2,), sigma))
    torch.testing.assert_close(found, TF.gaussian_blur(x, [5, 5], [sigma, sigma]), rtol=0, atol=1e-5)


def test_solarize():
    view = View(24, (1.0, 1.0), flip=0.0, solarize=1.0)
    x = pictures(2, 24, 24)
    torch.testing.assert_close(seen(x, view), TF.solarize(x, 128 / 255), rtol=0, atol=1e-5)


STRONG = View(16, color=(0.8, 0.8, 0.8, 0.2), grayscale=0.2, blur=0.5, solarize=0.2, downsample=0.5)


def test_views_are_pixels_each_image_its_own_and_the_seed_decides():
    images = torch.full((64, 3, 20, 20), 0, dtype=torch.uint8)
    images[:] = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 20, 20), np.uint8))
    own = Views([STRONG, STRONG], HALF, torch.device("cpu"))
    torch.manual_seed(3)
    first, second = own(images)
    assert first.shape == (64, 3, 16, 16) and first.min() >= -1.0001 and first.max() <= 1.0001
    assert len(first.flatten(1).unique(dim=0)) > 60 and not torch.equal(first, second)
    torch.manual_seed(3)
    assert torch.equal(own(images)[0], first)


@pytest.mark.parametrize("field", ["flip", "grayscale", "blur", "solarize", "downsample"])
def test_a_probability_is_a_share_of_the_images(field: str):
    torch.manual_seed(0)
    plain = {"flip": 0.0}
    x = pictures(1, 24, 24).expand(400, -1, -1, -1)
    found = seen(x, View(24, (1.0, 1.0), **{**plain, field: 0.3}))
    unchanged = (found - x).abs().amax((1, 2, 3)) < 1e-4
    assert 0.62 < unchanged.float().mean() < 0.78

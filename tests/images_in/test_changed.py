"""Images in the resolution of a data set of small photographs."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import Resize

from figment.images_in import open_images
from figment.images_in.changed import shrink, shrunk
from figment.stages.results import as_learnt


@pytest.mark.parametrize(
    "shape, side, expected",
    [
        ((48, 48), 32, (32, 32)),
        ((40, 60), 32, (32, 48)),
        ((61, 40), 32, (48, 32)),
        ((32, 90), 32, (32, 90)),  # as small as that already
        ((20, 24), 64, (20, 24)),  # and never enlarged
        ((9, 1000), 8, (8, 888)),
    ],
)
def test_the_shorter_side_has_so_many_pixels_at_the_most(shape, side, expected):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    small = shrink(image, side)
    assert small.shape == (*expected, 3) and small.dtype == np.uint8
    assert np.array_equal(small, image) == (shape == expected)
    if shape != expected:
        assert np.array_equal(small, np.array(Resize(side)(Image.fromarray(image))))


def test_all_else_is_that_of_the_images_and_no_cache_takes_one_for_the_other(photos):
    images = open_images(photos / "train", ["red thing", "green thing", "blue thing"])
    small = shrunk(images, 10)
    assert len(small) == 18 and small.ids == images.ids and small.labels.tolist() == images.labels.tolist()
    assert len({*small.digests, *images.digests, *shrunk(images, 11).digests}) == 54
    one, two = small.load([3, 5])
    assert one.shape == two.shape == (12, 10, 3)
    wanted = Image.fromarray(images.load([5])[0]).resize((10, 12), Image.Resampling.BILINEAR)
    assert np.array_equal(two, np.asarray(wanted))
    part = small.take([5])
    assert np.array_equal(part.load([0])[0], two) and part.digests == [small.digests[5]]


@pytest.mark.parametrize("side", [None, 10])
def test_rivals_see_the_images_in_the_resolution_that_is_learnt_from(photos, side):
    made = open_images(photos / "train", ["red thing", "green thing", "blue thing"])
    ctx = SimpleNamespace(images=made, recipe=SimpleNamespace(train=SimpleNamespace(low_resolution=side)))
    seen = as_learnt(ctx).load([0])[0]  # type: ignore[arg-type]
    assert min(seen.shape[:2]) == (side or min(made.load([0])[0].shape[:2]))

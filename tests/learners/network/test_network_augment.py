"""Augmentation is torchvision's and timm's, in the order that keeps pixels right."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from timm.data import Mixup

from colours import coloured
from figment.learners.network.augment import Batches, EvalTransform, TrainTransform
from figment.learners.network.settings import NetworkSettings
from figment.learners.training import random_numbers_of

CPU = torch.device("cpu")
DATA = {
    "input_size": (3, 16, 16), "interpolation": "bicubic", "crop_pct": 1.0, "crop_mode": "center",
    "mean": (0.4, 0.5, 0.6), "std": (0.2, 0.25, 0.3),
}  # fmt: skip


def settings(**changed) -> NetworkSettings:
    return NetworkSettings(image_size=16, **changed)


@pytest.mark.parametrize(
    "changed",
    [{}, {"crop_scale": None, "pad": 3}, {"rand_augment": 2, "rand_augment_magnitude": 30}, {"crop_scale": None}],
)
def test_images_of_any_shape_come_out_as_bytes_of_one_size(changed: dict):
    transform = TrainTransform(settings(**changed), DATA)
    for height, width in ((24, 20), (16, 16), (9, 40)):
        (image,) = coloured(1, height=height, width=width).images
        x = transform(image)
        assert (x.dtype, x.shape) == (torch.uint8, (3, 16, 16))


def test_without_augmentation_training_sees_what_testing_sees():
    (image,) = coloured(1, height=16, width=16).images
    x = TrainTransform(settings(crop_scale=None, flip=0.0), DATA)(image)
    batch, _ = Batches(settings(), DATA, 3, CPU)(x[None], torch.zeros(1, dtype=torch.int64))
    torch.testing.assert_close(batch[0], EvalTransform(DATA)(image))


def test_a_shift_moves_pixels_and_a_flip_mirrors_them():
    image = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)
    flipped = TrainTransform(settings(crop_scale=None, flip=1.0), DATA)(image)
    np.testing.assert_array_equal(flipped.permute(1, 2, 0).numpy(), image[:, ::-1])
    shifted = TrainTransform(settings(crop_scale=None, flip=0.0, pad=4), DATA)
    seen = {shifted(image).numpy().tobytes() for _ in range(30)}
    padded = np.pad(image, ((4, 4), (4, 4), (0, 0)), "reflect")
    every = {
        np.ascontiguousarray(padded[y : y + 16, x : x + 16].transpose(2, 0, 1)).tobytes()
        for y in range(9)
        for x in range(9)
    }
    assert len(seen) > 1
    assert seen <= every


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.4, 0.0), (0.0, 1.0), (0.4, 1.0)])
def test_mixing_is_timms(mixup: float, cutmix: float):
    images, labels = torch.randint(256, (6, 3, 16, 16), dtype=torch.uint8), torch.tensor([0, 1, 2, 0, 1, 2])
    batches = Batches(settings(mixup=mixup, cutmix=cutmix, label_smoothing=0.1), DATA, 3, CPU)
    mean, std = (torch.tensor(DATA[k]).view(3, 1, 1) for k in ("mean", "std"))
    theirs = Mixup(mixup, cutmix, label_smoothing=0.1, num_classes=3)
    for step in range(4):
        with random_numbers_of(step):
            x, y = batches(images, labels)
        with random_numbers_of(step):
            expected_x, expected_y = theirs((images / 255 - mean) / std, labels)
        torch.testing.assert_close(x, expected_x, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(y, expected_y)
    assert batches.smoothing == 0.0  # it is in the targets


def test_labels_stay_labels_without_mixing_and_are_smoothed_once():
    labels = torch.tensor([2, 0])
    batches = Batches(settings(label_smoothing=0.1), DATA, 3, CPU)
    _, targets = batches(torch.zeros(2, 3, 16, 16, dtype=torch.uint8), labels)
    assert torch.equal(targets, labels)
    assert batches.smoothing == 0.1


def test_erasing_changes_a_box_of_normalised_pixels():
    grey = torch.full((8, 3, 16, 16), 128, dtype=torch.uint8)
    x, _ = Batches(settings(random_erasing=1.0), DATA, 3, CPU)(grey, torch.zeros(8, dtype=torch.int64))
    plain, _ = Batches(settings(), DATA, 3, CPU)(grey, torch.zeros(8, dtype=torch.int64))
    changed = (x != plain).any(1).float().mean((1, 2))
    assert (changed > 0).all()
    assert (changed < 0.5).all()

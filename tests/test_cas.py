"""The classification accuracy score on images whose difficulty is known."""

from __future__ import annotations

import numpy as np
import torch

from figment.evaluate.cas import SmallCNN, classification_accuracy_score, predict, to_grey, train_cnn
from figment.evaluate.fidelity import recognisability

NAMES = ["left", "right"]


def bars(n: int, noise: float, seed: int) -> tuple[torch.Tensor, np.ndarray]:
    """A bright bar in the left or right half, in noise."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    images = rng.normal(100, noise, (n, 32, 32, 3)).clip(0, 255)
    for image, label in zip(images, labels, strict=True):
        column = rng.integers(4, 10) + 18 * label
        image[8:24, column : column + 3] += 100
    return to_grey(images.clip(0, 255).astype(np.uint8)), labels


def test_right_labels_score_high_and_wrong_ones_low():
    x, y = bars(200, 20, seed=0)
    test_x, test_y = bars(300, 20, seed=1)
    good = classification_accuracy_score(x, y, test_x, test_y, NAMES, seeds=(0, 1), steps=40)
    assert good.value > 0.95
    assert good.n == 300
    assert good.seeds == (0, 1)
    wrong = classification_accuracy_score(x, 1 - y, test_x, test_y, NAMES, steps=40)
    assert wrong.value < 0.05


def test_recognisability_counts_what_the_judge_agrees_with():
    x, y = bars(200, 20, seed=0)
    judge = train_cnn(x, y, 2, steps=40)
    half_wrong = np.where(np.arange(200) < 100, y, 1 - y)
    assert abs(recognisability(predict(judge, x), half_wrong, NAMES, "CNN").value - 0.5) < 0.05


def test_images_of_any_size_become_grey_and_small():
    grey = to_grey([np.full((64, 48, 3), 255, np.uint8), np.zeros((32, 32, 3), np.uint8)])
    assert grey.shape == (2, 1, 32, 32)
    assert grey[0].min() == 1
    assert grey[1].max() == -1


def test_the_same_seed_gives_the_same_network():
    x, y = bars(64, 20, seed=0)
    first, second = (predict(train_cnn(x, y, 2, steps=5, seed=3), x) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert predict(SmallCNN(2).eval(), x).shape == (64, 2)

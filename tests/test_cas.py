"""The classification accuracy score on images whose difficulty is known."""

from __future__ import annotations

import numpy as np
import pytest

from figment.cas import classification_accuracy_score
from figment.evaluate.fidelity import recognisability
from figment.images_in.memory import MemoryImages
from figment.learners.network.network import NetworkLearner
from figment.learners.network.small_cnn import SMALL_CNN

NAMES = ["left", "right"]
QUICK = SMALL_CNN.model_copy(update={"min_steps": 40, "batch_size": 16, "warmup": 0.1, "learning_rate": 4e-3})


def bars(n: int, noise: float, seed: int) -> MemoryImages:
    """A bright bar in the left or right half, in noise."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    images = rng.normal(100, noise, (n, 32, 32, 3)).clip(0, 255)
    for image, label in zip(images, labels, strict=True):
        column = rng.integers(4, 10) + 18 * label
        image[8:24, column : column + 3] += 100
    return MemoryImages(list(images.clip(0, 255).astype(np.uint8)), labels)


@pytest.mark.slow
def test_right_labels_score_high_and_wrong_ones_low():
    train, test = bars(200, 20, seed=0), bars(100, 20, seed=1)
    good = classification_accuracy_score(train, test, NAMES, settings=QUICK, seeds=(0, 1))
    assert good.value > 0.95
    assert (good.metric, good.n, good.seeds) == ("cas", 100, (0, 1))
    assert good.details["architecture"] == "small_cnn"
    flipped = MemoryImages(train.images, 1 - train.labels)
    assert classification_accuracy_score(flipped, test, NAMES, settings=QUICK).value < 0.05


@pytest.mark.slow
def test_a_judge_trained_on_real_images_finds_wrong_labels():
    images = bars(96, 20, seed=0)
    judge = NetworkLearner(QUICK, NAMES).learn(None, images, seed=0)
    half_wrong = np.where(np.arange(96) < 48, images.labels, 1 - images.labels)
    assert abs(recognisability(judge.logits(images), half_wrong, NAMES, "small_cnn").value - 0.5) < 0.05

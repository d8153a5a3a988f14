"""What a network cannot be trained with is said in one paragraph, most of it before anything is trained."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from colours import NAMES, coloured
from figment.errors import FigmentError
from figment.images_in.memory import MemoryImages
from figment.learners.network.network import NetworkLearner
from figment.learners.network.settings import NetworkSettings

SMALL = {"image_size": 32, "epochs": 1, "batch_size": 6}


def refused(match: str, **changed) -> None:
    with pytest.raises(FigmentError, match=match) as error:
        NetworkLearner(NetworkSettings(**{**SMALL, **changed}), NAMES, device="cpu")
    assert "\n" not in str(error.value)


def test_an_unknown_architecture_has_near_ones_named():
    refused(r"no architecture 'resnet51'\. The nearest are .*resnet50.*\. Take one", architecture="resnet51")
    refused("The nearest are .*small_cnn", architecture="smallcnn")
    refused(r"has a tag.*pretrained: timm/resnet50\.a1_in1k", architecture="resnet50.a1_in1k")


def test_sizes_and_options_an_architecture_cannot_take():
    refused("does not take images of 40 x 40 pixels.*divisible by patch size", architecture="test_vit", image_size=40)
    refused(r"small_cnn is trained from scratch.*image_size is 36", architecture="small_cnn", image_size=36)
    refused(r"with options \{'depht': 3\}", architecture="test_vit", options={"depht": 3})
    refused("test_best keeps the best epoch on the test images", architecture="test_vit", select="test_best")


@pytest.mark.parametrize(
    ("match", "changed"),
    [
        ("batch_size 7 is odd", {"batch_size": 7, "mixup": 0.2}),
        ("crop_scale", {"crop_scale": (0.5, 0.2)}),
        ("pad 32 must be less", {"pad": 32}),
        ("greater than or equal to 2", {"batch_size": 1}),
        ("leave one of them out", {"fresh_epochs": 2, "real_share": 0.5}),
        ("Extra inputs", {"learning_rat": 1}),
        ("sgd", {"optimizer": "lion"}),
    ],
)
def test_settings_that_contradict_themselves(match: str, changed: dict):
    with pytest.raises(ValidationError, match=match):
        NetworkSettings(**{**SMALL, **changed})


def training_refused(match: str, images: MemoryImages | None, architecture: str = "test_vit", **changed) -> None:
    own = NetworkLearner(NetworkSettings(architecture=architecture, **{**SMALL, **changed}), NAMES, device="cpu")
    with pytest.raises(FigmentError, match=match) as error:
        own.learn(images, None, seed=0)
    assert "\n" not in str(error.value)


def test_images_that_cannot_be_learnt_from():
    training_refused("nothing to learn from", None)
    training_refused("nothing to learn from", coloured(0))
    training_refused("1 of 3 classes have no images to learn from: 'blue thing'", coloured(2))
    training_refused("labels run from 1 to 3", MemoryImages(coloured(6).images, coloured(6).labels + 1))


def test_one_image_under_batch_norm():
    one = MemoryImages(coloured(1).images, np.zeros(1, np.int64))
    own = NetworkLearner(NetworkSettings(architecture="test_resnet", **SMALL), NAMES[:1], device="cpu")
    with pytest.raises(FigmentError, match="BatchNorm layers, which cannot normalise a batch of 1 image"):
        own.learn(one, None, seed=0)
    own = NetworkLearner(NetworkSettings(architecture="test_vit", **SMALL), NAMES[:1], device="cpu")
    own.learn(one, None, seed=0)
    own = NetworkLearner(NetworkSettings(architecture="test_vit", mixup=0.2, **SMALL), NAMES[:1], device="cpu")
    with pytest.raises(FigmentError, match="1 images are too few.*mixup or cutmix take pairs"):
        own.learn(one, None, seed=0)


def test_a_last_batch_of_one_is_left_out():
    own = NetworkLearner(NetworkSettings(architecture="test_resnet", **SMALL), NAMES, device="cpu")
    assert own.learn(coloured(13), None, seed=0).facts["steps"] == 2


def test_a_loss_of_nan_is_named_by_its_step():
    training_refused(r"at step \d+ \(epoch \d", coloured(12), optimizer="sgd", learning_rate=1e3, epochs=6, warmup=0)


@pytest.mark.parametrize(
    ("error", "precision", "said"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."), "auto", "image_size, or"),
        (RuntimeError("GET was unable to find an engine"), "float32", "image_size, set precision: bfloat16, or"),
    ],
)
def test_memory_that_runs_out_in_training(error: Exception, precision: str, said: str, monkeypatch):
    def full(loop, *batch):
        raise error

    own = NetworkLearner(NetworkSettings(architecture="test_vit", precision=precision, **SMALL), NAMES, device="cpu")
    monkeypatch.setattr("figment.learners.network.loop.NetworkLoop._update", full)
    with pytest.raises(
        FigmentError,
        match=rf"^Out of memory while test_vit learnt from 6 images a step on cpu \(.*\)\. Lower batch_size or {said}",
    ) as raised:
        own.learn(coloured(12), None, seed=0)
    assert "\n" not in str(raised.value)

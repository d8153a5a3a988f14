"""A saved network is used by timm without figment, and trained further by figment."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from PIL import Image

from colours import NAMES, coloured
from figment.errors import FigmentError
from figment.learners.network.architectures import make
from figment.learners.network.model import NetworkModel, open_network
from figment.learners.network.network import NetworkLearner
from figment.learners.network.settings import NetworkSettings


def settings(architecture: str, **changed) -> NetworkSettings:
    start = {"image_size": 32, "epochs": 1, "batch_size": 6, "optimizer": "adamw", "learning_rate": 1e-3}
    return NetworkSettings(architecture=architecture, **{**start, **changed})


def saved(folder: Path, architecture: str, **changed) -> NetworkModel:
    model = NetworkLearner(settings(architecture, **changed), NAMES, device="cpu").learn(coloured(12), None, seed=0)
    model.save(folder)
    return model


@pytest.mark.parametrize(
    ("architecture", "changed"),
    [("test_vit", {"options": {"patch_size": 8}}), ("test_resnet", {"image_size": 40, "crop_pct": 0.8})],
)
def test_timm_alone_opens_it_and_gives_the_same_logits(architecture: str, changed: dict, tmp_path: Path):
    model = saved(tmp_path, architecture, **changed)
    alone = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    config = timm.data.resolve_data_config({}, model=alone)
    assert config["input_size"][1] == changed.get("image_size", 32)
    assert config["crop_pct"] == changed.get("crop_pct", 1.0)
    assert alone.pretrained_cfg["label_names"] == NAMES
    transform = timm.data.create_transform(**config)
    with torch.no_grad():
        logits = alone(torch.stack([transform(Image.fromarray(i)) for i in coloured(12).images]))
    np.testing.assert_allclose(model.logits(coloured(12)), logits.numpy(), rtol=1e-5, atol=1e-5)
    assert {p.name for p in tmp_path.iterdir()} == {"model.safetensors", "config.json"}


@pytest.mark.parametrize("architecture", ["test_vit", "small_cnn"])
def test_figment_opens_it_too(architecture: str, tmp_path: Path):
    model = saved(tmp_path, architecture)
    again = open_network(tmp_path)
    assert again.class_names == NAMES
    np.testing.assert_array_equal(again.logits(coloured(9)), model.logits(coloured(9)))


def test_a_damaged_folder_is_named(tmp_path: Path):
    saved(tmp_path, "small_cnn")
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[:100])
    with pytest.raises(FigmentError, match="holds no network that figment wrote"):
        open_network(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(whole)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FigmentError, match="holds no network that figment wrote"):
        open_network(tmp_path)


@pytest.mark.parametrize("architecture", ["test_vit", "test_resnet"])
def test_all_but_the_classifier_starts_from_pre_trained_weights(architecture: str, tmp_path: Path):
    saved(tmp_path, architecture)
    own = NetworkLearner(settings(architecture, pretrained=str(tmp_path)), NAMES[:2] + ["other"], device="cpu")
    assert own.untrained() is None
    torch.manual_seed(0)
    tensors = safetensors.torch.load_file(tmp_path / "model.safetensors")
    module = make(own.settings, 3, own.start).module
    classifier = module.pretrained_cfg["classifier"]
    for name, value in module.state_dict().items():
        assert torch.equal(value, tensors[name]) == (not name.startswith(classifier)), name
    assert own.fingerprint != NetworkLearner(settings(architecture), own.class_names, device="cpu").fingerprint
    assert make(own.settings, 7, own.start).module(torch.zeros(1, 3, 32, 32)).shape == (1, 7)


def test_a_vit_takes_weights_that_were_trained_at_another_size(tmp_path: Path):
    saved(tmp_path, "test_vit")
    NetworkLearner(settings("test_vit", image_size=64, pretrained=str(tmp_path)), NAMES, device="cpu")


def test_images_are_prepared_as_the_pre_trained_weights_want(tmp_path: Path):
    saved(tmp_path, "test_resnet")
    config = json.loads((tmp_path / "config.json").read_text())
    config["pretrained_cfg"].update(mean=[0.1, 0.2, 0.3], crop_pct=0.9)
    (tmp_path / "config.json").write_text(json.dumps(config))
    own = NetworkLearner(settings("test_resnet", pretrained=str(tmp_path)), NAMES, device="cpu")
    data = make(own.settings, 3, own.start).data
    assert (list(data["mean"]), data["crop_pct"]) == ([0.1, 0.2, 0.3], 0.9)


def test_weights_that_lack_a_tensor_are_refused_by_its_name(tmp_path: Path):
    saved(tmp_path, "test_vit")
    path = tmp_path / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    own = settings("test_vit", pretrained=str(tmp_path))
    safetensors.torch.save_file({k: v for k, v in tensors.items() if k != "blocks.0.mlp.fc1.bias"}, path)
    with pytest.raises(FigmentError, match=r"do not fit test_vit.*blocks\.0\.mlp\.fc1\.bias"):
        NetworkLearner(own, NAMES)
    safetensors.torch.save_file({**tensors, "blocks.0.mlp.fc1.bias": torch.zeros(5)}, path)
    with pytest.raises(FigmentError, match=r"do not fit test_vit.*blocks\.0\.mlp\.fc1\.bias"):
        NetworkLearner(own, NAMES)
    safetensors.torch.save_file({k: v for k, v in tensors.items() if not k.startswith("head.")}, path)
    NetworkLearner(own, NAMES)  # a backbone without a classifier is what is wanted


def test_weights_of_another_architecture_are_refused(tmp_path: Path):
    saved(tmp_path, "test_vit")
    with pytest.raises(FigmentError, match="are those of test_vit, and architecture is test_resnet"):
        NetworkLearner(settings("test_resnet", pretrained=str(tmp_path)), NAMES)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FigmentError, match="names no architecture"):
        NetworkLearner(settings("test_vit", pretrained=str(tmp_path)), NAMES)

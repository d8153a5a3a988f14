"""A generator that travels to a machine with a Hub cache of its own finds there what it was made of, or says that it is another."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path

import diffusers
import numpy as np
import pytest
import safetensors.torch
import torch

import tiny
from figment.errors import FigmentError
from figment.generate.diffusers import DiffusersGenerator
from figment.generate.loras_settings import LoraSettings
from figment.generate.speed_settings import SpeedSettings
from figment.models import pinned
from hubs import COMMIT, Hub, standing_in

SETTINGS = {"num_inference_steps": 2, "dtype": "float32", "batch_size": 1}
LORA = "style.safetensors"


def matrices(scale: float = 0.3) -> dict[str, torch.Tensor]:
    """Of a LoRA on the attention of the tiny UNet."""
    torch.manual_seed(0)
    found = {}
    for name, module in tiny._unet().named_modules():
        if name.endswith("to_q"):
            found[f"unet.{name}.lora_A.weight"] = scale * torch.randn(4, module.in_features)
            found[f"unet.{name}.lora_B.weight"] = scale * torch.randn(module.out_features, 4)
    return found


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Iterator[Hub]:
    """A Hub with a pipeline, a small VAE for it and a LoRA."""
    with standing_in(tmp_path, monkeypatch) as server:
        tiny.sd15(server.root / "owner/pipe")
        torch.manual_seed(0)
        diffusers.AutoencoderTiny(
            encoder_block_out_channels=(8,) * 4,
            decoder_block_out_channels=(8,) * 4,
            num_encoder_blocks=(1,) * 4,
            num_decoder_blocks=(1,) * 4,
        ).save_pretrained(server.root / "owner/small")
        (server.root / "owner/style").mkdir()
        safetensors.torch.save_file(matrices(), server.root / "owner/style" / LORA)
        yield server


def asked() -> DiffusersGenerator:
    pytest.importorskip("peft")
    lora = LoraSettings(lora="owner/style", weight_name=LORA, scale=0.5)
    return DiffusersGenerator(model="owner/pipe", loras=[lora], speed=SpeedSettings(vae="owner/small"), **SETTINGS)


def sent(generator: DiffusersGenerator, tmp_path: Path, monkeypatch) -> DiffusersGenerator:
    """To a machine that has fetched nothing yet, and has none of the first one's folders."""
    parcel = pickle.dumps(generator)
    shutil.move(tmp_path / "cache", tmp_path / "left behind")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    return pickle.loads(parcel)


def test_what_came_from_the_hub_is_fetched_where_it_is_not(hub, tmp_path, monkeypatch):
    here = asked()
    expected = here(["a dog"], [1])[0]
    hub.fetched.clear()
    there = sent(here, tmp_path, monkeypatch)
    assert {LORA, "diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.safetensors"} <= {*hub.fetched}
    assert there.fingerprint == here.fingerprint and [lora.name for lora in there.loras] == ["owner/style"]
    assert np.array_equal(there(["a dog"], [1])[0], expected)


def test_where_all_is_there_nothing_is_asked(hub):
    here = asked()
    hub.fetched.clear()
    there = pickle.loads(pickle.dumps(here))
    assert there.loras == here.loras and there.tiny == here.tiny and not hub.fetched


def test_another_lora_by_the_same_name_is_told(hub, tmp_path, monkeypatch):
    here = asked()
    safetensors.torch.save_file(matrices(0.4), hub.root / "owner/style" / LORA)
    with pytest.raises(FigmentError, match="The LoRA owner/style is another one on .*Copy the same file there"):
        sent(here, tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("name", "folder", "expected"),
    [
        ("owner/name", f"snapshots/{COMMIT}", f"owner/name@{COMMIT}"),
        ("owner/name@main", f"snapshots/{COMMIT}", f"owner/name@{COMMIT}"),
        ("owner/name", "owner/name", "owner/name"),  # a folder of one's own
        ("/models/mine", f"snapshots/{COMMIT}", "/models/mine"),
    ],
)
def test_the_hub_is_asked_for_the_very_commit(name, folder, expected):
    assert pinned(name, Path(folder)) == expected

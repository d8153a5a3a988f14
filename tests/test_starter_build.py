"""The starter's tool: models of a package are taken out again, and the denoiser's trainings add up."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import pytest

from figment import starter

TOOLS = Path(__file__).parents[1] / "tools"
TOLD = {stage: {"steps": 100, "seconds": 60, "loss": 0.5} for stage in ("clip", "clip_rn", "vae", "decoder", "unet")}


@pytest.fixture
def package(tmp_path):
    """The package's models with word of how they were trained."""
    folder = tmp_path / "package"
    folder.mkdir()
    for part in ("clip", "clip_rn", "pipeline"):
        (folder / part).symlink_to(starter.folder(part))
    (folder / "trainings.json").write_text(json.dumps(TOLD))
    return folder


def test_a_denoiser_is_trained_on_from_a_package(package, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    pack, training, unet = (import_module(f"starter.{name}") for name in ("pack", "training", "unet"))
    out = tmp_path / "out"
    pack.take(package, out)
    done = {stage for stage in TOLD if training.is_over(stage, out)}
    assert done == {"clip", "clip_rn", "vae", "decoder"}
    for working, own in {"clip": "clip", "pipeline/vae": "pipeline/vae", unet.START: "pipeline/unet"}.items():
        assert (out / working / "config.json").read_bytes() == (package / own / "config.json").read_bytes()
    (out / "unet.json").write_text(json.dumps({"steps": 11, "seconds": 7, "loss": 0.25}))
    (out / "clip" / "config.json").write_text("changed")
    pack.take(package, out)  # again: what is there stays
    assert (out / "clip" / "config.json").read_text() == "changed"
    told = pack.trainings(out)
    assert told["unet"] == {"steps": 111, "seconds": 67, "loss": 0.25} and told["clip"] == TOLD["clip"]

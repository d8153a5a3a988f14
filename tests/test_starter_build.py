"""The starter's tool: kills change no weight, models of a package are taken out again, and the denoiser's trainings add up."""

from __future__ import annotations

import gzip
import json
import sys
from functools import partial
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from figment import starter
from figment.checkpoint import Checkpoint
from figment.images_in import open_images
from figment.task import load_task

TOOLS = Path(__file__).parents[1] / "tools"
TOLD = {
    stage: {"steps": 100, "seconds": 60, "loss": 0.5} for stage in ("clip", "clip_rn", "text", "vae", "decoder", "unet")
}


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
    assert done == {"clip", "clip_rn", "text", "vae", "decoder"}
    same = ("clip", "pipeline/vae", "pipeline/text_encoder")
    for working, own in {**dict(zip(same, same, strict=True)), unet.START: "pipeline/unet"}.items():
        assert (out / working / "config.json").read_bytes() == (package / own / "config.json").read_bytes()
    (out / "unet.json").write_text(json.dumps({"steps": 11, "seconds": 7, "loss": 0.25}))
    (out / "clip" / "config.json").write_text("changed")
    pack.take(package, out)  # again: what is there stays
    assert (out / "clip" / "config.json").read_text() == "changed"
    told = pack.trainings(out)
    assert told["unet"] == {"steps": 111, "seconds": 67, "loss": 0.25} and told["clip"] == TOLD["clip"]


def test_a_package_of_other_stages_is_refused_before_anything_is_taken(package, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    pack = import_module("starter.pack")
    (package / "trainings.json").write_text(json.dumps({stage: TOLD[stage] for stage in TOLD if stage != "text"}))
    with pytest.raises(SystemExit, match="does not say how text came about"):
        pack.take(package, tmp_path / "out")
    assert not (tmp_path / "out").exists()


class Killed(BaseException):
    """As a signal is: nothing catches it."""


def idx_files(folder: Path, n: int) -> Path:
    """The four files of Fashion-MNIST, with ``n`` pictures of the package's pool in each split."""
    images = open_images("starter/pool", load_task("fashion").class_names).take(range(n))
    pixels = np.stack(images.load(range(n)))[:, 2:30, 2:30, 0]
    folder.mkdir()
    for stem in ("train", "t10k"):
        for kind, header, values in (("images-idx3", 16, pixels), ("labels-idx1", 8, images.labels.astype(np.uint8))):
            with gzip.open(folder / f"{stem}-{kind}-ubyte.gz", "wb") as file:
                file.write(bytes(header) + values.tobytes())
    return folder


@pytest.mark.slow
def test_a_build_that_is_killed_in_each_of_its_trainings_ends_with_the_same_weights(tmp_path, monkeypatch):
    """Two steps of each training, killed after the first checkpoint of each, and the same command again until it is through."""
    monkeypatch.syspath_prepend(str(TOOLS))
    build, training = import_module("build_starter"), import_module("starter.training")
    few = {stage: partial(train, steps=2, batch=4) for stage, train in build.TRAININGS.items()}
    monkeypatch.setattr(build, "TRAININGS", few)
    monkeypatch.setattr(training, "Checkpoint", partial(Checkpoint, seconds=0))
    for module, name in ((training, "TrainingSettings"), (import_module("starter.unet"), "DenoiserSettings")):
        settings = getattr(module, name)
        monkeypatch.setattr(module, name, lambda settings=settings, **own: settings(**{**own, "warmup_steps": 1}))
    files = idx_files(tmp_path / "idx", 60)

    def run(out: str) -> dict[str, bytes]:
        argv = ["build_starter.py", "--out", str(tmp_path / out), "--data", str(files), "--stages", *few]
        monkeypatch.setattr(sys, "argv", argv)
        build.main()
        found = {
            path.relative_to(tmp_path / out): path.read_bytes() for path in (tmp_path / out).rglob("*.safetensors")
        }
        assert len(found) == len(few)
        return found

    undisturbed = run("one")
    write, killed = Checkpoint.write, []

    def write_and_die(self, state):
        write(self, state)
        if self.path.stem not in killed:
            killed.append(self.path.stem)
            raise Killed

    monkeypatch.setattr(Checkpoint, "write", write_and_die)
    while True:
        try:
            again = run("two")
            break
        except Killed:
            continue
    assert killed == list(few)
    assert again == undisturbed

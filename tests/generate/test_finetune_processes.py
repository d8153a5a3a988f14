"""Two processes fine-tune the generator that one does, and each makes its part of the images."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
import yaml

from figment.cli.runs import _check_is_alone
from figment.errors import FigmentError
from figment.files import read_json
from figment.generate.training.loop import first_says, is_first
from figment.learners.processes import Processes
from figment.machine import launched
from figment.recipe import load_recipe
from figment.run import make_images
from folders import rows

NAMES = ["red thing", "green thing", "blue thing"]
TUNED = {"rank": 2, "learning_rate": 1e-3, "warmup_steps": 0, "steps": 3, "batch_size": 5}


def launch(recipe: Path, out: Path, command: str = "generate", *more: str) -> subprocess.CompletedProcess[str]:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    return subprocess.run(
        [*torchrun, "-m", "figment.cli", command, str(recipe), "--out", str(out), *more],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.slow
@pytest.mark.parametrize("method", [{"method": "lora", "per_class": True}, {"method": "full", "validate_steps": 2}])
def test_two_processes_leave_what_one_does(method, sd15, clip, photos, tmp_path):
    """A batch of five is three images and two; the last of an epoch of six a class is one image, and none for the second process."""
    if method["method"] == "lora":
        pytest.importorskip("peft")
    full = {"rank": 16, "validate_images": 3} if method["method"] == "full" else {}
    generate = {
        "model": str(sd15), "images_per_class": 4, "shard_size": 2, "num_inference_steps": 2, "guidance_scale": 1,
        "dtype": "float32", "device": "cpu", "finetune": {**TUNED, **method, **full},
    }  # fmt: skip
    real = {"train": str(photos / "train"), "val": str(photos / "val")}
    recipe = tmp_path / "it.yaml"
    recipe.write_text(
        yaml.safe_dump(
            {
                "task": {"class_names": NAMES, "real": real},
                "prompts": {"kind": "templates"},
                "generate": generate,
                "encoder": str(clip),
                "train": {"kind": "images_only", "encoder": str(clip)},
            }
        )
    )
    done = launch(recipe, tmp_path / "two")
    assert done.returncode == 0, done.stderr + done.stdout
    assert done.stdout.count("Images:") == 2
    make_images(load_recipe(recipe), tmp_path / "one")
    one, two = (
        {path.relative_to(folder).as_posix(): path for path in folder.glob("finetune/*/**/*.safetensors")}
        for folder in (tmp_path / "one", tmp_path / "two")
    )
    assert one.keys() == two.keys() and len(one) == (3 if method["method"] == "lora" else 1)
    for name, path in one.items():
        theirs, ours = safetensors.torch.load_file(path), safetensors.torch.load_file(two[name])
        for tensor, value in theirs.items():
            torch.testing.assert_close(ours[tensor], value, atol=1e-4, rtol=1e-3, msg=f"{name} {tensor}")
    assert [row["id"] for row in rows(tmp_path / "one" / "images")] == [
        row["id"] for row in rows(tmp_path / "two" / "images")
    ]
    told = read_json(tmp_path / "two" / "images" / "stage.json")["counts"]
    assert told == {"attempted": 12, "made": 12, "failed": {}}


class Second:
    """The second of two processes, to whom the first one has said ``first``."""

    rank, world_size, device = 1, 2, torch.device("cpu")

    def __init__(self, first: bool):
        self.first = first

    def sum(self, value: torch.Tensor) -> torch.Tensor:
        return value + int(self.first)


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("first", [True, False])
def test_what_the_first_process_says_holds(own, first):
    assert first_says(Second(first), own) is first and first_says(None, own) is own
    assert not is_first(Second(first)) and is_first(None) and is_first(Processes(0, 2, torch.device("cpu")))


def test_what_one_process_does_is_refused_to_many(monkeypatch):
    _check_is_alone()
    assert launched() is None
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "2")
    assert launched() == (2, 4)
    with pytest.raises(FigmentError, match="started 4. With them make the images: torchrun .* generate RECIPE"):
        _check_is_alone()


@pytest.mark.parametrize(
    "told", [{"WORLD_SIZE": "4"}, {"RANK": "2"}, {"WORLD_SIZE": "all", "RANK": "2"}, {"WORLD_SIZE": "1", "RANK": "0"}]
)
def test_a_job_script_that_says_half_of_it_is_no_launcher(monkeypatch, told):
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    assert launched() is None
    _check_is_alone()

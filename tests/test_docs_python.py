"""The Python that the pages show is run as it stands, but for the amounts named here: of everything there is less.

What export.md, evidence.md, format.md, judge.md and python.md show is run where their subjects are tested.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import figment
from figment import starter
from figment.learners.network.small_cnn import SMALL_CNN
from figment.task import real_folder
from figment.types import Verdict

DOCS = Path(__file__).parents[1] / "docs"
pytestmark = pytest.mark.slow


def run(page: str, block: int, less: dict[str, str] | None = None, **given: Any) -> dict[str, Any]:
    """What the block-th program of a page leaves behind. ``less``: what is written there -> what is run; ``given``: names that the page
    says are the reader's own."""
    text = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)[block]
    for shown, ours in (less or {}).items():
        assert text.count(shown) == 1, shown
        text = text.replace(shown, ours)
    names = dict(given)
    exec(compile(text, page, "exec"), names)
    return names


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_few_shot():
    less = {"t_star=35)": "t_star=35), num_inference_steps=2", "(task, 20,": "(task, 1,", "per_class=20": "per_class=1"}
    names = run("few_shot.md", 0, {**less, "learning_rate=1e-3": "learning_rate=1e-3, epochs=1, min_steps=0"})
    assert len(names["images"]) == 10 and len(names["shots"]) == 160
    assert names["both"].logits(names["shots"].take(range(3))).shape == (3, 10)


def test_filters(photos):
    dark = run("filters.md", 0)["Dark"]
    images = figment.open_images(photos / "train", ["red thing", "green thing", "blue thing"])
    assert dark(300.0)(images)[0] == Verdict(False, "dark", {"mean": pytest.approx(images.load([0])[0].mean())})
    task = figment.load_task("fashion")
    shown = figment.open_images(real_folder("starter/pool"), task.class_names).take(range(30))
    names = run("filters.md", 1, {'figment.open_images("photos", class_names)': "given"}, given=shown)
    assert len(names["selection"].keep) == 30 and names["selection"].counts()


def test_distillation(capsys):
    less = {
        "steps=2000": "steps=1, warmup_steps=0, trajectories=2, batch_size=2, solver_steps=1",
        "points=4": "points=1",
    }
    run("finetune.md", 0, less)
    assert (
        capsys.readouterr().out.splitlines()[-1].startswith("1 ")
        and Path("fast/unet").is_dir()
        and Path("fast/scheduler").is_dir()
    )


def test_training_a_denoiser(capsys):
    shutil.copytree(starter.folder("pipeline"), "pipeline")
    less = {"steps=12_000, batch_size=128": "steps=2, warmup_steps=0, batch_size=2"}
    batches = iter(torch.rand(2, 2, 3, 32, 32) * 2 - 1)
    names = run("finetune.md", 1, less, batches=batches, captions=["a bag"] * 4)
    assert names["training"] and capsys.readouterr().out.splitlines()[-1].startswith("2 ")


def test_fine_tuning():
    pytest.importorskip("peft")
    less = {"per_class=True": "per_class=True, steps=1, warmup_steps=0, batch_size=2", "labels, 4,": "labels, 1,"}
    names = run("finetune.md", 3, {**less, 'model="starter")\n': 'model="starter", num_inference_steps=1)\n'})
    assert [image.shape for image in names["images"]] == [(32, 32, 3)] * 2
    assert names["later"].lora.folder == names["tuned"].lora.folder


def test_learners():
    assert run("learners.md", 0, {"range(100))": "range(40))", "epochs=5": "epochs=1"})["model"]
    less = {"range(640)": "range(64)", 'architecture="resnet18"': 'architecture="test_resnet"'}
    run("learners.md", 1, less)
    assert run("learners.md", 2)["model"].num_classes == 10
    less = {"range(640)": "range(64)", "range(500)": "range(50)", "seeds=(0, 1)": "seeds=(0,), settings=small"}
    small = SMALL_CNN.model_copy(update={"min_steps": 1, "epochs": 1})
    assert 0 <= run("learners.md", 3, less, small=small)["result"].value <= 1


def test_pretraining():
    run("pretrain.md", 2, {"1000, 1640": "1000, 1064"})
    Path("runs/NAME").mkdir(parents=True)
    Path("byol-fashion").rename("runs/NAME/model")
    options = "num_classes=0, img_size=32, patch_size=8, checkpoint_path"
    less = {'"vit_small_patch16_224"': '"test_vit"', "num_classes=0, checkpoint_path": options}
    assert run("pretrain.md", 0, less)["tuned"].num_classes == 10

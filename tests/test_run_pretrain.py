"""A recipe that pre-trains a backbone: from captions to a report with a linear probe on real test images."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import timm
from PIL import Image

from figment.errors import FigmentError
from figment.forecast import forecast
from figment.images_in import open_images
from figment.images_in.captions import captions_of
from figment.images_in.relabelled import Relabelled
from figment.layout import Run
from figment.learners.network.loop import NetworkLoop
from figment.learners.pretrain.loop import PretrainLoop
from figment.recipe import Recipe, load_recipe, validate
from figment.repair import repair
from figment.report.folder import report_of
from figment.run import run_recipe
from figment.status import status
from figment.studies.table import run_table
from figment.task import load_task, real_folder
from figment.verify import verify
from trials import OF_EVIDENCE

NAMES = ["red thing", "green thing", "blue thing"]
SMALL = {
    "backbone": "test_vit", "options": {"patch_size": 8}, "image_size": 32, "epochs": 1, "batch_size": 6, "projector": [16],
}  # fmt: skip


@pytest.fixture
def recipe(photos):
    def make(kind: str = "stablerep", **changes) -> Recipe:
        data = {
            "task": {
                "class_names": NAMES,
                "attributes": {"size": ["large", "small"]},
                "real": {split: str(photos / split) for split in ("train", "test")},
            },
            "prompts": {"kind": "attributes", "per_class": 2},
            "generate": {"kind": "procedural", "images_per_class": 6, "height": 24, "width": 20},
            "filters": [{"kind": "blank"}],
            "train": {"kind": kind, **SMALL, **({"images_per_caption": 2} if kind == "stablerep" else {})},
        }
        return validate(data, "test").changed(changes)

    return make


@pytest.fixture
def few_steps(monkeypatch):
    monkeypatch.setattr("figment.probe.MIN_STEPS", 20)
    monkeypatch.setattr("figment.probe.EPOCHS", 20)


@pytest.mark.slow
def test_from_captions_to_a_report(recipe, tmp_path, few_steps):
    own = recipe()
    outcome = run_recipe(own, tmp_path / "run")
    measured = {"top1/zero_shot", "top1/synthetic", "gain/synthetic", "top1/real_all", "gain/real_all"}
    assert set(outcome.results) - OF_EVIDENCE == measured
    worth = outcome.results["worth"].details
    # the same backbone before it saw an image, the same with its bias removed, and one that learnt from spread captions
    assert set(worth["differences"]) == {"top1/zero_shot", "top1/bias_removed", "top1/placebo"}
    page = report_of(tmp_path / "run")
    assert dict(page.question)["Classifier"] == "test_vit by stablerep, linear probe"
    assert own.name in [arm.name for arm in page.arms]
    found = verify(tmp_path / "run")
    assert found.ok, found.findings
    assert {row.state for row in status(tmp_path / "run")} == {"done"}
    folder = tmp_path / "run" / "model"
    facts = json.loads((folder / "stage.json").read_text())["facts"]
    assert (facts["captions"], facts["method"]) == (6, "stablerep")
    assert timm.create_model(f"local-dir:{folder}", pretrained=True).num_features == 64
    again = run_recipe(own, tmp_path / "run")
    assert again.results == outcome.results


@pytest.mark.slow
def test_images_of_the_run_have_their_captions_and_a_placebo_others(recipe, tmp_path, few_steps):
    from figment.evaluate.placebo import spread_labels
    from figment.images_in.shards import open_run_images

    run_recipe(recipe(**{"evaluate.evidence": False, "evaluate.real_all": False}), tmp_path / "run")
    images = open_run_images(Run(tmp_path / "run"))
    own = captions_of(images)
    assert own is not None and np.bincount(own.groups).tolist() == [3] * 6 and len(set(own.texts)) == 6
    placebo = Relabelled(images, spread_labels(images.labels, np.random.default_rng(0)))
    other = captions_of(placebo)
    assert sorted(other.groups) == sorted(own.groups)
    assert (images.labels[placebo.source] == placebo.labels).all()
    assert [other.texts[i] for i in range(18)] == [own.texts[i] for i in placebo.source]
    assert captions_of(Relabelled(images, placebo.labels)).groups.tolist() == other.groups.tolist()
    mixed = [len(set(images.labels[other.groups == g])) for g in range(6)]
    assert np.mean(mixed) > 1.5  # a caption's images are no longer of one class


@pytest.mark.slow
def test_a_method_that_reads_nothing_has_no_placebo_and_no_verdict(recipe, tmp_path, few_steps):
    own = recipe("simclr", **{"evaluate.real_all": False})
    outcome = run_recipe(own, tmp_path / "run")
    assert {"top1/zero_shot", "top1/synthetic", "gain/synthetic"} <= set(outcome.results)
    assert "top1/placebo" not in outcome.results and outcome.verdict == "not judged"
    page = report_of(tmp_path / "run")
    assert "It reads neither labels nor captions" in page.verdict.sentence
    assert "untrained backbone" in dict(page.verdict.ledger)
    (arm,) = [arm for arm in page.arms if arm.name == own.name]
    assert arm.what.endswith("simclr, linear probe")


FLOW = {
    "kind": "network", "architecture": "test_vit", "options": {"patch_size": 8}, "image_size": 32, "steps": 2, "batch_size": 6, "seeds": 1,
    "optimizer": "adamw", "learning_rate": 0.001, "real_share": 0.5, "pretrain": {"kind": "simclr", "projector": [16], "steps": 2, "batch_size": 6},
}  # fmt: skip
LEAST = {"evaluate.real_all": False, "evaluate.placebos": 2, "evaluate.resamples": 0}


@pytest.mark.slow
def test_generated_images_pre_train_a_network_that_then_learns_from_few_shots(recipe, tmp_path):
    """One recipe, as any other of a network: its forecast, its verdict with placebos, and what is lost is made again."""
    own = recipe(**{"few_shot": {"shots": 2}, "train": FLOW, **LEAST})
    told = forecast(own, tmp_path / "run").costs["results"]
    assert told.seconds and "not known" not in told.text and told.counts["trainings"] == 1 + 1 + 3
    outcome = run_recipe(own, tmp_path / "run")
    assert {"top1/synthetic", "top1/real_only", "gain/over_real_only", "top1/placebo"} <= set(outcome.results)
    assert outcome.results["worth"].details["placebos"] == 2
    folder = tmp_path / "run" / "model"
    assert timm.create_model(f"local-dir:{folder}", pretrained=True).num_classes == 3
    before = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").unlink()
    assert not verify(tmp_path / "run").ok
    repair(tmp_path / "run")
    assert verify(tmp_path / "run").ok and (folder / "model.safetensors").read_bytes() == before
    assert {row.state for row in status(tmp_path / "run")} == {"done"}
    assert (
        dict(report_of(tmp_path / "run").question)["Classifier"]
        == "test_vit, from scratch, after simclr on the same images"
    )


@pytest.mark.parametrize(
    ("train", "loops"),
    [
        ({**FLOW, "pretrain": None}, (NetworkLoop,)),
        ({"kind": "simclr", **SMALL}, (PretrainLoop,)),
        (FLOW, (PretrainLoop, NetworkLoop)),
    ],
)
def test_a_forecast_times_trainings_that_take_place(train, loops, recipe, tmp_path, monkeypatch):
    """In batches of six: a first one on 16 images, of two steps, and two that are timed on eight times as many, of 21 each. None is read
    from a checkpoint."""
    taken: Counter = Counter()
    for loop in (PretrainLoop, NetworkLoop):

        def step(self, *batch, of=loop._update):
            taken[type(self)] += 1
            return of(self, *batch)

        monkeypatch.setattr(loop, "_update", step)
    own = recipe(**{"few_shot": {"shots": 2}, "train": train, **LEAST})
    assert "their time is not known" not in forecast(own, tmp_path / "run").costs["results"].text
    assert taken == dict.fromkeys(loops, 2 + 2 * 21)


@pytest.mark.slow
def test_the_exchange_rate_of_a_backbone_and_the_backbone_as_an_encoder(recipe, tmp_path, few_steps):
    """What a run leaves is what the next one learns on, in one line."""
    changes = {"evaluate.exchange_rate": True, "evaluate.shots": [1, 4], "evaluate.draws": 2, "train.steps": 2}
    own = recipe(**changes, **LEAST)
    outcome = run_recipe(own, tmp_path / "run")
    assert {"exchange_rate", "exchange_rate/placebo", "top1/real_1", "top1/real_4"} <= set(outcome.results)
    rate = outcome.results["exchange_rate"].details
    assert rate["pixels"] and rate["learner"] == "test_vit by stablerep, linear probe"
    assert "To pre-train on, in as many steps" in report_of(tmp_path / "run").verdict.exchange
    encoder = {"timm": str(tmp_path / "run" / "model")}
    heads = recipe(
        **{
            "few_shot": {"shots": 2},
            "train": {"kind": "images_only", "encoder": encoder},
            "evaluate.exchange_rate": False,
            **LEAST,
        }
    )
    outcome = run_recipe(heads, tmp_path / "heads")
    assert {"top1/synthetic", "top1/real_only"} <= set(outcome.results) and "top1/zero_shot" not in outcome.results
    assert verify(tmp_path / "heads").ok
    assert dict(report_of(tmp_path / "heads").question)["Classifier"] == f"images only on {encoder['timm']}"


def test_an_exchange_rate_takes_trainings_of_one_length(recipe):
    with pytest.raises(FigmentError, match=r"evaluate.exchange_rate of a backbone.*give train.steps"):
        recipe(**{"evaluate.exchange_rate": True})


def small_fashion(root: Path) -> dict[str, str]:
    """A few of the starter's images of each class, as class folders."""
    task = load_task("fashion")
    pool = open_images(real_folder("starter/pool"), task.class_names)
    for split, first in (("train", 0), ("test", 3)):
        for label, name in enumerate(task.class_names):
            folder = root / split / name.replace(" ", "_")
            folder.mkdir(parents=True)
            for i in np.flatnonzero(pool.labels == label)[first : first + 3]:
                Image.fromarray(pool.load([i])[0]).save(folder / f"{i}.png")
    return {split: str(root / split) for split in ("train", "test")}


@pytest.mark.slow
def test_the_scale_model_of_a_recipe_runs(tmp_path):
    """Pre-train first, or mix: every row but the one that mixes longer, with next to no images and steps."""
    path = Path(__file__).parents[1] / "recipes" / "imaginefsl" / "shots.yaml"
    less = {
        "generate.images_per_class": 1,
        "generate.num_inference_steps": 1,
        "train.steps": 1,
        "train.pretrain.steps": 1,
    }
    own = load_recipe(path, variant="starter").changed({**less, "task.real": small_fashion(tmp_path / "real")})
    rows = {name: row for name, row in own.table.rows.items() if "as long" not in name}
    table = {"rows": rows, "columns": {"2 shots": {"few_shot.shots": 2}}, "seeds": 1}
    page = run_table(own.changed({f"table.{name}": value for name, value in table.items()}), tmp_path / "run")
    assert len(page.cells) == 5 and all(0 <= cell.value <= 1 for cell in page.cells.values())
    assert verify(tmp_path / "run").ok


def test_real_training_images_are_asked_for_where_there_are_test_images(recipe):
    with pytest.raises(FigmentError, match=r"the probe learns from real training images\. Set task\.real\.train"):
        recipe(**{"task.real.train": None})

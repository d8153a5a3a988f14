"""A recipe that pre-trains a backbone: from captions to a report with a linear probe on real test images."""

from __future__ import annotations

import json

import numpy as np
import pytest
import timm

from figment.errors import FigmentError
from figment.images_in.captions import captions_of
from figment.images_in.relabelled import Relabelled
from figment.layout import Run
from figment.recipe import Recipe, validate
from figment.report.folder import report_of
from figment.run import run_recipe
from figment.status import status
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


def test_real_training_images_are_asked_for(recipe):
    with pytest.raises(FigmentError, match=r"judged by a linear probe on real training images.*task\.real\.train"):
        recipe(**{"task.real.train": None})

"""A recipe that trains a network: no untrained classifier, no features of a CLIP, and a report that makes sense."""

from __future__ import annotations

import json
from typing import get_args
from unittest.mock import patch

import pytest
import timm
import torch

from figment.errors import FigmentError
from figment.evaluate.verdict import Word
from figment.learners.network.network import NetworkLearner
from figment.recipe import Recipe, validate
from figment.report.folder import report_of
from figment.run import run_recipe
from figment.status import status
from figment.verify import verify
from trials import OF_EVIDENCE

pytestmark = pytest.mark.slow

NAMES = ["red thing", "green thing", "blue thing"]


@pytest.fixture
def recipe(photos):
    def make(architecture: str = "small_cnn", **changes) -> Recipe:
        data = {
            "task": {"class_names": NAMES, "real": {split: str(photos / split) for split in ("train", "test")}},
            "prompts": {"kind": "templates"},
            "generate": {"kind": "procedural", "images_per_class": 6, "height": 24, "width": 20},
            "filters": [{"kind": "blank"}],
            "train": {"kind": "network", "architecture": architecture, "image_size": 32, "epochs": 1, "batch_size": 8},
            "evaluate": {"real_all": True},
        }
        return validate(data, "test").changed({"train.seeds": 2, **changes})

    return make


def trainings():
    """How many trainings begin, counted."""
    return patch.object(NetworkLearner, "learn", autospec=True, side_effect=NetworkLearner.learn)


def test_from_class_names_to_a_report(recipe, tmp_path):
    own = recipe()
    outcome = run_recipe(own, tmp_path / "run")
    # no zero-shot, no gain over it, no exchange rate unasked
    assert set(outcome.results) - OF_EVIDENCE == {"top1/synthetic", "top1/real_all"}
    assert outcome.results["top1/synthetic"].n == 36
    worth = outcome.results["worth"].details
    assert outcome.verdict == worth["verdict"] and set(worth["differences"]) == {"chance", "top1/placebo"}
    assert (worth["placebos"], worth["resamples"], worth["claim"]) == (2, 0, "this very set of images")
    page = report_of(tmp_path / "run")
    assert [arm.name for arm in page.arms] == ["placebo", "images only", own.name, "all real images"]
    text = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "zero-shot" not in text.lower() and "untuned" not in text and "CLIP head" not in text
    assert dict(page.question)["Classifier"] == "small_cnn, from scratch, 2 seeds"
    found = verify(tmp_path / "run")
    assert found.ok, found.findings
    assert {row.state for row in status(tmp_path / "run")} == {"done"}
    with trainings() as begun:
        again = run_recipe(own, tmp_path / "run")
    assert again.results == outcome.results and not begun.called


def test_any_architecture_of_timm(recipe, tmp_path):
    own = recipe(
        "resnet18",
        **{"train.seeds": 1, "evaluate.real_all": False, "evaluate.evidence": False, "generate.images_per_class": 3},
    )
    outcome = run_recipe(own, tmp_path)
    assert (
        set(outcome.results) == {"top1/synthetic", "leaks/test", "leaks/generated"} and outcome.verdict == "not judged"
    )
    assert dict(report_of(tmp_path).question)["Classifier"] == "resnet18, from scratch"


def test_with_few_real_images_it_is_judged_over_those_alone(recipe, tmp_path):
    outcome = run_recipe(recipe(few_shot={"shots": 4}, **{"evaluate.real_all": False}), tmp_path / "run")
    assert set(outcome.results) - OF_EVIDENCE == {"top1/synthetic", "top1/real_only", "gain/over_real_only"}
    rivals = ["top1/real_only", "top1/real_repeated", "top1/placebo"]
    assert list(outcome.results["worth"].details["differences"]) == rivals
    assert outcome.verdict in get_args(Word)
    assert report_of(tmp_path / "run").baseline == "real images alone"


def test_another_encoder_in_the_same_folder_measures_again_and_trains_nothing(recipe, tmp_path):
    """The network learns nothing from it, so no other fingerprint tells."""
    for seed in (0, 1):
        torch.manual_seed(seed)
        torch.save(timm.create_model("test_efficientnet").state_dict(), tmp_path / f"{seed}.pth")
    alone = dict.fromkeys(("evaluate.evidence", "evaluate.leaks", "evaluate.real_all"), False)
    found = []
    for seed in (0, 1, 1):
        encoder = {"timm": "test_efficientnet", "weights": str(tmp_path / f"{seed}.pth")}
        own = recipe(**alone, **{"evaluate.measures": ["frechet"], "encoder": encoder, "train.seeds": 1})
        with trainings() as begun:
            found.append(run_recipe(own, tmp_path / "run").results["frechet"])
        assert begun.called == (not found[1:])
    first, other, again = found
    assert first.value != other.value and first.details["weights"] != other.details["weights"] and again == other


def test_lost_numbers_are_worked_out_again_without_training(recipe, tmp_path):
    own = recipe()
    outcome = run_recipe(own, tmp_path / "run")
    model = {p: p.read_bytes() for p in (tmp_path / "run" / "model").iterdir()}
    for lost in (["results.jsonl"], ["predictions.parquet", "results.csv"]):
        for name in lost:
            (tmp_path / "run" / name).unlink()
        with trainings() as begun:
            again = run_recipe(own, tmp_path / "run")
        assert again.results == outcome.results and not begun.called
        assert all((tmp_path / "run" / name).is_file() for name in lost)
    assert {p: p.read_bytes() for p in (tmp_path / "run" / "model").iterdir()} == model
    assert json.loads((tmp_path / "run" / "model" / "stage.json").read_text())["learner"] == "small_cnn, from scratch"


def test_what_needs_a_clip_is_refused_before_anything_is_made(recipe, tmp_path):
    own = recipe(few_shot={"shots": 2}, **{"evaluate.baselines": ["tip_adapter"]})
    with pytest.raises(FigmentError, match=r"tip_adapter.*train\.kind: clip_head|baselines"):
        run_recipe(own, tmp_path / "run")
    assert not (tmp_path / "run" / "images").exists()

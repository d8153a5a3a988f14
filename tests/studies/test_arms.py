"""Arms: what they share is made once, and each is a run like any other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from counting import counting
from figment.layout import Run, shard_files
from figment.recipe import Recipe, validate
from figment.repair import repair
from figment.report.folder import report_of
from figment.run import run_recipe
from figment.status import status
from figment.studies.arms import forecast_arms, run_arms
from figment.verify import verify

pytestmark = pytest.mark.slow

NAMES = ["red thing", "green thing", "blue thing"]
TEST = 36  # real test images


@pytest.fixture
def recipe(clip, photos):
    def make(arms: dict[str, dict], **changes) -> Recipe:
        data = {
            "name": "main",
            "task": {"class_names": NAMES, "real": {split: str(photos / split) for split in ("train", "test")}},
            "prompts": {"kind": "templates"},
            "generate": {"kind": "procedural", "images_per_class": 4, "shard_size": 6, "height": 24, "width": 20},
            "filters": [],
            "train": {"encoder": str(clip), "epochs": 1, "min_steps": 20, "seeds": 2},
            "evaluate": {"exchange_rate": False, "real_all": False, "evidence": False},
            "arms": arms,
        }
        return validate(data, "test").changed(changes)

    return make


def without_arms(own: Recipe) -> Recipe:
    return own.changed({"arms": {}})


def test_an_arm_that_differs_in_training_makes_and_encodes_no_image(recipe, tmp_path):
    own = recipe({"slow": {"train.learning_rate": 1e-4}, "long": {"train.epochs": 2}})
    with counting() as spent:
        outcomes = run_arms(own, tmp_path / "run")
    assert (spent.made, spent.encoded) == (12, 12 + TEST)  # once, for three runs
    assert spent.trained == ["synthetic"] * 6  # two seeds each
    for arm in ("00-slow", "01-long"):
        folder = tmp_path / "run" / "arms" / arm
        assert not (folder / "images").exists() and not (folder / "prompts").exists()
        assert not (folder / "features").exists() and not (folder / "trainings").exists()
        assert json.loads((folder / "shared.json").read_text()) == {"made": "../..", "root": "../.."}
        assert Run(folder).images == tmp_path / "run" / "images"
    alone = run_recipe(without_arms(own).changed({"train.epochs": 2}), tmp_path / "alone")
    assert outcomes["long"].results["top1/synthetic"].value == alone.results["top1/synthetic"].value
    assert outcomes["long"].results["top1/synthetic"] != outcomes["main"].results["top1/synthetic"]


def test_trainings_on_real_images_alone_are_those_of_the_arm_before(recipe, tmp_path):
    """Of arms that differ in images only, and the baselines of those that differ in training."""
    changes = {"few_shot": {"shots": 2}, "evaluate.baselines": ["tip_adapter", "linear_probe"]}
    own = recipe({"few": {"train.images_per_class": 2}, "slow": {"train.learning_rate": 1e-4}}, **changes)
    with counting() as spent:
        run_arms(own, tmp_path / "run")
    assert spent.made == 12
    assert spent.trained.count("both") == 6  # what each arm is about
    assert spent.trained.count("real") == 4  # "few" and "main" learn them in the same way, "slow" in another
    assert spent.trained.count("tip_adapter") == spent.trained.count("linear_probe") == 2  # for all three
    assert list((tmp_path / "run" / "trainings").glob("*.parquet"))
    with counting() as spent:
        for folder in (tmp_path / "run", tmp_path / "run" / "arms" / "00-few"):
            (folder / "results.jsonl").unlink()
        again = run_arms(own, tmp_path / "run")
    assert not spent.trained and not spent.made and not spent.encoded
    assert again["few"].results and again["few"].results != again["main"].results


def test_the_ceiling_and_the_curve_are_taken_from_the_trainings_of_the_study(recipe, tmp_path):
    changes = {"evaluate.real_all": True, "evaluate.exchange_rate": True, "evaluate.shots": [1, 2], "evaluate.draws": 2}
    whole = without_arms(recipe({}, **changes))
    first = run_recipe(whole, tmp_path / "a", root=tmp_path)
    with counting() as spent:
        fewer = whole.changed({"train.images_per_class": 2})
        second = run_recipe(fewer, tmp_path / "b", made=tmp_path / "a", root=tmp_path)
    assert spent.trained == ["synthetic"] * 2 and not spent.made and not spent.encoded
    for metric in ("top1/real_all", "top1/real_1", "top1/real_2"):
        assert second.results[metric].value == first.results[metric].value


def test_arms_of_other_numbers_of_images_share_one_set_that_grows(recipe, tmp_path):
    arms = {"two": {"generate.images_per_class": 2}, "six": {"generate.images_per_class": 6}}
    own = recipe(arms)
    with counting() as spent:
        outcomes = run_arms(own, tmp_path / "run")
    assert (spent.made, spent.encoded) == (18, 18 + TEST)
    assert not list((tmp_path / "run" / "arms").glob("*/images"))
    for name, folder, n in (("two", "arms/00-two", 6), ("six", "arms/01-six", 18), ("main", "", 12)):
        page = report_of(tmp_path / "run" / folder)
        assert (page.counts.attempted, page.counts.kept) == (n, n), name
        alone = run_recipe(without_arms(own).changed({"generate.images_per_class": n // 3}), tmp_path / f"alone-{name}")
        assert alone.results["top1/synthetic"].value == outcomes[name].results["top1/synthetic"].value
    found = verify(tmp_path / "run")
    assert found.ok, found.findings
    with counting() as spent:
        run_arms(own, tmp_path / "run")
    assert not spent.made and not spent.encoded and not spent.trained


def test_arms_are_runs_to_status_verify_repair_report_and_forecast(recipe, tmp_path):
    own = recipe({"no blank": {"filters": [{"kind": "blank"}]}, "other": {"seed": 5}})
    costs = forecast_arms(own, tmp_path / "run")
    assert {name: cost.count("images") for name, cost in costs.items()} == {"no blank": 0, "other": 12, "main": 12}
    assert not (tmp_path / "run").exists()
    run_arms(own, tmp_path / "run")
    found = verify(tmp_path / "run")
    assert found.ok and not found.findings, found.findings
    assert {"arms/00-no-blank/scores/0-blank", "arms/01-other/images", "images"} <= set(found.checked)
    names = {row.name: row.state for row in status(tmp_path / "run")}
    assert set(names.values()) == {"done"}
    assert {"arms/00-no-blank/scores/0-blank", "arms/01-other/model", "report"} <= set(names)
    before = {p: p.read_bytes() for p in shard_files(tmp_path / "run" / "arms" / "01-other" / "images")}
    harmed = [next(iter(before)), tmp_path / "run" / "arms" / "00-no-blank" / "model" / "head.safetensors"]
    for path in harmed:
        path.write_bytes(path.read_bytes()[:100])
    assert {f.stage for f in verify(tmp_path / "run").findings} >= {"arms/01-other/images", "arms/00-no-blank/model"}
    said = repair(tmp_path / "run")
    assert any("arms/01-other" in line for line in said) and any("arms/00-no-blank" in line for line in said)
    assert {p: p.read_bytes() for p in before} == before and verify(tmp_path / "run").ok
    page = report_of(tmp_path / "run" / "arms" / "01-other")
    assert page.counts.attempted == 12 and [arm.name for arm in page.arms] == ["zero-shot", "other"]


def test_a_study_can_be_moved_as_a_whole(recipe, tmp_path):
    own = recipe({"slow": {"train.learning_rate": 1e-4}})
    run_arms(own, tmp_path / "run")
    (tmp_path / "run").rename(tmp_path / "elsewhere")
    assert verify(tmp_path / "elsewhere").ok
    with counting() as spent:
        run_arms(own, tmp_path / "elsewhere")
    assert not spent.made and not spent.encoded and not spent.trained


def test_the_images_of_a_run_without_arms_are_those_of_its_later_arms(recipe, tmp_path):
    run_recipe(without_arms(recipe({})), tmp_path / "run")
    with counting() as spent:
        run_arms(recipe({"slow": {"train.learning_rate": 1e-4}}), tmp_path / "run")
    assert not spent.made and not spent.encoded and spent.trained == ["synthetic"] * 2


def shares(folder: Path) -> dict[str, str]:
    return json.loads((folder / "shared.json").read_text())


def test_arms_that_ask_for_the_same_other_images_share_the_first_ones(recipe, tmp_path):
    arms = {"a": {"seed": 5}, "b": {"seed": 5, "filters": [{"kind": "blank"}]}}
    with counting() as spent:
        run_arms(recipe(arms), tmp_path / "run")
    assert spent.made == 24
    assert (tmp_path / "run" / "arms" / "00-a" / "images").is_dir()
    assert shares(tmp_path / "run" / "arms" / "01-b") == {"made": "../00-a", "root": "../.."}

"""Whole runs on tiny random models: every stage, again after an interruption, again with nothing to do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import tiny
import yaml
from PIL import Image

from figment.errors import FigmentError
from figment.recipe import Recipe, validate
from figment.report.folder import report_of
from figment.run import run_recipe
from figment.status import stages_of
from figment.studies.arms import run_arms

NAMES = ["red square", "blue disc"]


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    return {name: str(getattr(tiny, name)(folder / name)) for name in ("sd15", "sdxl", "clip")}


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Real pictures: a red square or a blue disc's box on noise, for train and test."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for split, n in (("train", 4), ("test", 6)):
        for label, name in enumerate(NAMES):
            (root / split / name).mkdir(parents=True)
            for i in range(n):
                image = rng.integers(0, 60, (40, 48, 3), dtype=np.uint8)
                image[10:30, 12:32, 2 * label] = 250
                Image.fromarray(image).save(root / split / name / f"{i}.png")
    return root


def recipe(models: dict[str, str], photos: Path | None, pipeline: str = "sd15", **changes) -> Recipe:
    real = {"train": str(photos / "train"), "test": str(photos / "test")} if photos else {}
    data = {
        "task": {"class_names": NAMES, "attributes": {"size": ["small", "large"]}, "contexts": ["outside"], "real": real},
        "prompts": {"kind": "attributes", "per_class": 3},
        "generate": {"model": models[pipeline], "images_per_class": 6, "num_inference_steps": 2, "shard_size": 4},
        "filters": [{"kind": "blank"}, {"kind": "clip", "rule": "top_k", "k": 4}],
        "train": {"encoder": models["clip"], "epochs": 2, "seeds": 2},
        "evaluate": {"shots": [1, 2], "draws": 2},
    }
    return validate(data, "test").changed(changes)


def rows(folder: Path) -> list[dict]:
    return [row for path in sorted((folder / "images").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


@pytest.mark.parametrize("pipeline", ["sd15", "sdxl"])
def test_all_stages_from_class_names_to_a_report(models, photos, pipeline, tmp_path):
    outcome = run_recipe(recipe(models, photos, pipeline), tmp_path / "run")
    assert set(outcome.results) == {
        *("top1/zero_shot", "top1/synthetic", "gain/synthetic", "top1/real_all", "gain/real_all"),
        *("top1/real_1", "top1/real_2", "exchange_rate"),
    }
    assert outcome.verdict in ("helps", "hurts", "no evidence")
    assert outcome.results["top1/synthetic"].n == 12
    made = rows(tmp_path / "run")
    assert len(made) == 12
    assert all(row["error"] == "" and row["image"]["bytes"] for row in made)
    counts = report_of(tmp_path / "run").counts
    assert (counts.attempted, counts.kept) == (12, 8)
    assert outcome.verdict.capitalize() in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert {s.state for s in stages_of(tmp_path / "run")} == {"done"}


def test_the_same_again_does_nothing_and_a_changed_setting_is_named(models, photos, tmp_path):
    first = run_recipe(recipe(models, photos), tmp_path)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "images").glob("*.parquet")}
    again = run_recipe(recipe(models, photos), tmp_path)
    assert again.results == first.results
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "images").glob("*.parquet")} == before

    with pytest.raises(FigmentError, match=r"generate.guidance_scale was 2.0 and is now 3.0.*--out"):
        run_recipe(recipe(models, photos, **{"generate.guidance_scale": 3.0}), tmp_path)
    with pytest.raises(FigmentError, match=r"prompts.per_class was 3 and is now 2"):
        run_recipe(recipe(models, photos, **{"prompts.per_class": 2}), tmp_path)

    trained = run_recipe(recipe(models, photos, **{"train.epochs": 3}), tmp_path)
    assert trained.results["top1/synthetic"].fingerprint != first.results["top1/synthetic"].fingerprint
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "images").glob("*.parquet")} == before
    lines = (tmp_path / "results.jsonl").read_text().splitlines()
    assert len(lines) == 2 * len(first.results)  # what was measured before is kept


def test_a_filter_taken_out_of_the_recipe_leaves_no_rejects_in_the_report(models, photos, tmp_path):
    run_recipe(recipe(models, photos), tmp_path)
    assert report_of(tmp_path).counts.kept == 8
    run_recipe(recipe(models, photos, filters=[]), tmp_path)
    assert report_of(tmp_path).counts.kept == 12


def test_without_real_pictures_nothing_is_measured_and_the_report_says_so(models, tmp_path):
    outcome = run_recipe(recipe(models, None), tmp_path)
    assert outcome.results == {}
    assert outcome.verdict == "not measured"
    assert "no real test pictures" in (tmp_path / "report.html").read_text(encoding="utf-8").lower()


def test_the_resolved_recipe_reproduces_the_images(models, photos, tmp_path):
    run_recipe(recipe(models, photos), tmp_path / "one")
    resolved = validate(yaml.safe_load((tmp_path / "one" / "recipe.yaml").read_text()), "recipe.yaml")
    run_recipe(resolved, tmp_path / "two")
    assert rows(tmp_path / "two") == rows(tmp_path / "one")


def test_arms_are_whole_runs_and_stand_in_one_report(models, photos, tmp_path):
    arms = {"no filter": {"filters": []}, "templates <b>": {"prompts": {"kind": "templates"}}}
    outcomes = run_arms(recipe(models, photos, name="main", arms=arms), tmp_path)
    assert list(outcomes) == ["no filter", "templates <b>", "main"]
    assert [a.name for a in report_of(tmp_path).arms] == ["zero-shot", "no filter", "templates <b>", "main", "all real pictures"]
    assert "templates <b>" not in (tmp_path / "report.html").read_text(encoding="utf-8")
    # The real pictures were encoded once, for all of them.
    assert not (tmp_path / "arms" / "00-no-filter" / "features").exists()


def test_validation_pictures_are_asked_for_before_anything_is_made(models, photos, tmp_path):
    with pytest.raises(FigmentError, match="no validation pictures"):
        run_recipe(recipe(models, photos, **{"train.select": "validation"}), tmp_path)
    assert not (tmp_path / "images").exists()


def test_killed_at_three_moments_it_ends_as_if_it_never_was(models, tmp_path):
    changes = {"generate.images_per_class": 20, "generate.shard_size": 3, "generate.num_inference_steps": 3}
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe(models, None, **changes).to_yaml())
    command = [sys.executable, "-m", "figment.cli", "run", str(path), "--out", str(tmp_path / "killed")]
    shards = 14  # 40 images, 3 a shard
    for until in (1, 5, 9):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        while len(list((tmp_path / "killed" / "images").glob("train-*"))) < until:
            assert process.poll() is None, "the run ended before it could be killed"
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert not (tmp_path / "killed" / "images" / "stage.json").exists()
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    run_recipe(recipe(models, None, **changes), tmp_path / "whole")
    assert rows(tmp_path / "killed") == rows(tmp_path / "whole")
    assert len(list((tmp_path / "killed" / "images").glob("*.parquet"))) == shards
    assert json.loads((tmp_path / "killed" / "images" / "stage.json").read_text())["counts"]["attempted"] == 40

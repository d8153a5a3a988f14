"""A run on one folder of photographs that nobody has split."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from figment import records
from figment.judging.labelled import open_labelled
from figment.recipe import load_recipe
from figment.report.comparison import compare
from figment.run import run_recipe
from figment.verify import verify

NAMES = ["red thing", "green thing", "blue thing"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, photos, clip) -> Path:
    """``photos`` without a split, and a recipe beside them."""
    root = tmp_path_factory.mktemp("unsplit")
    shutil.copytree(photos / "test", root / "photos")
    recipe = {
        "task": {"class_names": NAMES, "real": {"folder": "photos", "test_share": 0.25}},
        "prompts": {"kind": "templates"},
        "generate": {"kind": "procedural", "images_per_class": 4, "height": 24, "width": 20},
        "filters": [],
        "few_shot": {"shots": 2},
        "train": {"encoder": str(clip)},
        "evaluate": {"exchange_rate": False, "evidence": False},
    }
    (root / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return root


def test_it_is_tested_on_a_part_that_it_names_and_learns_from_the_rest(folder, tmp_path):
    done = run_recipe(load_recipe(folder / "recipe.yaml"), tmp_path / "run")
    assert done.results["top1/synthetic"].n == 9
    told = json.loads((tmp_path / "run/split.json").read_text())
    parts = {part: {row["id"] for row in told["images"] if row["split"] == part} for part in ("train", "test")}
    assert {part: len(ids) for part, ids in parts.items()} == {"train": 27, "test": 9}
    shots = {row["id"] for row in json.loads((tmp_path / "run/shots.json").read_text())["images"]}
    assert len(shots) == 6 and shots <= parts["train"]
    assert "split.json" in records.read(tmp_path / "run").files and verify(tmp_path / "run").ok
    (pair,) = compare([tmp_path / "run", Path(shutil.copytree(tmp_path / "run", tmp_path / "copy"))]).pairs
    assert (pair.word, pair.p) == ("no evidence", 1)


def test_a_backbone_is_judged_on_it_too(folder):
    found = open_labelled(str(folder / "recipe.yaml"))
    assert (len(found.train), len(found.test)) == (27, 9)

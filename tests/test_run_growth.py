"""A set of images grows with the recipe: only new images are made, and scores, model and numbers follow."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest

from counting import counting
from figment.errors import FigmentError
from figment.layout import Run, shard_files
from figment.recipe import Recipe, validate
from figment.report.folder import report_of
from figment.run import run_recipe
from figment.verify import verify

pytestmark = pytest.mark.slow

NAMES = ["red thing", "green thing", "blue thing"]


@pytest.fixture
def recipe(clip, photos):
    def make(images: int, **changes) -> Recipe:
        data = {
            "task": {"class_names": NAMES, "real": {"test": str(photos / "test")}},
            "prompts": {"kind": "templates"},
            "generate": {"kind": "procedural", "images_per_class": images, "shard_size": 6, "height": 24, "width": 20},
            "filters": [{"kind": "blank"}, {"kind": "clip", "rule": "top_k", "k": images - 1}],
            "train": {"encoder": str(clip), "epochs": 2, "min_steps": 20, "seeds": 1, "learning_rate": 0.05},
            "evaluate": {"exchange_rate": False, "real_all": False},
        }
        return validate(data, "test").changed(changes)

    return make


def rows(folder) -> list[dict]:
    return [row for path in shard_files(folder / "images") for row in pq.read_table(path).to_pylist()]


def values(outcome) -> dict[str, float]:
    return {name: result.value for name, result in outcome.results.items()}


def test_from_four_to_eight_a_class_and_back(recipe, tmp_path):
    four = run_recipe(recipe(4), tmp_path / "run")
    before = rows(tmp_path / "run")
    shards = {path: path.read_bytes() for path in shard_files(tmp_path / "run" / "images")}
    with counting() as spent:
        eight = run_recipe(recipe(8), tmp_path / "run")
    assert (spent.made, spent.encoded) == (12, 12)  # of 24 images the new ones, and no real one again
    assert {path: path.read_bytes() for path in shards} == shards and rows(tmp_path / "run")[:12] == before
    assert values(eight) == values(run_recipe(recipe(8), tmp_path / "at once"))
    assert rows(tmp_path / "run") == rows(tmp_path / "at once")
    counts = report_of(tmp_path / "run").counts
    assert (counts.attempted, counts.kept) == (24, 21)
    assert len(pq.read_table(tmp_path / "run" / "scores" / "0-blank" / "train.parquet")) == 24
    assert verify(tmp_path / "run").ok

    with counting() as spent:
        back = run_recipe(recipe(4), tmp_path / "run")
    assert not spent.made and not spent.encoded
    assert back.results == four.results  # to the last digit, with the same fingerprint
    counts = report_of(tmp_path / "run").counts
    assert (counts.attempted, counts.kept) == (12, 9)
    assert len(rows(tmp_path / "run")) == 24  # nothing was thrown away
    found = verify(tmp_path / "run")
    assert found.ok, found.findings
    with counting() as spent:
        assert run_recipe(recipe(8), tmp_path / "run").results == eight.results
    assert not spent.made and not spent.encoded


def test_a_shard_that_was_not_full_is_filled_up(recipe, tmp_path):
    """Its first rows stay as they are, though their batch is made once more for the new ones' sake."""
    run_recipe(recipe(3), tmp_path / "run")  # shards of 6 and 3 rows
    before = rows(tmp_path / "run")
    run_recipe(recipe(5), tmp_path / "run")
    assert rows(tmp_path / "run")[:9] == before
    assert rows(tmp_path / "run") == rows(run_at_once(recipe(5), tmp_path / "at once"))


def run_at_once(own: Recipe, folder):
    run_recipe(own, folder)
    return folder


@pytest.mark.parametrize(
    "changes",
    [
        {"generate.noise": 20.0},
        {"generate.shard_size": 5},
        {"seed": 1},
        {"task.class_names": ["red thing", "green thing", "a blue thing"]},
    ],
    ids=lambda c: next(iter(c)),
)
def test_any_other_change_is_refused_by_name_with_a_larger_number_too(recipe, clip, tmp_path, changes):
    without = {"task.real": {}, "filters": []}
    run_recipe(recipe(4, **without), tmp_path)
    (field,) = changes
    for images in (4, 8):
        with counting() as spent, pytest.raises(FigmentError, match=field.removeprefix("task.")):
            run_recipe(recipe(images, **without, **changes), tmp_path)
        assert not spent.made
    assert len(rows(tmp_path)) == 12 and Run(tmp_path).recipe.read_text().count("images_per_class: 4") == 1

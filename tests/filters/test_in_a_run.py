"""The filters in a recipe and in a whole run: planted copies are found, said on disk and in the report."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from figment.errors import FigmentError
from figment.filters.argmax import ArgmaxFilter
from figment.images_in import open_shards
from figment.recipe import load_recipe, validate
from figment.report.folder import report_of
from figment.run import make_images, run_recipe
from given_of import GivenOf

pytestmark = pytest.mark.slow

NAMES = ["red thing", "green thing", "blue thing"]
TASK = {"class_names": NAMES}


def recipe(clip: Path, real: dict, filters: list[dict]):
    data = {
        "task": {"class_names": NAMES, "real": real},
        "prompts": {"kind": "templates"},
        "generate": {"kind": "procedural", "images_per_class": 8, "height": 24, "width": 20},
        "filters": filters,
        "train": {"encoder": str(clip), "epochs": 1, "min_steps": 20, "seeds": 1},
        "evaluate": {"exchange_rate": False, "real_all": False},
    }
    return validate(data, "test")


def verdicts(run: Path, name: str) -> list[dict]:
    return pq.read_table(next((run / "scores" / name).glob("*.parquet"))).to_pylist()


def said(capsys) -> str:
    """What was printed, whatever the width of the terminal."""
    return " ".join(capsys.readouterr().out.split())


@pytest.fixture
def leaky(clip, photos, tmp_path) -> dict[str, str]:
    """The photos, with a copy of the first generated image among the training images and of the second among the test's."""
    made = open_shards(make_images(recipe(clip, {}, []), tmp_path / "first"))[0]
    for split, place in (("train", 0), ("test", 1)):
        shutil.copytree(photos / split, tmp_path / split)
        name = NAMES[made.labels[place]].replace(" ", "_")
        Image.fromarray(made.load([place])[0]).save(tmp_path / split / name / "leak.bmp")
    return {split: str(tmp_path / split) for split in ("train", "test")}


def test_a_run_finds_copies_says_why_on_disk_and_in_the_report(clip, leaky, tmp_path):
    filters = [
        {"kind": "blank"},
        {"kind": "duplicate", "threshold": 1.0},
        {"kind": "memorised", "threshold": 1.0},
        {"kind": "real", "threshold": 1.0},
        {"kind": "centroid", "of": "real", "drop_farthest": 0.3},
        {"kind": "clip", "rule": "top_k", "k": 3},
    ]
    run_recipe(recipe(clip, leaky, filters), tmp_path / "run")
    made = open_shards(tmp_path / "run" / "images")[0]
    rejected = {row["id"]: row["reason"] for row in verdicts(tmp_path / "run", "2-memorised") if not row["keep"]}
    assert rejected == {
        made.ids[0]: "memorised: exact copy of a training image",
        made.ids[1]: "memorised: exact copy of a test image",
    }
    scores = {
        "1-duplicate": "duplicate_cosine",
        "2-memorised": "test_cosine",
        "3-real": "other_class_cosine",
        "4-centroid": "centroid_distance",
        "5-clip": "clip_p",
    }
    for name, score in scores.items():
        assert score in verdicts(tmp_path / "run", name)[0]
    report = report_of(tmp_path / "run")
    assert ("memorised", "memorised: exact copy of a test image", 1) in report.counts.rejected
    assert sum(n for filter, _, n in report.counts.rejected if filter == "centroid") >= 3
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "exact copy of a training image" in page and "exact copy of a test image" in page


def test_a_reported_copy_of_a_test_image_is_a_caveat_of_the_report(clip, leaky, tmp_path, capsys):
    filters = [{"kind": "memorised", "threshold": 1.0, "test": "report"}]
    run_recipe(recipe(clip, leaky, filters), tmp_path / "run")
    assert "copies of test images: 1" in said(capsys)
    caveat = "Copies of test images among the 23 kept images: 1. The numbers may be too good."
    assert caveat in report_of(tmp_path / "run").caveats
    assert caveat in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_images_kept_below_the_clip_threshold_are_counted(clip, photos, tmp_path, capsys):
    real = {"test": str(photos / "test")}
    filters = [{"kind": "clip", "rule": "threshold_else_top_k", "k": 5, "threshold": 0.99}]
    run_recipe(recipe(clip, real, filters), tmp_path / "run")
    assert "15 of the 15 kept have p(own class) <= 0.99: threshold_else_top_k filled up classes" in said(capsys)
    caveats = " ".join(report_of(tmp_path / "run").caveats)
    assert "Of the 15 kept images the clip filter's rule took 15 below its threshold" in caveats


@pytest.mark.parametrize("kind", ["real", "centroid", "memorised"])
def test_without_real_training_images_the_run_stops_before_it_makes_anything(clip, photos, tmp_path, kind):
    filters = [{"kind": kind, **({"of": "real"} if kind == "centroid" else {})}]
    with pytest.raises(FigmentError, match=rf"{kind}.*task.real.train"):
        run_recipe(recipe(clip, {"test": str(photos / "test")}, filters), tmp_path / "run")
    assert not (tmp_path / "run" / "images").exists()


def test_a_training_image_that_cannot_be_read_is_left_out_of_the_filters_too(clip, leaky, tmp_path):
    (Path(leaky["train"]) / "red_thing" / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n torn")
    filters = [{"kind": "memorised"}, {"kind": "real", "quantile": 1.0}]
    run_recipe(recipe(clip, leaky, filters), tmp_path / "run")
    assert len(verdicts(tmp_path / "run", "0-memorised")) == 24


def test_a_filter_may_have_a_model_of_its_own_loaded_once(clip, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(clip, other)
    filters = [{"kind": "duplicate", "model": str(other)}, {"kind": "argmax", "model": str(other)}, {"kind": "argmax"}]
    given = GivenOf(recipe(clip, {}, filters))
    one, two, three = (settings.build(given) for settings in given.recipe.filters)
    assert one.features is two.features and one.features is not given.features()
    assert isinstance(three, ArgmaxFilter) and three.features is given.features()


def test_mistakes_in_filters_are_named():
    data = {
        "task": TASK,
        "filters": [
            {"kind": "memorized"},
            {"kind": "centroid", "drop_farthest": 0.6, "drop_nearest": 0.4},
            {"kind": "duplicate", "treshold": 0.9},
            {"kind": "real", "quantile": 2},
        ],
    }
    with pytest.raises(FigmentError) as error:
        validate(data, "test")
    text = str(error.value)
    for kind in ("blank", "clip", "argmax", "real", "centroid", "duplicate", "memorised"):
        assert f"'{kind}'" in text
    assert "filters.1: drop_farthest and drop_nearest together must be below 1" in text
    assert "filters.2.treshold: there is no such field. Did you mean 'threshold'?" in text
    assert "filters.3.quantile: input should be less than or equal to 1" in text


@pytest.mark.parametrize("kind", ["argmax", "real", "centroid", "duplicate", "memorised"])
def test_model_folders_are_relative_to_the_recipe(tmp_path, kind):
    path = tmp_path / "recipe.yaml"
    path.write_text(f"task: {{class_names: [a, b]}}\nfilters: [{{kind: {kind}, model: ./clip}}, {{kind: {kind}}}]\n")
    assert [f.model for f in load_recipe(path).filters] == [str(tmp_path / "clip"), None]

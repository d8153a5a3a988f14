"""A run's model on images of a user's own: the same as figment's own predictions, whatever lies among them."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from conftest import COLOURS
from figment.cli import app
from figment.errors import FigmentError
from figment.images_in import open_images
from figment.predict import Predictor, images_of
from figment.records import NAME
from figment.trained import open_trained, softmax

NAMES = list(COLOURS)


@pytest.fixture
def own(tmp_path) -> Path:
    """Three images in two folders, a file that is none, and one that is no image's by its name."""
    rng = np.random.default_rng(0)
    for name in ("a/1.png", "a/deep/2.jpg", "b/3.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (30, 40, 3), np.uint8)).save(tmp_path / name)
    (tmp_path / "a" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    (tmp_path / "a" / "notes.txt").write_text("nothing")
    return tmp_path


def figment(*arguments: object):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_it_says_what_the_model_says(fitted, photos):
    paths = images_of([str(photos / "test")])
    test = open_images(photos / "test", NAMES)
    told = list(Predictor(fitted)(paths, batch_size=5))
    assert [Path(one.image) for one in told] == test.paths and len(told) == 36
    own = softmax(open_trained(fitted).saved.logits(test.load(range(len(test)))))
    np.testing.assert_allclose([one.probabilities for one in told], own, atol=1e-6)
    recorded = Path(fitted / "predictions.parquet")
    import pyarrow.parquet as pq

    table = pq.read_table(recorded)
    (column,) = [name for name in table.column_names if name.startswith("top1/synthetic/")]
    assert [int(one.probabilities.argmax()) for one in told] == table[column].to_pylist()


def test_csv_has_a_row_for_each_image_and_names_those_that_cannot_be_read(fitted, own):
    result = figment("predict", fitted, own / "a", own / "b" / "3.png", "--out", own / "out.csv", "--top-k", 2)
    assert result.exit_code == 0 and "1 of the 4 images cannot be read" in result.output, result.output
    with open(own / "out.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["image", "class", "probability", "class_2", "probability_2", "error"]
    assert [Path(row["image"]).name for row in rows] == ["1.png", "broken.png", "2.jpg", "3.png"]
    good = [row for row in rows if not row["error"]]
    assert len(good) == 3 and all(row["class"] in NAMES and row["class"] != row["class_2"] for row in good)
    assert all(float(row["probability"]) >= float(row["probability_2"]) for row in good)
    (bad,) = [row for row in rows if row["error"]]
    assert bad["image"].endswith("broken.png") and bad["class"] == ""


def test_json_lines_with_all_probabilities(fitted, own):
    result = figment(
        "predict", fitted, own / "a", "--out", own / "out.jsonl", "--probabilities", "--top-k", 9, "--batch-size", 1
    )
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in (own / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [set(row) for row in rows] == [
        {"image", "top", "probabilities"},
        {"image", "error"},
        {"image", "top", "probabilities"},
    ]
    assert list(rows[0]["probabilities"]) == NAMES and sum(rows[0]["probabilities"].values()) == pytest.approx(
        1, abs=1e-5
    )
    best = max(rows[0]["probabilities"], key=rows[0]["probabilities"].get)
    assert rows[0]["top"][0]["class"] == best and len(rows[0]["top"]) == len(NAMES)


def test_without_a_file_it_is_shown(fitted, own):
    result = figment("predict", fitted, own / "b" / "3.png")
    assert result.exit_code == 0 and "3.png: " in result.output and " %" in result.output


def test_places_are_files_folders_and_patterns_each_image_once(own):
    places = ["b", "**/*.png", "a/../b/3.png", "a/notes.txt"]
    assert [path.name for path in images_of(str(own / place) for place in places)] == [
        "3.png",
        "1.png",
        "broken.png",
        "notes.txt",
    ]


@pytest.mark.parametrize(
    ("place", "said"),
    [("nowhere.png", "no image or folder"), ("a/*.gif", "matches no image"), ("c", "holds no images")],
)
def test_a_place_without_images_is_told_before_the_model_is_opened(own, place, said):
    (own / "c").mkdir()
    result = figment("predict", own / "no run", own / "a", own / place)
    assert isinstance(result.exception, FigmentError) and said in str(result.exception)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a", "--out", "there.csv"], "exists already"),
        (["a", "--out", "out.xlsx"], "neither .csv nor .jsonl"),
        (["a", "--probabilities"], "give them a file"),
        (["a/broken.png", "--out", "out.csv"], "The one image cannot be read"),
    ],
)
def test_what_cannot_be_is_told_and_nothing_is_written(fitted, own, arguments, said, monkeypatch):
    monkeypatch.chdir(own)
    (own / "there.csv").write_text("mine")
    result = figment("predict", fitted, *arguments)
    assert isinstance(result.exception, FigmentError) and said in str(result.exception)
    assert (own / "there.csv").read_text() == "mine" and not (own / "out.csv").exists()


# ---- what is opened --------------------------------------------------------------------------------------------------


def test_a_folder_without_a_model_is_told(tmp_path):
    with pytest.raises(FigmentError, match="holds no trained model"):
        open_trained(tmp_path)
    (tmp_path / "cells" / "00-a-x" / "seed-0").mkdir(parents=True)
    with pytest.raises(FigmentError, match="Name one of them, such as .*seed-0"):
        open_trained(tmp_path)


def test_a_damaged_model_is_told(fitted, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(fitted, run)
    head = run / "model" / "head.safetensors"
    head.write_bytes(head.read_bytes()[:-1] + b"\xff")
    with pytest.raises(FigmentError, match="head.safetensors is not the file .* figment repair"):
        open_trained(run)
    (run / "model" / NAME).write_text("{")
    with pytest.raises(FigmentError, match="holds no trained model"):
        open_trained(run)


def test_a_link_to_itself_is_one_image_that_cannot_be_read(tmp_path):
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    assert images_of([str(tmp_path / "loop.jpg")]) == [tmp_path / "loop.jpg"]

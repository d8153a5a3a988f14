"""Choosing k images a class, and publishing the choice."""

from __future__ import annotations

import json

import numpy as np
import pytest

from figment.errors import FigmentError
from figment.images_in import open_images
from figment.shots import draw_shots, read_split, write_split

LABELS = np.array([0, 1, 2] * 20)


def test_each_class_gives_its_shots_and_more_shots_hold_fewer():
    four, eight = draw_shots(LABELS, 4, seed=1), draw_shots(LABELS, 8, seed=1)
    assert np.bincount(LABELS[four]).tolist() == [4, 4, 4] and len(set(four)) == 12
    assert set(four) < set(eight)
    assert set(draw_shots(LABELS, 4, seed=2)) != set(four)


def test_a_draw_is_the_same_everywhere():
    """Pinned: a published seed has to mean the same images next year."""
    assert draw_shots(LABELS, 2, seed=0).tolist() == [12, 57, 31, 1, 47, 26]


def test_a_class_does_not_depend_on_the_others():
    without = LABELS[LABELS != 1]
    a = draw_shots(LABELS, 3, 5)
    b = draw_shots(without, 3, 5)
    place = lambda labels, i: int((labels[:i] == labels[i]).sum())
    assert [place(LABELS, i) for i in a if LABELS[i] == 2] == [place(without, i) for i in b if without[i] == 2]


def test_too_few_images_is_said():
    with pytest.raises(FigmentError, match="Class 2 has 20 real images, and 21 shots"):
        draw_shots(np.append(LABELS, [0, 1]), 21, 0)


def test_a_split_file_names_its_images(photos, tmp_path):
    images = open_images(photos / "train", ["red thing", "green thing", "blue thing"])
    index = draw_shots(images.labels, 2, 0)
    write_split(tmp_path / "split.json", images, index, shots=2, seed=0)
    assert read_split(tmp_path / "split.json", images).tolist() == index.tolist()
    split = json.loads((tmp_path / "split.json").read_text())
    assert split["shots"] == 2 and len(split["images"]) == 6

    split["images"][0]["digest"] = "0" * 32
    (tmp_path / "split.json").write_text(json.dumps(split))
    with pytest.raises(FigmentError, match="1 of 6 images of the split"):
        read_split(tmp_path / "split.json", images)


def test_the_split_files_of_coop_are_read(photos, tmp_path):
    images = open_images(photos / "train", ["red thing", "green thing", "blue thing"])
    split = {"train": [["train/red_thing/3.png", 0, "red thing"], ["blue_thing/0.png", 2, "blue thing"]], "test": []}
    (tmp_path / "coop.json").write_text(json.dumps(split))
    found = read_split(tmp_path / "coop.json", images)
    assert [images.ids[i] for i in found] == ["red_thing/3.png", "blue_thing/0.png"]
    (tmp_path / "coop.json").write_text("[]")
    with pytest.raises(FigmentError, match="no split file"):
        read_split(tmp_path / "coop.json", images)

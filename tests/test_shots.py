"""Choosing k images a class, and publishing the choice."""

from __future__ import annotations

import json

import numpy as np
import pytest

from figment.errors import FigmentError
from figment.images_in import open_images
from figment.recipe import validate
from figment.report.answers import few_images as few_in_words
from figment.shots import ALL, draw_shots, few_images, read_split, write_split

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


def test_all_images_are_shots_where_each_class_has_one(photos):
    names = ["red thing", "green thing", "blue thing"]
    pool = open_images(photos / "train", names)
    uneven = pool.take(range(1, len(pool)))
    assert few_images(uneven, names, ALL, None, 0).ids == uneven.ids
    with pytest.raises(FigmentError, match="wants all real images of each class, and 'red thing' has 0. Give more"):
        few_images(pool.take(np.flatnonzero(pool.labels > 0)), names, ALL, None, 0)
    with pytest.raises(FigmentError, match="wants 7 .* has 6. Set few_shot.shots to 6 or less, or give more"):
        few_images(pool, names, 7, None, 0)


@pytest.mark.parametrize(
    ("few", "said"),
    [
        ({"shots": 4}, "4 real images a class"),
        ({"shots": "all"}, "all real images"),
        ({"split": "s"}, "the split's real images"),
    ],
)
def test_few_shot_in_words_and_in_a_recipe(few, said):
    recipe = validate({"task": {"class_names": ["a", "b"]}, "few_shot": few}, "it")
    assert few_in_words(recipe.model_dump()["few_shot"]) == said
    with pytest.raises(FigmentError, match="few_shot.shots"):
        recipe.changed({"few_shot.shots": "many"})


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

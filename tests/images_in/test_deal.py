"""Photographs without a split: the same images are tested on everywhere, each class has its share, and what is the same stays together."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from figment.errors import FigmentError
from figment.images_in.deal import deal
from figment.images_in.real import how_dealt, open_real
from figment.task import RealImages, Task

NAMES = ["cat", "dog"]


def digests(n: int, start: int = 0) -> list[str]:
    return [f"{i:04x}" for i in range(start, start + n)]


def dealt(
    labels: list[int], shares: dict[str, float], keys: list[str] | None = None, **more: object
) -> dict[str, list[int]]:
    own = digests(len(labels))
    found = deal(np.array(labels), own, own if keys is None else keys, shares, NAMES, **more)  # type: ignore[arg-type]
    return {split: rows.tolist() for split, rows in found.items()}


def test_each_class_has_its_share_in_each_split():
    labels = np.array([0] * 40 + [1] * 10)
    found = deal(labels, digests(50), digests(50), {"test": 0.3, "val": 0.1}, NAMES)
    assert {split: np.bincount(labels[rows]).tolist() for split, rows in found.items()} == {
        "test": [12, 3],
        "val": [4, 1],
        "train": [24, 6],
    }
    assert sorted(np.concatenate(list(found.values())).tolist()) == list(range(50))


def test_content_and_seed_alone_decide_whatever_the_order_and_the_other_class():
    labels, own = np.array([0] * 30 + [1] * 30), np.array(digests(60))
    turned = np.random.default_rng(0).permutation(60)
    tests = [
        set(
            own[order][
                deal(labels[order], own[order].tolist(), own[order].tolist(), {"test": 0.3}, NAMES, seed)["test"]
            ]
        )
        for order, seed in ((np.arange(60), 0), (turned, 0), (np.arange(60), 1))
    ]
    assert tests[0] == tests[1] != tests[2]
    alone = deal(np.r_[labels[:30], [1, 1]], [*own[:30], "x", "y"], [*own[:30], "x", "y"], {"test": 0.3}, NAMES)["test"]
    assert {i for i in alone.tolist() if i < 30} == {int(d, 16) for d in tests[0] if int(d, 16) < 30}


def test_a_photograph_that_is_added_moves_few_others():
    own, labels = digests(101), np.array([0] * 101)
    first = set(deal(labels[:100], own[:100], own[:100], {"test": 0.25}, NAMES[:1])["test"].tolist())
    second = set(deal(labels, own, own, {"test": 0.25}, NAMES[:1])["test"].tolist())
    assert len(first - second) <= 1 and len(second - first) <= 1


def test_what_is_the_same_or_of_one_group_stays_together_however_indirectly():
    """0 and 1 are the same image, 1 and 2 of one group, 2 and 3 the same image: one of each class has the rest."""
    keys = ["a", "a", "b", "b", *digests(16, 100)]
    groups = [None, "g", "g", None, *[None] * 16]
    for seed in range(20):
        found = dealt([0] * 10 + [1] * 10, {"test": 0.4}, keys, seed=seed, groups=groups)
        assert len({split for split, rows in found.items() for i in rows if i < 4}) == 1
        assert len(found["test"]) == 8


def test_large_groups_are_dealt_as_far_as_they_can_be():
    groups = ["a"] * 6 + ["b"] * 4 + [None] * 4
    found = dealt([0] * 10 + [1] * 4, {"test": 0.2}, groups=groups)
    assert found["test"][:4] == [6, 7, 8, 9] and 0 in found["train"]  # the smaller one, for two that its share would be


def test_what_cannot_be_read_is_not_tested_on():
    keys = digests(20)
    keys[3] = keys[15] = ""
    for seed in range(10):
        found = dealt([0] * 10 + [1] * 10, {"test": 0.5}, keys, seed=seed)
        assert {3, 15} <= set(found["train"]) and len(found["test"]) == 8  # of 9 each: 4


@pytest.mark.parametrize(
    ("labels", "keys", "said"),
    [
        ([0, 0, 1], None, "of 'dog' there is 1 image that can be read, and none is left for test"),
        ([0, 0, 1, 1], ["a", "b", "c", "c"], "of 'dog' there are 2 images that can be read, and none is left for test"),
        ([0, 0, 1, 1], ["a", "b", "c", ""], "of 'dog' there is 1 image that can be read"),
    ],
)
def test_a_class_that_cannot_be_in_every_split_is_told(labels, keys, said):
    with pytest.raises(FigmentError, match=r"cannot be dealt into test and train") as error:
        dealt(labels, {"test": 0.5}, keys)
    assert said in str(error.value)


# ---- in a task -------------------------------------------------------------------------------------------------------


def photos(root: Path, n: int = 8) -> Path:
    rng = np.random.default_rng(0)
    for name in NAMES:
        (root / name).mkdir(parents=True)
        for i in range(n):
            Image.fromarray(rng.integers(0, 256, (6, 5, 3), np.uint8)).save(root / name / f"{i}.png")
    return root


def task(folder: Path, **real: object) -> Task:
    return Task.model_validate({"class_names": NAMES, "real": {"folder": str(folder), "test_share": 0.25, **real}})


def test_a_folder_is_opened_as_splits_the_same_ones_under_other_names(tmp_path):
    here = photos(tmp_path / "here")
    given = open_real(task(here, val_share=0.25))
    assert {split: np.bincount(images.labels).tolist() for split, images in given.items()} == {
        "train": [4, 4],
        "val": [2, 2],
        "test": [2, 2],
    }
    there = tmp_path / "there"
    shutil.copytree(here, there)
    for i, path in enumerate(sorted(there.rglob("*.png"))):
        path.rename(path.with_name(f"{99 - i}-renamed.png"))
    assert sorted(open_real(task(there, val_share=0.25))["test"].digests) == sorted(given["test"].digests)


def test_the_same_photograph_in_another_format_is_in_the_same_split(tmp_path):
    folder = photos(tmp_path / "photos")
    for path in sorted((folder / "cat").glob("*.png")):
        Image.open(path).save(path.with_suffix(".bmp"))
    given = open_real(task(folder))
    names = {split: {Path(id).stem for id in images.ids if id.startswith("cat")} for split, images in given.items()}
    assert not names["train"] & names["test"] and len(names["test"]) == 2


def test_groups_are_kept_together(tmp_path):
    folder = photos(tmp_path / "photos")
    given = open_real(task(folder, groups={"pattern": r"/[0-3](\.)|/(?:[4-7])"}))
    cats = {split: {id for id in images.ids if Path(id).stem in "0123"} for split, images in given.items()}
    assert not cats["test"] or not cats["train"]


def test_what_was_dealt_is_told(tmp_path):
    own = task(photos(tmp_path / "photos"))
    told = how_dealt(own.real, open_real(own))
    assert told["shares"] == {"test": 0.25} and told["seed"] == 0
    assert [row["split"] for row in told["images"]] == ["test"] * 4 + ["train"] * 12
    assert set(told["images"][0]) == {"split", "id", "label", "digest"}


@pytest.mark.parametrize(
    ("real", "said"),
    [
        ({"test_share": 0.3}, "test_share deals the photographs of folder, and there is none"),
        ({"folder": "a"}, "folder needs test_share"),
        ({"folder": "a", "test_share": 0.3, "test": "b"}, "and test is given as well"),
        ({"folder": "a", "test_share": 0.6, "val_share": 0.4}, "leave nothing to learn from"),
        ({"folder": "a", "test_share": 1.0}, "less than 1"),
    ],
)
def test_settings_that_contradict_one_another_are_told(real, said):
    with pytest.raises(ValidationError, match=said):
        RealImages.model_validate(real)


def test_places_say_which_part(tmp_path):
    real = RealImages(folder="photos", test_share=0.3, unlabelled="more")
    assert real.places == {
        "train": "train of photos (shares: test 0.3; split_seed 0)",
        "test": "test of photos (shares: test 0.3; split_seed 0)",
        "unlabelled": "more",
    }

"""Which real images belong together: by a column, by their names, or by a table; and what must not be shared."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from figment.errors import FigmentError
from figment.images_in import open_images
from figment.images_in.groups import check_groups, groups_of, names_of, shared_groups
from figment.recipe import validate
from figment.task import Groups
from figment.types import Images

NAMES = ["cat", "dog"]


def png(seed: int) -> bytes:
    import io

    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (4, 4, 3), np.uint8)).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def folder(tmp_path):
    """Class folders of two videos a class, two frames each: ``cat/v1_0.png``."""

    def make(name: str, videos: dict[str, list[str]]) -> Path:
        for c, own in videos.items():
            (tmp_path / name / c).mkdir(parents=True)
            for i, file in enumerate(own):
                (tmp_path / name / c / file).write_bytes(png(i))
        return tmp_path / name

    return make


@pytest.fixture
def test(folder) -> Images:
    own = folder("test", {"cat": ["v1_0.png", "v1_1.png", "v2_0.png"], "dog": ["v3_0.png", "v3_1.png"]})
    return open_images(own, NAMES)


def test_by_pattern(test):
    assert groups_of(test, Groups(pattern=r"(v\d+)_")).tolist() == [0, 0, 1, 2, 2]
    assert names_of(test, Groups(pattern=r"^(cat)/")) == ["cat"] * 3 + [None] * 2


def test_by_a_table_of_ids_or_file_names(test, tmp_path):
    table = tmp_path / "groups.csv"
    table.write_text(
        "image;group\ncat/v1_0.png;a\nv1_1.png;a\nv2_0.png;b\nv3_0.png;a\nv3_1.png;c\n", encoding="utf-8-sig"
    )
    assert names_of(test, Groups(csv=str(table))) == ["a", "a", "b", "a", "c"]
    assert groups_of(test, Groups(csv=str(table))).dtype == np.int64


def test_by_a_column(tmp_path):
    rows = [("cat/1.png", "cat", "x"), ("cat/2.png", "cat", "y"), ("dog/1.png", "dog", "x")]
    for name, _, _ in rows:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(png(0))
    (tmp_path / "list.csv").write_text("path,class,Video\n" + "".join(",".join(r) + "\n" for r in rows))
    wanted, by_video = ["x", "y", "x"], Groups(column="Video")
    assert names_of(open_images(tmp_path / "list.csv", NAMES), by_video) == wanted
    lines = [json.dumps({"file_name": f, "class": c, "Video": v}) for f, c, v in rows]
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines))
    images = open_images(tmp_path, NAMES)
    assert names_of(images, by_video) == wanted
    assert names_of(images.take([2, 1]), by_video) == ["x", "y"]  # as where unreadable ones are left out
    label = pa.array([0, 0, 1])
    for column in (pa.array(["x", "y", None]), pa.array([7.0, 8.0, float("nan")]), pa.array([7, 8, None])):
        image = pa.array([{"bytes": png(i), "path": None} for i in range(3)])
        (tmp_path / "shards").mkdir(exist_ok=True)
        pq.write_table(pa.table({"image": image, "label": label, "video": column}), tmp_path / "shards/a.parquet")
        found = names_of(open_images(tmp_path / "shards", NAMES), Groups(column="video"))
        assert found[2] is None and None not in found[:2] and found[0] != found[1]


def test_by_a_column_of_datasets(tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        image=datasets.Image(), label=datasets.ClassLabel(names=NAMES), patient=datasets.Value("int64")
    )
    rows = {
        "image": [{"bytes": png(i), "path": None} for i in range(4)],
        "label": [0, 1, 0, 1],
        "patient": [5, 5, 6, 7],
    }
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "saved")
    images = open_images(tmp_path / "saved", NAMES)
    assert names_of(images.take([3, 0, 1]), Groups(column="patient")) == ["7", "5", "5"]
    assert images.load([0])[0].shape == (4, 4, 3)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"pattern": r"(w\d+)_"}, "5 of the 5 test images are of no group.*cat/v1_0.png and cat/v1_1.png"),
        ({"pattern": r"(v)\d"}, "all 5 test images are of one group"),
        ({"column": "video"}, "no column 'video'.*groups.pattern"),
        ({"csv": "nowhere.csv"}, "no file .*nowhere.csv"),
    ],
)
def test_what_does_not_hold_is_said(test, settings, said):
    with pytest.raises(FigmentError, match=said):
        groups_of(test, Groups(**settings))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cat/v1_0.png,a\n", "4 of the 5 test images are of no group.*cat/v1_1.png and cat/v2_0.png"),
        ("v1_0.png,a,b\n", "line 1: two columns are wanted"),
        ("v1_0.png,\n", "line 1: two columns are wanted"),
        ("v1_0.png,a\nv1_0.png,b\n", "line 2: 'v1_0.png' has 'b' here and 'a' before"),
    ],
)
def test_a_table_that_does_not_hold_is_said(test, tmp_path, text, said):
    (tmp_path / "groups.csv").write_text(text)
    with pytest.raises(FigmentError, match=said):
        groups_of(test, Groups(csv=str(tmp_path / "groups.csv")))


def test_a_file_name_that_two_images_have_is_no_name(folder, tmp_path):
    images = open_images(folder("twice", {"cat": ["1.png"], "dog": ["1.png"]}), NAMES)
    (tmp_path / "groups.csv").write_text("1.png,a\n")
    with pytest.raises(FigmentError, match=r"several such images: cat/1.png and dog/1.png"):
        groups_of(images, Groups(csv=str(tmp_path / "groups.csv")))
    (tmp_path / "groups.csv").write_text("cat/1.png,a\ndog/1.png,b\n")
    assert groups_of(images, Groups(csv=str(tmp_path / "groups.csv"))).tolist() == [0, 1]


def test_no_group_may_be_in_two_splits(test, folder, caplog):
    by_video = Groups(pattern=r"(v\d+)_")
    assert shared_groups(["a", None, "b"], ["b", "b", None, "c"]) == ["b"]
    clean = open_images(folder("clean", {"cat": ["v4_0.png"], "dog": ["other.png"]}), NAMES)
    with caplog.at_level(logging.WARNING, "figment"):
        check_groups({"test": test, "train": clean}, by_video)
    assert "1 of the 2 images in task.real.train are of no group" in caplog.text
    leaky = open_images(folder("leaky", {"cat": ["v1_7.png"], "dog": ["v3_9.png"]}), NAMES)
    with pytest.raises(
        FigmentError, match=r"2 groups are in both task.real.val and task.real.test, such as v1 and v3: 4 of the 5"
    ):
        check_groups({"test": test, "train": clean, "val": leaky}, by_video)
    check_groups({"train": leaky}, by_video)  # nothing is tested


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        ({}, "one of column, pattern and csv; here are none"),
        ({"column": "a", "pattern": "(b)"}, "column and pattern"),
        ({"pattern": "(a"}, "not a regular expression"),
        ({"pattern": "a"}, "one pair of parentheses.*has 0"),
        ({"pattern": "(a)(b)"}, "has 2"),
        ({"patern": "(a)"}, "Did you mean 'pattern'"),
    ],
)
def test_settings_that_do_not_hold(groups, said):
    task = {"class_names": NAMES, "real": {"test": "x", "groups": groups}}
    with pytest.raises(FigmentError, match=said):
        validate({"task": task}, "test")

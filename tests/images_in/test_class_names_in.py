"""What images call their classes, wherever it is said, before anybody knows which classes there should be."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from figment.checking.check import check
from figment.errors import FigmentError
from figment.images_in import open_images
from figment.images_in.open import class_names_in


def png(seed: int) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 40, 3), np.uint8)).save(sink, "PNG")
    return sink.getvalue()


def parquet(path: Path, labels: list[int | str], names: list[str] | None = None, start: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [{"bytes": png(start + i), "path": None} for i in range(len(labels))]
    table = pa.table({"image": images, "label": labels})
    if names is not None:
        features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": names}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path)
    return path.parent


def folders(root: Path) -> Path:
    for i, name in enumerate(("owl", "ant", "10", ".hidden")):
        (root / name).mkdir(parents=True)
        (root / name / "0.png").write_bytes(png(i))
    return root


def table(root: Path) -> Path:
    (root / "a.png").write_bytes(png(0))
    (root / "b.png").write_bytes(png(1))
    (root / "photos.csv").write_text("path,label\na.png,owl\nb.png,ant\n")
    return root / "photos.csv"


def tar(root: Path) -> Path:
    with tarfile.open(root / "0.tar", "w") as file:
        for name, data in (("0.png", png(0)), ("0.cls", b"owl"), ("1.png", png(1)), ("1.cls", b"7")):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))
    return root / "0.tar"


@pytest.mark.parametrize(
    ("made", "names"),
    [
        (folders, ["10", "ant", "owl"]),
        (table, ["owl", "ant"]),
        (tar, ["owl", "7"]),
        (lambda root: parquet(root / "d/0.parquet", [0, 1, 1], ["owl", "ant", "none of it"]), ["owl", "ant"]),
        (lambda root: parquet(root / "d/0.parquet", [3, 7, 3]), ["3", "7"]),
        (lambda root: parquet(root / "d/0.parquet", ["owl", "ant"]), ["owl", "ant"]),
    ],
)
def test_every_kind_of_place_says_its_classes_and_opens_under_them(tmp_path, made, names):
    where = made(tmp_path / "x" if made is folders else tmp_path)
    assert class_names_in(where) == names
    images = open_images(where, names)
    assert sorted(set(images.labels.tolist())) == list(range(len(names)))


def test_a_place_without_classes_is_told(tmp_path):
    with pytest.raises(FigmentError, match="holds no images of any class"):
        class_names_in(tmp_path)
    with pytest.raises(FigmentError, match="does not exist"):
        class_names_in(tmp_path / "nowhere")


def test_images_that_lie_beside_one_another_are_told_from_none(tmp_path):
    for name in ("a.png", "b.JPG", "notes.txt"):
        (tmp_path / name).touch()
    for opened in (lambda: class_names_in(tmp_path), lambda: open_images(tmp_path, ["cat", "dog"])):
        with pytest.raises(FigmentError, match="holds 2 images and no sub-folders, .* one sub-folder a class"):
            opened()


def test_files_that_number_the_classes_otherwise_are_noted_and_read_by_name(tmp_path):
    parquet(tmp_path / "train/0.parquet", [0, 0, 1, 1], ["owl", "ant"])
    parquet(tmp_path / "test/0.parquet", [1, 1, 0], ["ant", "owl"], start=100)
    found = check([str(tmp_path / "train"), str(tmp_path / "test")])
    assert found.counts == {"train": {"owl": 2, "ant": 2}, "test": {"owl": 2, "ant": 1}}
    assert [one.text for one in found.findings if one.subject == "label order"] == [
        "test numbers the classes in another order than 'owl', 'ant': figment goes by their names, but whoever reads the numbers mixes"
        " them up"
    ]

"""The words beside images, in every form that has any; and NeMo Data Designer's folders, which have both."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from figment.images_in import Unreadable, open_images
from figment.images_in.said_of import texts_beside

NAMES = ["cat", "dog"]


def picture(shade: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((4, 5, 3), shade, np.uint8)).save(file, "PNG")
    return file.getvalue()


def test_a_tar_has_a_text_in_a_sample_or_none(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for key, name, text in (("0", "cat", "a cat, asleep\n"), ("1", "dog", None)):
            parts = {"png": picture(9), "cls": name.encode(), **({} if text is None else {"txt": text.encode()})}
            for end, data in parts.items():
                member = tarfile.TarInfo(f"{key}.{end}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    images = open_images(tmp_path, NAMES)
    assert texts_beside(images) == ["a cat, asleep", ""] and texts_beside(images.take([1])) == [""]


def test_a_class_folder_may_have_a_text_beside_each_file(tmp_path):
    for name in NAMES:
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(picture(9))
    (tmp_path / "dog" / "1.txt").write_text("a dog\n")
    assert texts_beside(open_images(tmp_path, NAMES)) == ["", "a dog"]


def designed(root: Path, paths: list[list[str]]) -> Path:
    """As data-designer 0.9.7 writes a data set: tables in parquet-files/, lists of paths from the folder above, UUIDs for names."""
    (root / "parquet-files").mkdir(parents=True)
    (root / "images" / "image").mkdir(parents=True)
    (root / "metadata.json").write_text("{}")
    for shade, path in enumerate(own for one in paths for own in one):
        (root / path).write_bytes(picture(shade))
    columns = {"label": ["dog", "cat"], "caption": ["a dog", "a cat"], "image": paths}
    pq.write_table(pa.table(columns), root / "parquet-files" / "batch_00000.parquet")
    return root


def test_a_folder_of_nemo_data_designer_opens_as_it_is(tmp_path):
    root = designed(tmp_path / "made", [["images/image/f47ac10b.png"], ["images/image/0c1d2e3f.png"]])
    images = open_images(root, NAMES)
    assert images.labels.tolist() == [1, 0] and texts_beside(images) == ["a dog", "a cat"]
    assert [int(image[0, 0, 0]) for image in images.load([0, 1])] == [0, 1]


def test_several_images_in_a_row_are_refused_by_name(tmp_path):
    root = designed(tmp_path / "made", [["images/image/a.png", "images/image/b.png"], ["images/image/c.png"]])
    with pytest.raises(Unreadable, match="row 0.*a row with 2 images. Write a row for each"):
        open_images(root, NAMES).load([0])

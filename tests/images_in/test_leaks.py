"""Photographs in two splits, and generated images in a real one: planted in real files, and found."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import folders
from figment import png
from figment.errors import FigmentError
from figment.images_in import open_images, same
from figment.images_in.leaks import Leaks, find_leaks
from figment.images_in.provenance import xmp
from figment.images_in.shards import made_before
from figment.layout import Run
from figment.types import Sample

NAMES = ["cat", "dog"]


def pixels(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (6, 5, 3), np.uint8)


def file_of(seed: int, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels(seed)).save(buffer, kind)
    return buffer.getvalue()


def split(root: Path, name: str, **files: bytes) -> Path:
    """``cat_1=...`` is ``cat/1.png``; one image a class is there at least."""
    start = {"train": 100, "val": 200, "test": 300}[name]
    own = {"cat_0": file_of(start), "dog_0": file_of(start + 1), **files}
    for path, data in own.items():
        label, stem = path.split("_")
        (root / name / label).mkdir(parents=True, exist_ok=True)
        (root / name / label / f"{stem}.png").write_bytes(data)
    return root / name


def look(root: Path, made: frozenset[str] = frozenset(), **splits: dict[str, bytes]) -> Leaks:
    given = {name: open_images(split(root, name, **files), NAMES) for name, files in splits.items()}
    return find_leaks(given, NAMES, made)


def test_clean_splits_are_clean(tmp_path):
    assert look(tmp_path, train={}, val={}, test={}) == Leaks([], [], 0)
    look(tmp_path / "b", train={}).refuse()


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_a_test_image_among_those_that_are_learnt_from_is_refused_whatever_its_format(tmp_path, kind):
    found = look(tmp_path, train={"dog_7": file_of(1), "cat_8": file_of(2)}, test={"dog_3": file_of(1, kind)})
    assert found.serious == [
        "1 of the 3 images in task.real.test is in task.real.train too: dog/3.png is dog/7.png there. What is learnt from would be"
        " tested on."
    ]
    with pytest.raises(FigmentError, match=r"Take them out; or, .*evaluate\.leaks: report"):
        found.refuse()


def test_two_are_named_and_the_rest_counted(tmp_path):
    same = {f"cat_{i}": file_of(i) for i in range(1, 6)}
    (text,) = look(tmp_path, val=same, test=same).serious
    assert text.startswith(
        "5 of the 7 images in task.real.test are in task.real.val too: cat/1.png is cat/1.png there; cat/2.png is"
        " cat/2.png there; and 3 more. The epoch"
    )


def test_training_images_in_val_are_reported(tmp_path):
    found = look(tmp_path, train={"cat_1": file_of(1)}, val={"cat_1": file_of(1)}, test={})
    assert not found.serious and "images in task.real.val is in task.real.train too" in found.others[0]


def test_large_splits_are_compared_by_their_files(tmp_path, monkeypatch):
    monkeypatch.setattr(same, "MOST_IMAGES", 2)
    other = look(tmp_path / "a", train={"dog_7": file_of(1)}, test={"dog_3": file_of(1, "BMP")})
    assert not other.serious
    assert look(tmp_path / "b", train={"dog_7": file_of(1)}, test={"dog_3": file_of(1)}).serious
    monkeypatch.setattr(same, "MOST_IMAGES", 100)
    monkeypatch.setattr(same, "MOST_BYTES", 300)
    assert not look(tmp_path / "c", train={"dog_7": file_of(1)}, test={"dog_3": file_of(1, "BMP")}).serious


def test_the_same_photograph_twice_counts_double_and_under_two_classes_cannot_be_right(tmp_path):
    found = look(
        tmp_path, test={"cat_1": file_of(1), "cat_2": file_of(1), "dog_5": file_of(2), "cat_6": file_of(2, "BMP")}
    )
    assert found.twice == 2 and not found.serious
    torn, twice = found.others
    assert (
        "1 photograph in task.real.test is there under two classes or more: cat/6.png (cat) is dog/5.png (dog)." in torn
    )
    assert "2 of the 6 images in task.real.test are the same as an earlier one: cat/2.png is cat/1.png" in twice


def test_broken_files_are_not_copies_of_each_other(tmp_path):
    broken = {"cat_1": b"not an image", "cat_2": b""}
    assert look(tmp_path, train=broken, test={"dog_1": b"nor this one", "dog_2": b"GIF89a"}) == Leaks([], [], 0)


# ---- generated images ------------------------------------------------------------------------------------------------


def marked(seed: int) -> bytes:
    return png.with_xmp(png.encode(pixels(seed)), xmp(True))


@pytest.mark.parametrize("name", ["test", "val"])
def test_a_split_with_generated_images_is_refused_whatever_it_is_called(tmp_path, name):
    found = look(tmp_path, **{name: {"dog_1": marked(1), "dog_2": marked(2), "cat_9": file_of(3)}})
    (text,) = found.serious
    assert text.startswith(
        f"2 of the 5 images in task.real.{name} are generated, not real, such as dog/1.png, dog/2.png. Told by: figment (2)."
    )


def test_in_train_they_are_reported(tmp_path):
    found = look(tmp_path, train={"dog_1": marked(1)}, test={})
    assert not found.serious and "1 of the 3 images in task.real.train is generated, not real" in found.others[0]


def sample(k: int) -> Sample:
    label = k % 2
    return Sample(f"{NAMES[label]}/0/{k}", f"{NAMES[label]}/0", "a cat", label, k, "g", pixels(k))


def test_shards_of_figment_are_known_by_their_columns_and_real_ones_are_not(tmp_path):
    folders.write_images(tmp_path / "my photographs", [[sample(k) for k in range(4)]], NAMES)
    found = find_leaks({"test": open_images(tmp_path / "my photographs", NAMES)}, NAMES)
    assert found.serious[0].startswith("4 of the 4 images in task.real.test are generated")
    from figment.task import builtin, real_folder

    names = builtin("fashion")["class_names"]
    starter = open_images(real_folder("starter/test"), names)
    assert find_leaks({"test": starter.take(range(50))}, names) == Leaks([], [], 0)  # Parquet too, of photographs


def test_what_a_run_in_this_folder_made_is_known_by_its_content(tmp_path):
    run = tmp_path / "run"
    folders.write_images(run / "images", [[sample(k) for k in range(4)]], NAMES)
    folders.write_images(run / "arms" / "00-a" / "images", [[sample(k) for k in range(4, 6)]], NAMES)
    made = made_before(Run(run))
    assert len(made) == 6 and made_before(Run(tmp_path / "none")) == frozenset()
    stored = {"cat_1": png.encode(pixels(2)), "cat_2": png.encode(pixels(4)), "cat_3": png.encode(pixels(7))}
    assert not look(tmp_path / "a", test=stored).serious  # nothing in the files says so
    (text,) = look(tmp_path / "a", made, test=stored).serious
    assert "2 of the 5 images" in text and "a run in this folder made them (2)" in text

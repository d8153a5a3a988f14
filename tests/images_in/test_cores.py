"""Large images are decoded by a thread for each core, and nobody can tell but by the clock."""

from __future__ import annotations

import importlib
import io
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import folders
from figment import saving
from figment.images_in import Unreadable, open_shards, shards
from figment.types import Sample

decoding = importlib.import_module("figment.images_in.decode")  # its function of that name hides it


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve images of noise, above and below what is worth a thread."""
    rng = np.random.default_rng(0)
    sizes = [100] * 6 + [8] * 6
    made = [
        Sample(f"p/{i}", "p", "", 0, i, "g", rng.integers(0, 256, (size, size, 3), np.uint8))
        for i, size in enumerate(sizes)
    ]
    folders.write_images(tmp_path, [made], ["a"])
    return tmp_path


def damage(folder: Path, *rows: int) -> None:
    file, offsets = next(folder.rglob("*.parquet")), open_shards(folder)[0].shards.offsets
    data = bytearray(file.read_bytes())
    for row in rows:
        data[offsets[row] + 45] ^= 255
    file.write_bytes(bytes(data))


def test_pixels_and_order_are_those_of_one_thread(folder, monkeypatch):
    names: list[str] = []
    decode = shards.png.decode
    monkeypatch.setattr(
        shards.png, "decode", lambda data: names.append(threading.current_thread().name) or decode(data)
    )
    monkeypatch.setattr(decoding, "cores", lambda: 4)
    images = open_shards(folder)[0]
    order = [3, 0, 7, 5, 5, 11, 1]
    found = images.load(order)
    assert names and threading.current_thread().name not in names
    for i, image in zip(order, found, strict=True):
        assert np.array_equal(image, np.array(Image.open(io.BytesIO(images.data(i)))))
    names.clear()
    images.load([6, 7, 8])  # small ones share the work
    assert not names


def test_of_several_damaged_images_the_first_is_named(folder):
    damage(folder, 1, 4)
    images = open_shards(folder)[0]
    with pytest.raises(Unreadable, match="row 4, is not an image"):
        images.load([0, 4, 3, 1])
    assert [image.shape for image in images.load([0, 2, 3])] == [(100, 100, 3)] * 3


def test_other_formats_are_decoded_by_threads_too(folder, monkeypatch):
    monkeypatch.setattr(decoding, "cores", lambda: 3)
    monkeypatch.setattr(shards, "LARGE", 1)
    images = open_shards(folder)[0]
    files = [saving.Saving("jpeg").encode(image) for image in images.load(range(6))]
    monkeypatch.setattr(shards.Shards, "read", lambda self, row: files[row])
    found = images.load(range(6))
    assert all(np.array_equal(a, decoding.decode(b, "")) for a, b in zip(found, files, strict=True))


def test_a_worker_process_leaves_other_cores_alone(monkeypatch):
    monkeypatch.setattr(decoding, "cores", lambda: 4)
    monkeypatch.setattr(decoding, "parent_process", lambda: object())
    seen = decoding.on_all_cores(lambda x: np.array(threading.get_ident()), range(5))
    assert {int(one) for one in seen} == {threading.get_ident()}


def test_warnings_are_back_when_the_last_thread_has_left():
    """``warnings.catch_warnings`` in two threads that overlap leaves the filters of the second behind for good."""
    before, first_left, second_in = list(warnings.filters), threading.Event(), threading.Event()

    def second() -> None:
        with decoding._silence():
            second_in.set()
            first_left.wait(10)
            warnings.warn("nobody hears this", stacklevel=1)

    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        inside = list(warnings.filters)
        thread = threading.Thread(target=second)
        with decoding._silence():
            thread.start()
            second_in.wait(10)
        first_left.set()
        thread.join()
        assert warnings.filters == inside and not heard
        warnings.warn("this is heard", stacklevel=1)
        assert len(heard) == 1
    assert warnings.filters == before

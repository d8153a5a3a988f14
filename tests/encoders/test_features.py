"""Features of large sets: what is in memory, what on disk, and that both are the same."""

from __future__ import annotations

import errno
import os
import tracemalloc

import numpy as np
import pytest

from figment.encoders import Features
from figment.errors import FigmentError
from figment.images_in.memory import MemoryImages


class Wide:
    """An encoder whose features take 64 kB an image."""

    name, fingerprint, dtype = "wide", "0123456789ab", "float32"

    def __init__(self) -> None:
        self.calls: list[int] = []

    def images(self, images):
        self.calls.append(len(images))
        return np.stack([np.resize(image, 2**14) for image in images]).astype(np.float32) / 255


def test_large_sets_of_features_stay_on_disk(tmp_path, monkeypatch):
    images = MemoryImages(
        list(np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3), np.uint8)), np.zeros(60, np.int64)
    )
    whole = Features(Wide())(images)  # 3.9 MB, without a folder
    assert type(whole) is np.ndarray
    monkeypatch.setattr("figment.encoders.features.HELD_BYTES", 10 * 2**16)
    first = Features(Wide(), tmp_path, chunk=5)
    assert np.array_equal(first(images), whole) and first.held_bytes == 10 * 2**16
    lying = {path.suffix for path in first.folder.iterdir()}  # type: ignore[union-attr]  # while the map is in use
    assert lying == {".parquet", ".json"}

    again = Features(Wide(), tmp_path)
    order = np.random.default_rng(1).permutation(60)
    tracemalloc.start()
    found = again(images.take(order))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(found, np.memmap) and np.array_equal(found, whole[order])
    assert peak < 2**20 and again.held_bytes <= 10 * 2**16 and not again.encoder.calls
    few = again(images.take([41, 3, 41]))  # from parts that are held, and from others
    assert type(few) is np.ndarray and np.array_equal(few, whole[[41, 3, 41]])


def test_a_disk_without_room_for_a_large_set_is_told(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("figment.encoders.features.HELD_BYTES", 0)
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(FigmentError, match="No space left on the disk"):
        Features(Wide(), tmp_path)(MemoryImages([np.zeros((8, 8, 3), np.uint8)], np.zeros(1, np.int64)))

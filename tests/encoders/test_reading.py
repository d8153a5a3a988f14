"""Images read for an encoder: by workers, where that pays, the features are the same and what cannot be read is named."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest

from figment.encoders import ClipEncoder, Features, reading
from figment.errors import FigmentError
from figment.files import as_path
from figment.images_in import Unreadable, open_images
from figment.images_in.memory import MemoryImages

NAMES = ["red thing", "green thing", "blue thing"]


class Told(MemoryImages):
    """Images that say which process decoded them, in their first pixel; one of them cannot be read."""

    def load(self, indices):
        (i,) = indices
        if self.images[i] is None:
            raise Unreadable(f"image {i}", "an empty file")
        image = self.images[i].copy()
        image[0, 0] = os.getpid() % 251, os.getpid() // 251 % 251, 0
        return [image]

    @property
    def digests(self):
        return [f"{i}" for i in range(len(self.images))]


def some(n: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, (8 + i, 9, 3), np.uint8) for i in range(n)]


@pytest.fixture
def pays(monkeypatch):
    """Workers are hired after two images."""
    monkeypatch.setattr(reading, "TRIAL", 2)
    monkeypatch.setattr(reading, "_pays", lambda seconds: True)
    monkeypatch.setattr(reading, "MOST_WORKERS", 2)


def test_features_are_those_of_one_process(photos, clip, pays, monkeypatch):
    train = open_images(photos / "train", NAMES)
    encoder = ClipEncoder(str(clip), dtype="float32")
    by_workers = Features(encoder, chunk=5)(train)
    monkeypatch.setattr(reading, "_pays", lambda seconds: False)
    assert by_workers == pytest.approx(Features(encoder)(train), abs=1e-6)


def test_others_read_and_prepare_in_order_and_name_what_they_cannot(pays):
    images = some(9)
    images[1] = images[6] = None
    told = Told(images, np.zeros(9, np.int64))
    reader = reading.Reader(told, [8, 1, 2, 3, 6, 5], 3, lambda image: image.astype(np.float32) / 255)
    portions = list(reader)
    assert [index for index, _ in portions] == [[8], [2, 3, 5]] and reader.workers
    assert [array.dtype for _, arrays in portions for array in arrays] == [np.uint8, *["float32"] * 3]
    assert {i: str(error) for i, error in reader.failed.items()} == {
        i: f"image {i} is not an image that can be read: an empty file. Mend it or take it out." for i in (1, 6)
    }
    own = os.getpid() % 251
    assert portions[0][1][0][0, 0, 0] == own
    assert any(round(255 * array[0, 0, 0]) != own for array in portions[1][1])
    assert np.array_equal(np.round(255 * portions[1][1][2][1:]), images[5][1:])


def test_a_paragraph_of_a_worker_stays_one(pays):
    def prepare(image):
        raise FigmentError("The store is away.")

    with pytest.raises(FigmentError) as told:
        list(reading.Reader(Told(some(6), np.zeros(6)), range(6), 3, prepare))
    assert str(told.value) == "The store is away."


def test_where_a_worker_is_killed_the_rest_is_read_here(pays, capsys):
    here = os.getpid()

    def prepare(image):
        if os.getpid() != here:
            os.kill(os.getpid(), signal.SIGKILL)
        return image

    reader = reading.Reader(Told(some(6), np.zeros(6)), range(6), 3, prepare)
    read = [i for index, _ in reader for i in index]
    assert read == list(range(6)) and "was killed" in capsys.readouterr().out


def test_what_a_worker_raises_is_raised_here(pays):
    def prepare(image):
        raise ValueError("no colour")

    with pytest.raises(ValueError, match="no colour"):
        list(reading.Reader(Told(some(6), np.zeros(6)), range(6), 3, prepare))


def test_nobody_is_hired_for_little_or_for_an_encoder_that_takes_images(pays, monkeypatch):
    images = Told(some(6), np.zeros(6, np.int64))
    whole = reading.Reader(images, range(6), 4, None)
    assert [len(index) for index, _ in whole] == [2, 4] and whole.workers == 0
    monkeypatch.setattr(reading, "_pays", lambda seconds: seconds > 5)
    little = reading.Reader(images, range(6), 4, lambda image: image)
    assert [len(index) for index, _ in little] == [2, 4] and little.workers == 0


def test_workers_pay_from_seconds_on_and_with_a_second_core(monkeypatch):
    monkeypatch.setattr(reading, "cores", lambda: 2)
    assert reading._pays(6) and not reading._pays(4)
    monkeypatch.setattr(reading, "cores", lambda: 1)
    assert not reading._pays(6)


def test_workers_have_connections_of_their_own_to_a_store(photos, clip, pays, s3):
    """The forked ones of s3fs refuse to work: "This class is not fork-safe"."""
    for path in (photos / "val").rglob("*.*"):
        as_path(f"{s3}/{path.relative_to(photos)}").write_bytes(path.read_bytes())
    far, near = (open_images(as_path(f"{where}/val"), NAMES) for where in (s3, photos))
    features = Features(ClipEncoder(str(clip), dtype="float32"))
    reader = reading.Reader(far, range(len(far)), 64, features._prepare)
    assert sum(len(index) for index, _ in reader) == len(near) and reader.workers and not reader.failed

"""Batches from an object store: many requests at a time, begun before they are needed, and nothing else than from a disk."""

from __future__ import annotations

import errno
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import folders
from figment import stores
from figment.errors import FigmentError
from figment.files import as_path
from figment.images_in import ShardImages, open_shards
from figment.images_in import shards as shards_module
from figment.images_in.concat import concatenate
from figment.images_in.relabelled import Relabelled
from figment.loading.loader import ImageDataset, Loader
from figment.loading.orders import Shuffled
from figment.types import Sample

N, BATCH = 150, 8
NEIGHBOURS = 3  # at most: images that the shuffle puts one after another as they lie, which are read together


@pytest.fixture(scope="module")
def near(tmp_path_factory) -> Path:
    """Images of noise, whose first pixel says their number, in three shards."""
    folder, rng = tmp_path_factory.mktemp("near"), np.random.default_rng(0)
    pixels = rng.integers(0, 256, (N, 40, 40, 3), np.uint8)
    pixels[:, 0, 0] = np.arange(N)[:, None]
    made = [Sample(f"p/{i}", "p", "text", i % 3, i, "g", pixels[i]) for i in range(N)]
    folders.write_images(folder, [made[i : i + 50] for i in range(0, N, 50)], ["a", "b", "c"])
    return folder


@pytest.fixture
def far(near: Path, s3: str) -> ShardImages:
    for path in near.rglob("*.*"):
        if path.is_file():
            as_path(f"{s3}/{path.relative_to(near)}").write_bytes(path.read_bytes())
    return open_shards(as_path(s3))[0]


class Requests:
    """The ranges that were asked for, and how many at most at one time; each takes a while, and ``refuse`` may raise."""

    def __init__(self, read_range: Callable[..., bytes]):
        self.read_range, self.lock, self.now, self.most = read_range, threading.Lock(), 0, 0
        self.asked: list[tuple[str, int, int]] = []
        self.refuse: Callable[[str, int], None] = lambda path, start: None

    def __call__(self, path, start: int, end: int) -> bytes:
        with self.lock:
            self.asked.append((str(path), start, end))
            self.now += 1
            self.most = max(self.most, self.now)
        try:
            time.sleep(0.02)
            self.refuse(str(path), start)
            return self.read_range(path, start, end)
        finally:
            with self.lock:
                self.now -= 1


@pytest.fixture
def requests(far: ShardImages, monkeypatch) -> Iterator[Requests]:
    own = Requests(stores.StorePath.read_range)
    monkeypatch.setattr(stores.StorePath, "read_range", lambda path, start, end: own(path, start, end))
    yield own
    deadline = time.monotonic() + 5
    while own.now and time.monotonic() < deadline:  # the bucket of the next test is another
        time.sleep(0.01)


def loader(images, **options) -> Loader:
    return Loader(ImageDataset(images), Shuffled(len(images), seed=7), BATCH, **options)


def numbers(batch) -> list[int]:
    return batch[0][:, 0, 0, 0].tolist()


def place_of(images: ShardImages, image: int) -> tuple[str, int]:
    return str(images.shards.files[image // 50]), images.shards.offsets.item(image)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_those_of_a_disk(near, far, workers):
    """Also of workers that are forks of a process that has spoken to the store: s3fs refuses to go on with its connections."""
    here, there = loader(open_shards(near)[0]), loader(far, num_workers=workers)
    for _ in range(2):
        assert [(numbers(b), b[1].tolist()) for b in there] == [(numbers(b), b[1].tolist()) for b in here]


def test_an_epoch_asks_for_each_image_once_and_for_many_at_a_time(far, requests):
    shown = [n for batch in loader(far) for n in numbers(batch)]
    assert len(shown) == N // BATCH * BATCH and len(requests.asked) == len(set(requests.asked))
    assert len(shown) - NEIGHBOURS <= len(requests.asked) <= len(shown)
    assert requests.most >= 2 * BATCH


def test_the_next_batches_are_read_while_one_is_used(far, requests):
    next(iter(loader(far)))
    deadline = time.monotonic() + 10
    while (len(requests.asked) < BATCH + 64 - NEIGHBOURS or requests.now) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert BATCH + 64 - NEIGHBOURS <= len(requests.asked) <= BATCH + 64


def test_rows_in_the_order_in_which_they_lie_are_read_together(near, far, requests, monkeypatch):
    pixels = [int(image[0, 0, 0]) for image in far.load(range(N))]
    assert pixels == list(range(N)) and len(requests.asked) == 3  # files
    requests.asked.clear()
    monkeypatch.setattr(shards_module, "PIECE_BYTES", 2**14)
    far.load(range(N))
    assert 9 <= len(requests.asked) < N and all(end - start <= 2**14 for _, start, end in requests.asked)


def test_parts_of_a_mixture_are_read_ahead(near, far, requests):
    mixed = concatenate(open_shards(near)[0], Relabelled(far, far.labels[::-1].copy()))
    shown = [n for batch in loader(mixed) for n in numbers(batch)]
    assert shown == (Shuffled(2 * N, seed=7)(0)[: 2 * N // BATCH * BATCH] % N).tolist()
    assert requests.most >= BATCH and len(requests.asked) == len(set(requests.asked)) <= N


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_comes_in_its_own_place_and_the_loader_goes_on_from_there(far, requests, workers):
    order = Shuffled(N, seed=7)(0)
    broken = place_of(far, order[3 * BATCH + 2])

    def refuse(path: str, start: int) -> None:
        if (path, start) == broken:
            raise FigmentError("no such luck")

    requests.refuse = refuse
    own, shown = loader(far, num_workers=workers), []
    with pytest.raises(FigmentError, match="^no such luck$"):
        for batch in own:
            shown += numbers(batch)
    assert shown == order[: 3 * BATCH].tolist() and own.state_dict()["batches"] == 3
    requests.refuse = lambda path, start: None
    other = loader(far, num_workers=workers)
    other.load_state_dict(json.loads(json.dumps(own.state_dict())))
    assert [n for b in other for n in numbers(b)] == order[3 * BATCH : N // BATCH * BATCH].tolist()


def test_a_damaged_image_is_named(near, s3, far):
    file, offset = place_of(far, 60)
    data = bytearray(as_path(file).read_bytes())
    data[offset + 45] ^= 255
    as_path(file).write_bytes(bytes(data))
    assert far.load([59, 61])[1][0, 0, 0] == 61
    with pytest.raises(FigmentError, match=r"row 10, is not an image that can be read: damaged since it was written"):
        far.load([59, 60, 61])


def test_a_store_that_wants_fewer_requests_is_waited_for(far, monkeypatch):
    monkeypatch.setattr(stores, "PAUSES", (0.01, 0.02))
    store, told = far.shards.files[0].fs, set()
    cat_file = store.cat_file

    def busy_once(path, start=None, end=None):
        if (path, start) not in told:
            told.add((path, start))
            raise OSError(errno.EBUSY, "SlowDown")
        return cat_file(path, start=start, end=end)

    monkeypatch.setattr(store, "cat_file", busy_once)
    shown = [n for batch in loader(far) for n in numbers(batch)]
    assert shown == Shuffled(N, seed=7)(0)[: N // BATCH * BATCH].tolist() and len(told) >= len(shown) - NEIGHBOURS


def test_what_is_read_ahead_is_bounded_and_what_was_begun_first_is_forgotten(far, monkeypatch):
    most = int(far.shards.lengths[:20].sum())
    monkeypatch.setattr(shards_module, "AHEAD_BYTES", most)
    own = far.shards._ahead
    own.most_bytes = most
    for batch in loader(far):
        assert sum(length for *_, length in own._begun.values()) == own._bytes <= most and len(batch[0]) == BATCH
    far.ahead(range(20))
    far.ahead(range(5, 25))
    begun = sorted(own._begun)
    assert begun[-1] == 24 and begun == list(range(begun[0], 25)) and begun[0] > 0
    assert [int(image[0, 0, 0]) for image in far.load([5, 0, 5, 14, 30])] == [5, 0, 5, 14, 30]


def test_a_piece_that_fails_once_costs_its_rows_a_second_asking_and_no_more(far, requests):
    failed = []

    def refuse(path: str, start: int) -> None:
        if not failed:
            failed.append(start)
            raise OSError("a hiccup")

    requests.refuse = refuse
    assert [int(image[0, 0, 0]) for image in far.load(range(N))] == list(range(N)) and failed


def test_two_that_read_one_set_in_turns_do_not_take_each_others_images(far, requests):
    for one, other in zip(loader(far), loader(far.take(range(N))), strict=True):
        assert numbers(one) == numbers(other)
    assert len(requests.asked) <= 2 * N

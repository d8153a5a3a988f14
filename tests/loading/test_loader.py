"""Orders against naive twins, and a loader that goes on where it was: in this process, in others, and after a kill."""

from __future__ import annotations

import json
import pickle
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import folders
from figment.errors import FigmentError
from figment.images_in import ShardImages, open_shards
from figment.loading.loader import ImageDataset, Loader
from figment.loading.orders import Dealt, Grouped, Mixed, OfEachGroup, Shuffled
from figment.types import Sample
from warm import ended, python

N = 50


def written(folder: Path, n: int = N, size: int = 5) -> ShardImages:
    """Images whose pixels say their number, in three shards."""
    made = [
        Sample(f"p/{i}", "p", "text", i % 3, i, f"g{i % 7}", np.full((size, size, 3), i, np.uint8)) for i in range(n)
    ]
    folders.write_images(folder, [made[i * n // 3 : (i + 1) * n // 3] for i in range(3)], ["a", "b", "c"])
    return open_shards(folder)[0]


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> ShardImages:
    return written(tmp_path_factory.mktemp("loading"))


def numbers(batch) -> list[int]:
    return batch[0][:, 0, 0, 0].tolist()


def noisy(image: np.ndarray) -> torch.Tensor:
    """A random transform that draws from all three sources."""
    return torch.tensor([int(image[0, 0, 0]), random.random(), np.random.rand()]) + torch.rand(3, 1, 1)


# ---- orders ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "epochs", "beside"),
    [([12, 12], 3, 0), ([12, 7], 3, 5), ([2, 9], 4, 0), ([1], 1, 0), ([5, 5, 5], 5, 1), ([3], 7, 2)],
)
def test_images_are_dealt_out_class_by_class(sizes, epochs, beside):
    """By a twin that deals cards: each class's pack is cut into equal hands, one an epoch."""
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
    order = Dealt(labels, epochs, beside, seed=1)
    shown = [order(e) for e in range(2 * epochs)]
    for e, own in enumerate(shown):
        assert sorted(own[own >= len(labels)]) == list(range(len(labels), len(labels) + beside))
        made = labels[own[own < len(labels)]]
        assert np.bincount(made).tolist() == [max(1, n // epochs) for n in sizes] and len(own) == len(order)
        assert order(e).tolist() == own.tolist()
    other = [Dealt(labels, epochs, beside, seed=2)(e).tolist() for e in range(2 * epochs)]
    assert other != [own.tolist() for own in shown] or len(order) == 1
    for c, n in enumerate(sizes):
        for deal in (shown[:epochs], shown[epochs:]):
            of_class = [i for own in deal for i in own[own < len(labels)] if labels[i] == c]
            hand = max(1, n // epochs)
            asked = Counter((np.arange(hand * epochs) % n).tolist())  # none twice before all were shown
            assert sorted(Counter(of_class).values()) == sorted(asked.values())


def test_a_shuffle_is_of_its_seed_and_epoch():
    order = Shuffled(N, seed=3)
    assert sorted(order(0).tolist()) == list(range(N)) == sorted(order(1).tolist())
    assert order(1).tolist() == Shuffled(N, seed=3)(1).tolist()
    assert len({tuple(o.tolist()) for o in (order(0), order(1), Shuffled(N, seed=4)(0))}) == 3


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=60), st.integers(1, 4), st.integers(0, 3))
def test_slots_hold_different_images_of_one_group(groups, m, epoch):
    sizes = Counter(groups)
    if max(sizes.values()) < m:
        with pytest.raises(
            FigmentError, match=f"m = {m} images; the largest of {len(sizes)} has {max(sizes.values())}"
        ):
            Grouped(np.array(groups), m)
        return
    order = Grouped(np.array(groups) * 1000, m, seed=1)
    shown = order(epoch)
    assert len(shown) == len(order) == sum(size // m * m for size in sizes.values())
    assert len(set(shown.tolist())) == len(shown)
    slots = [groups[first] for first in shown[::m]]
    assert [groups[i] for i in shown] == [g for g in slots for _ in range(m)]
    assert Counter(slots) == {g: size // m for g, size in sizes.items() if size >= m}
    turns = Counter[int]()  # a group has its second slot when all have had their first
    for group in slots:
        assert all(turns[g] >= turns[group] or turns[g] == sizes[g] // m for g in sizes)
        turns[group] += 1


def test_what_a_group_leaves_over_changes_with_the_epoch():
    order = Grouped(np.zeros(10), 6)
    assert len({tuple(sorted(order(epoch).tolist())) for epoch in range(5)}) > 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=60), st.integers(1, 4), st.integers(0, 3))
def test_each_group_has_one_slot_an_epoch(groups, m, epoch):
    sizes = Counter(groups)
    order = OfEachGroup(np.array(groups) * 1000, m, seed=1)
    shown = order(epoch)
    assert len(shown) == len(order) == m * len(sizes)
    slots = shown.reshape(-1, m)
    assert {groups[slot[0]] for slot in slots} == sizes.keys()
    for slot in slots:
        (group,) = {groups[i] for i in slot}
        assert len(set(slot.tolist())) == min(m, sizes[group])  # a small group repeats, as little as it can
    assert np.array_equal(order(epoch), shown) and order.slot == m


def test_a_slot_has_other_images_each_epoch_and_groups_come_in_another_order():
    order = OfEachGroup(np.arange(40) // 8, 3)
    epochs = [order(e).reshape(-1, 3) for e in range(6)]
    assert len({tuple(e[:, 0] // 8) for e in epochs}) > 1
    assert len({tuple(sorted(e[e[:, 0] < 8][0])) for e in epochs}) > 1


def naive_mixture(n: int, weights: list[float]) -> list[int]:
    """Each place goes to the source whose next image is due first."""
    given = [0] * len(weights)
    out = []
    for _ in range(n):
        due = [(k + 0.5) / w for k, w in zip(given, weights, strict=True)]
        out.append(int(np.argmin(due)))
        given[out[-1]] += 1
    return out


@pytest.mark.parametrize("weights", [(0.25, 0.75), (1, 1), (0.125, 0.5, 0.375), (1, 63)])
def test_sources_come_by_their_weights_in_any_stretch(weights):
    labels = [np.arange(40) % 4 for _ in weights]
    order = Mixed(labels, weights, n=256, seed=5)
    source = order(2) // 40
    shares = [w / sum(weights) for w in weights]
    assert source.tolist() == naive_mixture(256, shares)
    for start in range(0, 200, 7):
        counts = np.bincount(source[start : start + 32], minlength=len(weights))
        assert (np.abs(counts - 32 * np.array(shares)) <= len(weights)).all()


def test_classes_and_their_images_take_turns():
    real, synthetic = np.array([0, 0, 0, 0, 1, 2, 2]), np.arange(300) % 3
    order = Mixed([real, synthetic], (0.2, 0.8), n=150, seed=0)
    labels = np.concatenate([real, synthetic])
    shown = order(0)
    for own in (shown[shown < len(real)], shown[shown >= len(real)]):
        for turn in range(0, len(own), 3):  # each class once
            assert sorted(labels[own[turn : turn + 3]]) == [0, 1, 2]
        for label in range(3):
            of_class = own[labels[own] == label].tolist()
            size = int((labels[: len(real)] == label).sum()) if own[0] < len(real) else 100
            for turn in range(0, len(of_class), size):  # each image once
                part = of_class[turn : turn + size]
                assert len(set(part)) == len(part)
    assert (shown < len(real)).sum() == 30 and shown.tolist() != order(1).tolist()
    assert len(Mixed([real, synthetic], (1, 1))) == 307


def test_mixtures_that_cannot_be_are_explained():
    y = np.zeros(3, np.int64)
    for weights in [(1,), (1, 0), (1, -1), (1, float("nan"))]:
        with pytest.raises(FigmentError, match="one positive number for each of the 2 sources"):
            Mixed([y, y], weights)
    with pytest.raises(FigmentError, match="Source 1 of 2 holds no images"):
        Mixed([y, y[:0]], (1, 1))


# ---- the data set ----------------------------------------------------------------------------------------------------


def test_a_data_set_gives_images_and_labels(images):
    data = ImageDataset(images)
    image, label = data[17]
    assert len(data) == N and image.shape == (3, 5, 5) and image.dtype == torch.uint8
    assert (image == 17).all() and label == 17 % 3
    assert [y for _, y in data.__getitems__([4, 2])] == [1, 2]
    x, y = data.batch([9, 1, 49])
    assert x.shape == (3, 3, 5, 5) and numbers([x]) == [9, 1, 49] and y.tolist() == [0, 1, 1] and y.dtype == torch.int64
    own = ImageDataset(images, lambda image: int(image.sum()), labels=images.groups)
    assert own[10] == (750, int(images.groups[10]))
    with pytest.raises(FigmentError, match="2 labels for 50 images"):
        ImageDataset(images, labels=np.zeros(2))


def test_a_plain_data_loader_takes_it_too(images):
    x, y = next(iter(torch.utils.data.DataLoader(ImageDataset(images), batch_size=4)))
    assert numbers([x]) == [0, 1, 2, 3] and y.tolist() == [0, 1, 2, 0]


def test_groups_are_those_of_the_files(images):
    groups = images.take([0, 1, 7, 8, 2]).groups
    assert groups.dtype == np.int64 and groups[0] == groups[2] and groups[1] == groups[3]
    assert len(set(groups.tolist())) == 3


# ---- the loader ------------------------------------------------------------------------------------------------------


def loader(images: ShardImages, **options) -> Loader:
    return Loader(ImageDataset(images), Shuffled(len(images), seed=7), 8, **options)


def test_batches_follow_the_order_epoch_after_epoch(images):
    own = loader(images)
    assert len(own) == 6
    for epoch in range(3):
        assert own.epoch == epoch
        shown = [n for batch in own for n in numbers(batch)]
        assert shown == Shuffled(N, seed=7)(epoch)[:48].tolist()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_restored_loader_goes_on_with_the_next_batch(images, workers):
    """Though the workers have more in store than was handed out, and though transforms are random."""
    make = lambda: Loader(ImageDataset(images, noisy), Shuffled(N), 4, num_workers=workers)
    one, twin = make(), Loader(ImageDataset(images, noisy), Shuffled(N), 4)
    expected = [x for _ in range(3) for x, _ in twin]
    shown, states = [], [one.state_dict()]
    for _ in range(3):
        for x, _ in one:
            shown.append(x)
            states.append(json.loads(json.dumps(one.state_dict())))
    assert all(map(torch.equal, shown, expected)) and len(shown) == len(expected) == 36
    for at in (0, 5, 11, 12, 13, 30):  # 12 batches an epoch
        other = make()
        other.load_state_dict(states[at])
        assert other.epoch == at // 12
        rest = [x for x, _ in other]
        assert len(rest) == 12 - at % 12 and all(map(torch.equal, rest, expected[at:]))


def test_an_order_of_ones_own_is_augmented_anew_every_epoch(images):
    class AsTheyLie:
        slot = 1

        def __len__(self) -> int:
            return 10

        def __call__(self, epoch: int) -> np.ndarray:
            return np.arange(10)

    own = Loader(ImageDataset(images, noisy), AsTheyLie(), 5)
    first, second = [[x for x, _ in own] for _ in range(2)]
    assert not any(map(torch.equal, first, second))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_leaving_a_loop_loses_nothing(images, workers):
    own, shown = loader(images, num_workers=workers), []
    for stop in (2, 3, 99, 6, 99):  # 6 ends an epoch exactly
        for i, batch in enumerate(own, start=1):
            shown.append(numbers(batch))
            if i == stop:
                break
    assert shown == expected_epochs(images, 3)


def expected_epochs(images: ShardImages, epochs: int) -> list[list[int]]:
    one = loader(images)
    return [numbers(b) for _ in range(epochs) for b in one]


@pytest.mark.slow
def test_spawned_workers_read_the_same(images):
    again = pickle.loads(pickle.dumps(ImageDataset(images)))
    assert torch.equal(again[5][0], ImageDataset(images)[5][0])
    own = loader(images, num_workers=1, multiprocessing_context="spawn")
    assert [numbers(b) for b in own] == expected_epochs(images, 1)


def test_a_loader_leaves_the_random_numbers_of_others_alone(images):
    own = Loader(ImageDataset(images, noisy), Shuffled(N), 8)
    for seed, draw in ((torch.manual_seed, torch.rand), (np.random.seed, np.random.rand), (random.seed, None)):
        seed(0)
        before = draw(1) if draw else random.random()
        seed(0)
        next(iter(own))
        assert before == (draw(1) if draw else random.random())


@pytest.mark.slow
def test_processes_of_one_world_share_an_epoch(images):
    world = [loader(images, rank=r, world_size=2) for r in range(2)]
    parts = [[numbers(b) for b in own] for own in world]
    assert [len(p) for p in parts] == [3, 3]
    assert [b for pair in zip(*parts, strict=True) for b in pair] == expected_epochs(images, 1)
    assert world[0].state_dict() == world[1].state_dict()


def test_a_world_of_another_size_goes_on(images):
    """Two processes with batches of four take up what one with batches of eight has left, and the other way about."""
    one = loader(images)
    world = [Loader(ImageDataset(images), Shuffled(N, seed=7), 4, rank=r, world_size=2) for r in range(2)]
    expected = expected_epochs(images, 1)
    first = [numbers(b) for _, b in zip(range(2), one, strict=False)]
    for own in world:
        own.load_state_dict(one.state_dict())
    parts = [[numbers(b) for _, b in zip(range(2), own, strict=False)] for own in world]
    again = loader(images)
    again.load_state_dict(world[1].state_dict())
    assert first + [a + b for a, b in zip(*parts, strict=True)] + [numbers(b) for b in again] == expected


def test_a_state_of_something_else_is_refused(images):
    state = loader(images).state_dict()
    for other, name in [
        (Loader(ImageDataset(images), Shuffled(N, seed=8), 8), "order"),
        (Loader(ImageDataset(images), Shuffled(N, seed=7), 4), "batch_size was 8 and is now 4"),
        (Loader(ImageDataset(images), Shuffled(40, seed=7), 8), "images was 50 and is now 40"),
    ]:
        with pytest.raises(FigmentError, match=name):
            other.load_state_dict(state)


def test_batches_that_cannot_be_are_explained(images, tmp_path):
    data = ImageDataset(images)
    with pytest.raises(FigmentError, match="multiple of 3; here it is 8"):
        Loader(data, Grouped(images.groups, 3), 8)
    with pytest.raises(FigmentError, match="An epoch of 50 images does not fill a batch of 51"):
        Loader(data, Shuffled(N), 51)
    x, y = next(iter(Loader(ImageDataset(images, labels=images.groups), Grouped(images.groups, 3), 12)))
    assert y.reshape(4, 3).eq(y[::3, None]).all() and len(set(y.tolist())) == 4 and len(set(numbers([x]))) == 12


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_a_mistake_in_a_worker_is_one_paragraph(tmp_path, workers):
    made = [Sample(f"p/{i}", "p", "", 0, i, "g", np.zeros((4, 4 + i, 3), np.uint8)) for i in range(2)]
    folders.write_images(tmp_path, [made], ["a"])
    own = Loader(ImageDataset(open_shards(tmp_path)[0]), Shuffled(2), 2, num_workers=workers)
    with pytest.raises(FigmentError, match="^Images of different sizes do not go into one batch") as error:
        next(iter(own))
    assert "Traceback" not in str(error.value) and own.state_dict()["batches"] == 0


KILLED = """
import json, os, signal, sys
from pathlib import Path
from figment.loading.loader import Loader, ImageDataset
from figment.loading.orders import Shuffled
from figment.images_in import open_shards

images = open_shards(Path(sys.argv[1]))[0]
loader = Loader(ImageDataset(images), Shuffled(len(images), seed=7), 8, num_workers=2)
saved, seen, stop = Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
if saved.is_file():
    loader.load_state_dict(json.loads(saved.read_text()))
done = 0
while loader.epoch < 2:
    for images, _ in loader:
        with seen.open("a") as file:
            file.write(json.dumps(images[:, 0, 0, 0].tolist()) + "\\n")
        saved.write_text(json.dumps(loader.state_dict()))
        done += 1
        if done == stop:
            os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_a_killed_process_is_carried_on_by_another(images, tmp_path):
    folder = str(images.shards.files[0].parent.parent)
    for stop, code in ((4, -9), (3, -9), (99, 0)):
        assert ended(python(KILLED, folder, tmp_path / "state.json", tmp_path / "seen", stop)) == code
    seen = [json.loads(line) for line in (tmp_path / "seen").read_text().splitlines()]
    assert seen == expected_epochs(images, 2)

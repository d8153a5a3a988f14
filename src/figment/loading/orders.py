"""Which images an epoch shows, and in what order: plain arrays of positions, the same for the same seed and epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from figment.errors import FigmentError


class Order(Protocol):
    """The positions of an epoch's images, in the order in which they are shown.

    Nothing but the epoch's number may change what is returned: that is what lets training be taken up in the middle.
    """

    slot: int  # so many images in a row belong together; a batch holds whole slots

    def __len__(self) -> int:
        """Images an epoch, the same in all epochs."""
        ...

    def __call__(self, epoch: int) -> np.ndarray:
        """``int64 (len(self),)``, epochs counted from 0."""
        ...


class Shuffled:
    """Each of ``n`` images once an epoch."""

    slot = 1

    def __init__(self, n: int, seed: int = 0):
        self.n, self.seed = n, seed

    def __len__(self) -> int:
        return self.n

    def __call__(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self.seed, epoch]).permutation(self.n)


class Dealt:
    """Images dealt out to ``epochs`` epochs, each of which shows its own, as many of a class as the others do; after so many they are
    dealt out anew. The fresh samples of an epoch of GaFi (Lampis et al. 2023), from a set that is made once.

    ``labels`` is ``int64 (N,)``. Of a class of m images an epoch shows m // epochs, or one where there are fewer. ``beside`` images, which
    come after the N, are shown in every epoch.
    """

    slot = 1

    def __init__(self, labels: np.ndarray, epochs: int, beside: int = 0, seed: int = 0):
        self.epochs, self.seed = epochs, seed
        self._members = _by_class(labels, 0)
        self._each = [max(1, len(own) // epochs) for own in self._members]
        self._beside = len(labels) + np.arange(beside)

    def __len__(self) -> int:
        return sum(self._each) + len(self._beside)

    def __call__(self, epoch: int) -> np.ndarray:
        deal, turn = divmod(epoch, self.epochs)
        shown = [self._beside]
        for c, (own, n) in enumerate(zip(self._members, self._each, strict=True)):
            dealt = np.random.default_rng([self.seed, 1, c, deal]).permutation(own)
            shown.append(dealt[(turn * n + np.arange(n)) % len(own)])
        return np.random.default_rng([self.seed, epoch]).permutation(np.concatenate(shown))


class Grouped:
    """Slots of ``m`` images of one group, as StableRep takes several images of one caption (Tian et al. 2023, 3.2).

    ``groups`` is ``int64 (N,)``, the same number for images of one group. An image is shown at most once an epoch. An
    epoch goes through the groups in turns: a slot of each in random order, then a second one of each that has ``m`` images
    left, and so on; so slots of one group are seldom in one batch. What is left over is drawn anew every epoch, and
    groups of fewer than ``m`` images are left out.

    Raises FigmentError where no group has ``m`` images.
    """

    def __init__(self, groups: np.ndarray, m: int, seed: int = 0):
        _, self.groups, sizes = np.unique(groups, return_inverse=True, return_counts=True)
        self.slot, self.seed, self.n = m, seed, int((sizes // max(m, 1) * m).sum())
        if m < 1 or not self.n:
            raise FigmentError(
                f"No group has m = {m} images; the largest of {len(sizes):,} has {sizes.max(initial=0):,}."
                " Take an m between 1 and that, or make more images of each prompt (generate.images_per_class)."
            )
        self._rank = np.arange(len(groups)) - np.repeat(
            np.cumsum(sizes) - sizes, sizes
        )  # in its group, if sorted by group
        self._used = self._rank < np.repeat(sizes // m * m, sizes)

    def __len__(self) -> int:
        return self.n

    def __call__(self, epoch: int) -> np.ndarray:
        rng = np.random.default_rng([self.seed, epoch])
        shuffled = rng.permutation(len(self.groups))
        by_group = shuffled[np.argsort(self.groups[shuffled], kind="stable")]
        slots = by_group[self._used].reshape(-1, self.slot)  # (S, m)
        turn = self._rank[self._used][:: self.slot]
        return slots[np.lexsort((rng.random(len(slots)), turn))].ravel()


class OfEachGroup:
    """``m`` images of each group once an epoch, in slots: other ones each time, where a group has more than ``m`` (Tian et al. 2023, 3.2).

    ``groups`` is ``int64 (N,)``, the same number for images of one group. Of a group with fewer than ``m`` images some are in its slot
    several times. Groups come in random order.
    """

    def __init__(self, groups: np.ndarray, m: int, seed: int = 0):
        _, self.groups, self.sizes = np.unique(groups, return_inverse=True, return_counts=True)
        self.slot, self.seed = m, seed

    def __len__(self) -> int:
        return len(self.sizes) * self.slot

    def __call__(self, epoch: int) -> np.ndarray:
        rng = np.random.default_rng([self.seed, epoch])
        shuffled = rng.permutation(len(self.groups))
        by_group = shuffled[np.argsort(self.groups[shuffled], kind="stable")]
        start = np.cumsum(self.sizes) - self.sizes
        slots = start[:, None] + np.arange(self.slot) % self.sizes[:, None]  # (G, m)
        return by_group[rng.permutation(slots)].ravel()


class Mixed:
    """Several sources by weight, every class of a source as often as its others.

    ``labels`` holds the labels of each source, ``int64 (N_s,)``, and the positions are those in
    ``concatenate(source, source, ...)``. The sources take turns by ``weights``, so any stretch of an epoch, and with it any
    batch, has their proportions to within an image or so. Within a source the classes take turns in random order, and so do
    the images of a class: none is shown again before all of them were. An epoch shows ``n`` images, by default as many as
    the sources have together.

    Raises FigmentError for an empty source and for weights that are not positive.
    """

    slot = 1

    def __init__(self, labels: Sequence[np.ndarray], weights: Sequence[float], *, n: int | None = None, seed: int = 0):
        if len(labels) != len(weights) or not all(0 < w < float("inf") for w in weights):
            raise FigmentError(
                f"weights must be one positive number for each of the {len(labels)} sources, such as (0.2, 0.8); here they are {tuple(weights)}."
            )
        sizes = [len(own) for own in labels]
        if not all(sizes):
            raise FigmentError(f"Source {sizes.index(0)} of {len(sizes)} holds no images. Leave it and its weight out.")
        self.weights = np.asarray(weights, np.float64) / sum(weights)
        self.n, self.seed = sum(sizes) if n is None else n, seed
        starts = np.cumsum([0, *sizes])
        self._members = [_by_class(own, start) for own, start in zip(labels, starts, strict=False)]

    def __len__(self) -> int:
        return self.n

    def __call__(self, epoch: int) -> np.ndarray:
        rng = np.random.default_rng([self.seed, epoch])
        source = _interleave(self.weights, self.n)
        order = np.empty(self.n, np.int64)
        for s, members in enumerate(self._members):
            own = source == s
            order[own] = _balanced(members, int(own.sum()), rng)
        return order


def _by_class(labels: np.ndarray, start: int) -> list[np.ndarray]:
    """The positions of each class's images, counted from ``start``."""
    _, firsts = np.unique(np.sort(labels), return_index=True)
    return np.split(start + np.argsort(labels, kind="stable"), firsts[1:])


def _interleave(weights: np.ndarray, n: int) -> np.ndarray:
    """Which source each of ``n`` places belongs to: the k-th image of one with weight w is due at time (k + 1/2) / w."""
    due = [(np.arange(int(n * w) + 2) + 0.5) / w for w in weights]
    source = np.repeat(np.arange(len(weights)), [len(times) for times in due])
    return source[np.argsort(np.concatenate(due), kind="stable")[:n]]


def _balanced(members: Sequence[np.ndarray], n: int, rng: np.random.Generator) -> np.ndarray:
    """``n`` positions, classes in turns and the images of each in turns, all turns shuffled."""
    classes = _turns(np.arange(len(members)), n, rng)
    counts = np.bincount(classes, minlength=len(members))
    chosen = [_turns(own, count, rng) for own, count in zip(members, counts, strict=True)]
    order = np.empty(n, np.int64)
    order[np.argsort(classes, kind="stable")] = np.concatenate(chosen)
    return order


def _turns(items: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """All items in random order, then all of them in another, and so on: ``n`` in all."""
    turns = -(-n // len(items))
    return rng.permuted(np.tile(items, (turns, 1)), axis=1).ravel()[:n]

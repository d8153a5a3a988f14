"""Photographs that nobody has split: each class dealt into test, validation and training images, the same ones on every machine."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from figment.errors import FigmentError


@dataclass(frozen=True)
class _Bundle:
    """Images that stay together: their positions, and how many there are of each class that can be read."""

    rows: list[int]
    counts: Counter[int]


def deal(
    labels: np.ndarray,
    digests: Sequence[str],
    keys: Sequence[str],
    shares: Mapping[str, float],
    class_names: Sequence[str],
    seed: int = 0,
    groups: Sequence[str | None] | None = None,
) -> dict[str, np.ndarray]:
    """The positions of each split, int64 and ascending; ``train`` gets what no other does.

    Stratified: a split gets its share of each class, to the nearest image and one at least. Images that are the same or of one
    group are never parted. Names, paths and the order of files do not matter: bundles of images come in the order of a hash of
    their content and the ``seed``. A photograph that is added later moves few others, those at the edge of a share.

    Args:
        labels: int (n,).
        digests: the content hash of each image.
        keys: what is the same for images that are (`figment.images_in.same.keys`); empty for one that cannot be read, which goes to
            ``train`` unless its group does not.
        shares: split -> its share of each class, in (0, 1), less than 1 together; in the order in which they are served.
        class_names: N names.
        groups: the name of each image's group; None: it is alone.

    Raises FigmentError where a class cannot be in every split.
    """
    left = _in_order(_bundles(labels, keys, groups), digests, seed)
    total = _counts(left, len(class_names))
    found: dict[str, list[int]] = {}
    for number, (split, share) in enumerate(shares.items()):
        others = len(shares) - number  # splits still to come, that need an image of each class too
        most = _counts(left, len(total)) - others
        own, left = _served(left, np.minimum(np.maximum(1, np.rint(share * total)), most), most)
        found[split] = _rows(own)
        _check_all_classes(own, total, split, shares, class_names)
    _check_all_classes(left, total, "train", shares, class_names)
    found["train"] = _rows(left)
    return {split: np.sort(np.array(rows, np.int64)) for split, rows in found.items()}


def _bundles(labels: np.ndarray, keys: Sequence[str], groups: Sequence[str | None] | None) -> Iterator[_Bundle]:
    """Images tied to one another, however indirectly, by equal keys or groups."""
    leader = list(range(len(keys)))

    def of(i: int) -> int:
        while leader[i] != i:
            leader[i] = leader[leader[i]]
            i = leader[i]
        return i

    for ties in (keys, groups or ()):
        first: dict[str, int] = {}
        for i, tie in enumerate(ties):
            if tie:
                leader[of(i)] = of(first.setdefault(tie, i))
    rows: dict[int, list[int]] = {}
    for i in range(len(keys)):
        rows.setdefault(of(i), []).append(i)
    for own in rows.values():
        yield _Bundle(own, Counter(int(labels[i]) for i in own if keys[i]))


def _in_order(bundles: Iterator[_Bundle], digests: Sequence[str], seed: int) -> list[_Bundle]:
    """By a hash that no file's name and no other image has a part in."""
    named = ((min(digests[i] for i in bundle.rows), bundle) for bundle in bundles)
    hashed = [(hashlib.sha256(f"{seed} {name}".encode()).hexdigest(), bundle) for name, bundle in named]
    return [bundle for _, bundle in sorted(hashed, key=lambda one: one[0])]


def _served(bundles: Sequence[_Bundle], quota: np.ndarray, most: np.ndarray) -> tuple[list[_Bundle], list[_Bundle]]:
    """The first bundles within the quota of each class, and the rest. A class that gets none so, since its bundles are large, gets its
    smallest one, where that leaves enough of each class: no more than ``most`` are taken."""
    used = np.zeros(len(quota), np.int64)
    own = []

    def take(bundle: _Bundle, limit: np.ndarray) -> bool:
        fits = bool(bundle.counts) and all(used[c] + n <= limit[c] for c, n in bundle.counts.items())
        if fits:
            for c, n in bundle.counts.items():
                used[c] += n
            own.append(bundle)
        return fits

    left = [bundle for bundle in bundles if not take(bundle, quota)]
    for c in np.flatnonzero(used == 0).tolist():
        there = sorted((bundle for bundle in left if bundle.counts[c]), key=lambda bundle: len(bundle.rows))
        taken = next((bundle for bundle in there if take(bundle, most)), None)
        left = [bundle for bundle in left if bundle is not taken]
    return own, left


def _counts(bundles: Sequence[_Bundle], n_classes: int) -> np.ndarray:
    """How many images of each class can be read: int64 (N,)."""
    counts = np.zeros(n_classes, np.int64)
    for bundle in bundles:
        for c, n in bundle.counts.items():
            counts[c] += n
    return counts


def _rows(bundles: Sequence[_Bundle]) -> list[int]:
    return [i for bundle in bundles for i in bundle.rows]


def _check_all_classes(
    own: Sequence[_Bundle], total: np.ndarray, split: str, shares: Mapping[str, float], class_names: Sequence[str]
) -> None:
    """Raise FigmentError where a class has no image in a split."""
    if missing := [c for c, n in enumerate(_counts(own, len(total)).tolist()) if not n]:
        n, splits = int(total[missing[0]]), [*shares, "train"]
        left = f"there {'is' if n == 1 else 'are'} {n:,} image{'s' * (n != 1)} that can be read, and none is left for {split}"
        raise FigmentError(
            f"task.real.folder cannot be dealt into {', '.join(splits[:-1])} and {splits[-1]}: of {class_names[missing[0]][:60]!r} {left}"
            " where those that are the same or of one group stay together. Give photographs of more kinds, or splits of your own."
        )

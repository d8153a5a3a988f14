"""Leaks that can be found before anything is spent: the same photograph in two splits, and generated images in a real one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from figment.errors import FigmentError
from figment.images_in.provenance import Stored, makers_by_table
from figment.images_in.same import look
from figment.words import printable

EARLIER = "a run in this folder made them"
SHOWN = 2
ADVICE = "Take them out; or, if this is meant, set evaluate.leaks: report, and the report says it beside the numbers (docs/evidence.md)."


@dataclass(frozen=True)
class Leaks:
    """What was found, a sentence or two each. ``serious``: the accuracy on the test images would not be what it is called.
    ``twice`` counts the test images that are the same as an earlier one."""

    serious: Sequence[str] = ()
    others: Sequence[str] = ()
    twice: int = 0

    def refuse(self) -> None:
        """Raise FigmentError where anything serious was found."""
        if self.serious:
            raise FigmentError(" ".join([*self.serious, ADVICE]))


@dataclass(frozen=True)
class _Split:
    """One split, and what its files say."""

    name: str
    images: Stored
    made_by: Mapping[int, str]  # position -> who generated it
    signed: int
    pixels: Sequence[str] | None  # hashes; empty where an image cannot be read; None: too many to decode

    @property
    def where(self) -> str:
        return f"task.real.{self.name}"

    def id(self, index: int) -> str:
        return printable(self.images.ids[index])[-80:]


def find_leaks(given: Mapping[str, Stored], class_names: Sequence[str], made: frozenset[str] = frozenset()) -> Leaks:
    """Look through the real images as they were given, split -> images. ``made`` are content hashes of generated images.

    Two images are the same where their files are, or, in splits of up to 20,000 images and 128 MB, where their pixels are, whatever the format.
    Every file is read once, and none whose content is known already.
    """
    splits = {name: _look(name, images, made) for name, images in given.items()}
    found = _Found()
    test = splits.get("test")
    if test is not None:
        for name, why in (
            ("train", "What is learnt from would be tested on."),
            ("val", "The epoch would be chosen on test images."),
            ("unlabelled", "The bias would be removed on the very images that are tested."),
        ):
            if name in splits:
                _copies(test, splits[name], why, found.serious)
    if "train" in splits and "val" in splits:
        _copies(splits["val"], splits["train"], "The epoch is chosen on images that may be learnt from.", found.others)
    for split in splits.values():
        _generated(split, found)
    twice = 0 if test is None else _twice(test, class_names, found.others)
    return Leaks(found.serious, found.others, twice)


@dataclass
class _Found:
    serious: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)


def _look(name: str, images: Stored, made: frozenset[str]) -> _Split:
    makers = dict(makers_by_table(images))
    found, decoded = look(images)
    for i, (known, digest) in enumerate(zip(found, images.digests, strict=True)):
        if i not in makers and (maker := known.maker or (EARLIER if digest in made else "")):
            makers[i] = maker
    pixels = [known.pixels for known in found] if decoded else None
    return _Split(name, images, makers, sum(known.signed for known in found), pixels)


def _keys(*splits: _Split) -> list[Sequence[str]]:
    """What is the same for images that are: hashes of pixels where all splits have them, else of files."""
    pixels = [split.pixels for split in splits]
    return [split.images.digests if None in pixels else own or () for split, own in zip(splits, pixels, strict=True)]


def _copies(of: _Split, among: _Split, why: str, sentences: list[str]) -> None:
    """Say which images of one split are in another one too."""
    keys, others = _keys(of, among)
    first = {key: j for j, key in reversed(list(enumerate(others))) if key}
    same = [(i, first[key]) for i, key in enumerate(keys) if key in first]
    if same:
        named = "; ".join(f"{of.id(i)} is {among.id(j)} there" for i, j in same[:SHOWN])
        sentences.append(f"{_of(len(same), of)} in {among.where} too: {named}{_more(len(same))}. {why}")


def _twice(test: _Split, class_names: Sequence[str], sentences: list[str]) -> int:
    """Say which test images are there more than once; how many are the same as an earlier one."""
    (keys,) = _keys(test)
    places: dict[str, list[int]] = {}
    for i, key in enumerate(keys):
        if key:
            places.setdefault(key, []).append(i)
    labels = test.images.labels
    groups = [own for own in places.values() if len(own) > 1]
    torn = [own for own in groups if len(set(labels[own].tolist())) > 1]
    twice = sum(len(own) - 1 for own in groups)
    if torn:
        named = "; ".join(
            " is ".join(f"{test.id(i)} ({class_names[labels[i]][:40]})" for i in _one_of_each(own, labels))
            for own in torn[:SHOWN]
        )
        sentences.append(
            f"{len(torn):,} photograph{_s(torn)} in {test.where} {_are(torn)} there under two classes or more: {named}{_more(len(torn))}."
            " No classifier can be right on both. Look at them, and leave the right one."
        )
    if twice:
        named = "; ".join(f"{test.id(own[1])} is {test.id(own[0])}" for own in groups[:SHOWN])
        sentences.append(
            f"{_of(twice, test)} the same as an earlier one: {named}{_more(len(groups))}. They count double, and make intervals"
            " look narrower than they are."
        )
    return twice


def _one_of_each(own: Sequence[int], labels: np.ndarray) -> list[int]:
    first: dict[int, int] = {}
    for i in own:
        first.setdefault(int(labels[i]), i)
    return list(first.values())[:2]


def _generated(split: _Split, found: _Found) -> None:
    """Say which images of a real split are generated, by who says so."""
    n = len(split.made_by)
    if n:
        counts = Counter(split.made_by.values())
        who = ", ".join(f"{maker} ({count:,})" for maker, count in counts.most_common())
        named = ", ".join(split.id(i) for i in islice(sorted(split.made_by), SHOWN))
        text = f"{_of(n, split)} generated, not real, such as {named}. Told by: {who}."
        if split.name in ("train", "unlabelled"):
            found.others.append(
                f"{text} What is said of real images, such as the exchange rate and the ceiling, is then about these."
            )
        else:
            found.serious.append(
                f"{text} On generated images a classifier shows that it knows the generator, not the world."
            )
    elif split.signed:
        found.others.append(
            f"{split.signed:,} of the {len(split.images):,} images in {split.where} carry a C2PA manifest, a signed history that"
            " cameras and generators write. It was not read."
        )


def _of(n: int, split: _Split) -> str:
    return f"{n:,} of the {len(split.images):,} images in {split.where} {'is' if n == 1 else 'are'}"


def _more(n: int) -> str:
    return f"; and {n - SHOWN:,} more" if n > SHOWN else ""


def _s(own: Sequence[object]) -> str:
    return "" if len(own) == 1 else "s"


def _are(own: Sequence[object]) -> str:
    return "is" if len(own) == 1 else "are"

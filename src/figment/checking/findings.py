"""What is said of real images: each sentence with whether it is right, worth knowing, or wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from figment.evaluate.verdict import FEWEST
from figment.images_in.labels import listed, normalised
from figment.images_in.provenance import Stored
from figment.images_in.shards import ShardImages
from figment.images_in.survey import Survey
from figment.images_in.unreadable import MOST_UNREADABLE, named
from figment.report.planned import Planned, shows_in_groups
from figment.words import is_code, printable

UNEVEN = 10.0  # times as many images of the largest class as of the smallest: worth knowing
SHOWN = 2  # images that are named


@dataclass(frozen=True)
class Finding:
    """``subject`` in a word, and a sentence on it. ``wrong``: a run would refuse it, or it is beyond a limit."""

    subject: str
    state: Literal["ok", "note", "wrong"]
    text: str


@dataclass(frozen=True)
class Limits:
    """Beyond these a finding is wrong; None: it is said, and never wrong.

    Args:
        min_images: of each class in each split.
        min_side: pixels of the shorter side below which an image is tiny.
        max_tiny, max_unreadable, max_repeated: share of a split's images in [0, 1]; repeated: the same as an earlier one.
        max_imbalance: images of a split's largest class for each of its smallest.
        effect: the gain in [0, 1] that the test images must be able to show.
    """

    min_images: int = 1
    min_side: int = 32
    max_tiny: float = 0.1
    max_unreadable: float = MOST_UNREADABLE
    max_repeated: float | None = None
    max_imbalance: float | None = None
    effect: float | None = None


def of_files(
    split: str, images: Stored, looked: Survey, class_names: Sequence[str], limits: Limits
) -> Iterator[Finding]:
    """Files that cannot be read, tiny images, and what becomes of unusual kinds."""
    n, broken = len(images), len(looked.unreadable)
    readable = np.array([bool(key) for key in looked.keys])
    if broken:
        lost = np.setdiff1d(images.labels, images.labels[readable]).tolist()
        text = f"{broken:,} of the {n:,} images cannot be read and are left out: {named(looked.unreadable)}"
        text += f"; of {listed([class_names[c] for c in lost])} none is left" if lost else ""
        yield Finding(f"{split} files", "wrong" if lost or broken > limits.max_unreadable * n else "note", text)
    if readable.any():
        short = looked.sides[readable].min(1)
        tiny = int((short < limits.min_side).sum())
        text = (
            f"the shorter side has {short.min():,} to {short.max():,} pixels, in the middle {int(np.median(short)):,}"
        )
        text += f"; {tiny:,} of {len(short):,} have fewer than {limits.min_side}" if tiny else ""
        yield Finding(f"{split} sizes", "wrong" if tiny > limits.max_tiny * n else "note" if tiny else "ok", text)
    for kind, own in looked.kinds.items():
        such = ", ".join(_id(images, i) for i in own[:SHOWN]) + (" ..." if len(own) > SHOWN else "")
        yield Finding(f"{split} pixels", "note", f"{len(own):,} with {kind} ({such}): {looked.told(kind)}")


def of_repeats(
    split: str, images: Stored, keys: Sequence[str], class_names: Sequence[str], limits: Limits
) -> Iterator[Finding]:
    """The same image more than once in one split, and under two classes. Of test images the report on leaks says it."""
    places: dict[str, list[int]] = {}
    for i, key in enumerate(keys):
        if key:
            places.setdefault(key, []).append(i)
    again = [own for own in places.values() if len(own) > 1]
    n = sum(len(own) - 1 for own in again)
    beyond = limits.max_repeated is not None and n > limits.max_repeated * len(images)
    if n and (beyond or split != "test"):
        such = "; ".join(f"{_id(images, own[1])} as {_id(images, own[0])}" for own in again[:SHOWN])
        text = f"{n:,} of the {len(images):,} images {'is' if n == 1 else 'are'} the same as an earlier one, such as {such}"
        yield Finding(f"{split} repeats", "wrong" if beyond else "note", text)
    torn = [own for own in again if len(set(images.labels[own].tolist())) > 1]
    if torn and split != "test":
        such = "; ".join(_torn(images, own, class_names) for own in torn[:SHOWN])
        text = (
            f"{len(torn):,} image{'s are' if len(torn) != 1 else ' is'} there under two classes or more, such as {such}"
        )
        yield Finding(f"{split} repeats", "note", f"{text}. One of the labels is wrong")


def _torn(images: Stored, own: Sequence[int], class_names: Sequence[str]) -> str:
    """Two of the same images, of two classes."""
    first = own[0]
    other = next(i for i in own if images.labels[i] != images.labels[first])
    return " and ".join(f"{_id(images, i)} ({class_names[images.labels[i]][:40]})" for i in (first, other))


def _id(images: Stored, index: int) -> str:
    return printable(images.ids[index])[-80:]


def of_names(class_names: Sequence[str], given: Mapping[str, Stored]) -> Iterator[Finding]:
    """Names that no model reads as words, and files that number the classes otherwise."""
    if codes := [name for name in class_names if is_code(name)]:
        text = f"{len(codes):,} of {len(class_names):,} are spelt for programs, such as {listed(codes, 3)}, and models read them as words"
        yield Finding("class names", "note", f"{text}. Write words in task.class_names, and these in task.own_names")
    order = {normalised(name): i for i, name in enumerate(class_names)}
    for split, images in given.items():
        if isinstance(images, ShardImages):
            own = [order[normalised(name)] for name in images.shards.class_names if normalised(name) in order]
            if own != sorted(own):
                text = f"{split} numbers the classes in another order than {listed(class_names, 3)}: figment goes by their names"
                yield Finding("label order", "note", f"{text}, but whoever reads the numbers mixes them up")


def of_balance(
    counts: Mapping[str, Mapping[str, int]], refused: Mapping[str, str], limits: Limits
) -> Iterator[Finding]:
    """Classes that are missing or small in a split, and how uneven they are."""
    for split, own in counts.items():
        missing = [name for name, n in own.items() if not n]
        if missing and split not in refused:
            yield Finding(
                "classes", "wrong", f"{split} has no image of {listed(missing)}: every class has images in every split"
            )
        few = [f"{name[:40]} ({n})" for name, n in own.items() if 0 < n < limits.min_images]
        if few:
            yield Finding("classes", "wrong", f"{split} has fewer than {limits.min_images} images of {listed(few)}")
        there = [n for n in own.values() if n]
        if not there:
            continue
        ratio, most = max(there) / min(there), max(own, key=lambda name: own[name])
        text = f"{split}: {min(there):,} to {max(there):,} images a class; {100 * max(there) / sum(there):.0f} % are of {most[:40]!r}"
        beyond = limits.max_imbalance is not None and ratio > limits.max_imbalance
        yield Finding("balance", "wrong" if beyond else "note" if ratio > UNEVEN else "ok", text)


def of_test(test: Stored | None, groups: np.ndarray | None, limits: Limits, instead: str = "") -> Iterator[Finding]:
    """The smallest effect that shows. ``instead`` says what else there is where the test images are too few."""
    if test is None:
        yield Finding("test", "note", "there are no test images: nothing can be measured without them")
        return
    n = len(test)
    text = Planned().shows(n) if groups is None else shows_in_groups(n, groups)
    yield Finding("test", "ok", text) if n >= FEWEST else Finding("test", "note", f"{text}{instead}")
    if limits.effect is not None:
        wanted = Planned().images(limits.effect)
        independent = n if groups is None else len(np.unique(groups))
        if wanted is None or wanted > independent:
            what = "images" if groups is None else "groups"
            yield Finding("test", "wrong", f"{independent:,} {what} are too few. {Planned().takes(limits.effect)}")

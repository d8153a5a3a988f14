"""k images of each class: drawn with a seed, or as a published split file names them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from figment import files
from figment.errors import FigmentError
from figment.types import Images

CHOICES = 5  # times as many images as shots
IMAGES_OF_OLD = "pictures"  # what figment 0.1 called them in its split files


def draw_shots(labels: np.ndarray, shots: int, seed: int) -> np.ndarray:
    """The positions of ``shots`` images of each class, ``int64 (N * shots,)``, class after class.

    With one seed, more shots hold those of fewer. Each class has a random stream of its own, so a class's shots depend
    on nothing but the seed, its label and how many images it has.

    Raises FigmentError where a class has fewer images than that.
    """
    chosen = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) < shots:
            raise FigmentError(
                f"Class {label} has {len(members)} real images, and {shots} shots of each class are wanted."
                f" Ask for {len(members)} shots or fewer, or give more images."
            )
        chosen.append(np.random.default_rng([seed, int(label)]).permutation(members)[:shots])
    return np.concatenate(chosen) if chosen else np.zeros(0, np.int64)


ALL = "all"  # shots: every image there is


def few_images(
    pool: Images, class_names: Sequence[str], shots: int | str, split: Path | str | None, seed: int
) -> Images:
    """The images of ``few_shot`` among those of ``pool``: of a split file, drawn, or :data:`ALL`. Raises FigmentError where there are
    too few."""
    sizes = np.bincount(pool.labels, minlength=len(class_names))
    fewest = 1 if isinstance(shots, str) else shots
    if split is None and sizes.min() < fewest:
        lower = f"Set few_shot.shots to {sizes.min()} or less, or give" if sizes.min() else "Give"
        raise FigmentError(
            f"few_shot wants {shots} real images of each class, and {class_names[int(sizes.argmin())][:60]!r} has"
            f" {sizes.min()}. {lower} more images in task.real.train."
        )
    if split is None and isinstance(shots, str):
        return pool
    chosen = pool.take(read_split(split, pool) if split else draw_shots(pool.labels, fewest, seed))
    lacking = [name[:40] for label, name in enumerate(class_names) if not (chosen.labels == label).any()]
    if lacking:
        raise FigmentError(f"The split {split} has no image of: {', '.join(lacking[:10])}.")
    return chosen


def other_images(pool: Images, shots: Images, seed: int) -> Images:
    """Another choice of as many images of each class as ``shots`` has. Raises FigmentError where ``pool`` has fewer than five times
    as many: choices would be nearly the same, and what they differ by too little."""
    wanted = np.bincount(shots.labels)
    there = np.bincount(pool.labels, minlength=len(wanted))
    short = np.flatnonzero(there < CHOICES * wanted)
    if len(short):
        c = short[0]
        raise FigmentError(
            f"evaluate.shot_draws draws other real images from task.real.train, which has {there[c]} of class {c} for {wanted[c]} shots:"
            " choices among fewer than five times as many are nearly the same, and the intervals would be too narrow. Give more"
            " images, or leave evaluate.shot_draws out: the verdict is then about these real images."
        )
    members = (np.flatnonzero(pool.labels == c) for c in range(len(wanted)))
    chosen = [np.random.default_rng([seed, c]).permutation(own)[: wanted[c]] for c, own in enumerate(members)]
    return pool.take(np.concatenate(chosen))


def write_split(path: Path | str, images: Images, index: Sequence[int] | np.ndarray, **facts: Any) -> None:
    """Publish a choice of images: JSON with their ids and content hashes, and ``facts`` such as shots and seed."""
    index = np.asarray(index)
    split = {
        **facts,
        "images": [{"id": images.ids[i], "label": int(images.labels[i]), "digest": images.digests[i]} for i in index],
    }
    files.write_json(files.as_path(path), split)


def read_ids(path: Path) -> dict[int, list[str]]:
    """Label -> the ids of its images, of a split file that :func:`write_split` wrote. Raises FigmentError for another."""
    ids: dict[int, list[str]] = {}
    try:
        split = files.load_json(path, "split file")
        for row in split.get("images", split.get(IMAGES_OF_OLD)):
            ids.setdefault(row["label"], []).append(row["id"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FigmentError(f"The split file {path} cannot be read: {error}.") from error
    return ids


def read_split(path: Path | str, images: Images) -> np.ndarray:
    """The positions among ``images`` of those a split file names, ``int64 (n,)``, in the file's order.

    Reads what :func:`write_split` wrote, and the split files of CoOp, ``{"train": [[path, label, class name], ...]}``,
    which most few-shot papers share. Images are found by their id, or the end of it. Raises FigmentError where one of
    them is missing or is another image than it was.
    """
    path = files.as_path(path)
    try:
        split = files.load_json(path, "split file")
    except (OSError, ValueError) as error:
        reason = error.strerror or str(error) if isinstance(error, OSError) else str(error)
        raise FigmentError(f"The split file {path} cannot be read: {' '.join(reason.split())[:200]}.") from error
    try:
        wanted = _wanted(split)
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        raise FigmentError(
            f"{path} is no split file: it has neither 'images', a list of mappings with an id (figment's), nor 'train', a"
            " list of [path, label, class name] (CoOp's). See docs/few_shot.md."
        ) from error
    twice = [id for id, n in Counter(id for id, _ in wanted).items() if n > 1]
    if twice:
        raise FigmentError(
            f"The split file {path} names {len(twice):,} images more than once: {', '.join(twice[:5])}. Take the repeats out."
        )
    places = {id: i for i, id in enumerate(images.ids)}
    ends = {end: i for i, end in enumerate(map(_end, images.ids))}
    shared = {end for end, n in Counter(map(_end, images.ids)).items() if n > 1}  # say nothing
    found, missing = [], []
    for id, digest in wanted:
        place = places.get(id, None if _end(id) in shared else ends.get(_end(id)))
        if place is None or (digest is not None and images.digests[place] != digest):
            missing.append(id)
        else:
            found.append(place)
    if missing:
        raise FigmentError(
            f"{len(missing)} of {len(wanted)} images of the split {path} are not among the real images here, or are others"
            f" than they were: {', '.join(missing[:5])}. Give the folder the split was made from."
        )
    return np.array(found, np.int64)


def _wanted(split: Any) -> list[tuple[str, str | None]]:
    """Id and digest of each image that a split file names. Raises what Python raises where it is no split file."""
    rows = split.get("images", split.get(IMAGES_OF_OLD))
    if isinstance(rows, list):
        wanted = [(row["id"], row.get("digest")) for row in rows]
    else:
        wanted = [(row[0] if isinstance(row, list) else None, None) for row in split["train"]]
    if not all(isinstance(id, str) and isinstance(digest, str | None) for id, digest in wanted):
        raise ValueError("ids and digests are texts")
    return wanted


def _end(id: str) -> str:
    """The last folder and the name: by these an image is found in another copy of its data set."""
    return "/".join(id.split("/")[-2:])

"""k pictures of each class: drawn with a seed, or as a published split file names them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from figment import files
from figment.errors import FigmentError
from figment.types import Pictures


def draw_shots(labels: np.ndarray, shots: int, seed: int) -> np.ndarray:
    """The positions of ``shots`` pictures of each class, ``int64 (N * shots,)``, class after class.

    With one seed, more shots hold those of fewer. Each class has a random stream of its own, so a class's shots depend
    on nothing but the seed, its label and how many pictures it has.

    Raises FigmentError where a class has fewer pictures than that.
    """
    chosen = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) < shots:
            raise FigmentError(
                f"Class {label} has {len(members)} real pictures, and {shots} shots of each class are wanted."
                f" Ask for {len(members)} shots or fewer, or give more pictures."
            )
        chosen.append(np.random.default_rng([seed, int(label)]).permutation(members)[:shots])
    return np.concatenate(chosen) if chosen else np.zeros(0, np.int64)


def write_split(path: Path | str, pictures: Pictures, index: Sequence[int] | np.ndarray, **facts: Any) -> None:
    """Publish a choice of pictures: JSON with their ids and content hashes, and ``facts`` such as shots and seed."""
    index = np.asarray(index)
    split = {
        **facts,
        "pictures": [
            {"id": pictures.ids[i], "label": int(pictures.labels[i]), "digest": pictures.digests[i]} for i in index
        ],
    }
    files.write_json(files.as_path(path), split)


def read_ids(path: Path) -> dict[int, list[str]]:
    """Label -> the ids of its pictures, of a split file that :func:`write_split` wrote. Raises FigmentError for another."""
    ids: dict[int, list[str]] = {}
    try:
        for row in json.loads(path.read_text(encoding="utf-8"))["pictures"]:
            ids.setdefault(row["label"], []).append(row["id"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FigmentError(f"The split file {path} cannot be read: {error}.") from error
    return ids


def read_split(path: Path | str, pictures: Pictures) -> np.ndarray:
    """The positions among ``pictures`` of those a split file names, ``int64 (n,)``, in the file's order.

    Reads what :func:`write_split` wrote, and the split files of CoOp, ``{"train": [[path, label, class name], ...]}``,
    which most few-shot papers share. Pictures are found by their id, or the end of it. Raises FigmentError where one of
    them is missing or is another picture than it was.
    """
    path = files.as_path(path)
    try:
        split = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror or str(error) if isinstance(error, OSError) else str(error)
        raise FigmentError(f"The split file {path} cannot be read: {' '.join(reason.split())[:200]}.") from error
    try:
        wanted = _wanted(split)
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        raise FigmentError(
            f"{path} is no split file: it has neither 'pictures', a list of mappings with an id (figment's), nor 'train', a"
            " list of [path, label, class name] (CoOp's). See docs/few_shot.md."
        ) from error
    twice = [id for id, n in Counter(id for id, _ in wanted).items() if n > 1]
    if twice:
        raise FigmentError(
            f"The split file {path} names {len(twice):,} pictures more than once: {', '.join(twice[:5])}. Take the repeats out."
        )
    places = {id: i for i, id in enumerate(pictures.ids)}
    ends = {end: i for i, end in enumerate(map(_end, pictures.ids))}
    shared = {end for end, n in Counter(map(_end, pictures.ids)).items() if n > 1}  # say nothing
    found, missing = [], []
    for id, digest in wanted:
        place = places.get(id, None if _end(id) in shared else ends.get(_end(id)))
        if place is None or (digest is not None and pictures.digests[place] != digest):
            missing.append(id)
        else:
            found.append(place)
    if missing:
        raise FigmentError(
            f"{len(missing)} of {len(wanted)} pictures of the split {path} are not among the real pictures here, or are others"
            f" than they were: {', '.join(missing[:5])}. Give the folder the split was made from."
        )
    return np.array(found, np.int64)


def _wanted(split: Any) -> list[tuple[str, str | None]]:
    """Id and digest of each picture that a split file names. Raises what Python raises where it is no split file."""
    if isinstance(split.get("pictures"), list):
        wanted = [(row["id"], row.get("digest")) for row in split["pictures"]]
    else:
        wanted = [(row[0] if isinstance(row, list) else None, None) for row in split["train"]]
    if not all(isinstance(id, str) and isinstance(digest, str | None) for id, digest in wanted):
        raise ValueError("ids and digests are texts")
    return wanted


def _end(id: str) -> str:
    """The last folder and the name: by these a picture is found in another copy of its data set."""
    return "/".join(id.split("/")[-2:])

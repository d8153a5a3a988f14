"""The real images of a task, split by split."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from figment.files import as_path, is_remote
from figment.images_in import splits as of_splits
from figment.images_in.deal import deal
from figment.images_in.groups import names_of
from figment.images_in.open import open_images
from figment.images_in.provenance import Stored
from figment.images_in.same import keys
from figment.images_in.unlabelled import open_unlabelled
from figment.task import RealImages, Task, real_folder


def open_real(task: Task, splits: Sequence[str] = RealImages.SPLITS) -> dict[str, Stored]:
    """Split -> its real images as they were given, for those of ``splits`` that the task has; a ``folder`` is dealt.

    Raises FigmentError as :func:`figment.images_in.open_images` and :func:`figment.images_in.deal.deal` do.
    """
    real = task.real
    found = (
        {}
        if real.folder is None
        else dealt(task, open_images(real_folder(real.folder), task.class_names, task.own_names))
    )
    for split in splits:
        where = getattr(real, split)
        if where and split == "unlabelled":
            found[split] = open_unlabelled(where)
        elif where:
            found[split] = open_images(real_folder(where), task.class_names, task.own_names)
    return {split: found[split] for split in splits if split in found}


def absent(real: RealImages) -> dict[str, str]:
    """Split -> the path where its images ought to be, of those where nothing lies on this machine, neither a folder nor a file."""
    given = {split: where for split in real.SPLITS if (where := getattr(real, split))}
    if real.folder is not None:
        given |= dict.fromkeys((*real.shares, "train"), real.folder)
    return {split: where for split, where in given.items() if not _is_there(where)}


def _is_there(where: str) -> bool:
    """Of what is no path on this machine nobody knows before it is opened, so it is taken to be."""
    path = real_folder(where)
    return isinstance(path, str) or is_remote(path) or path.exists() or as_path(of_splits.parted(where)[0]).exists()


def without(task: Task, splits: Collection[str]) -> Task:
    """The task as if it had no real images of these splits."""
    real = task.real
    gone: dict[str, None] = dict.fromkeys(splits)
    if real.folder is not None and "train" in gone:  # what is dealt is there in all of its splits or in none
        gone |= dict.fromkeys(("folder", "test_share", "val_share"))
    return task.model_copy(update={"real": real.model_copy(update=gone)})


def dealt(task: Task, images: Stored) -> dict[str, Stored]:
    """Split -> its part of the images of ``task.real.folder``. Raises FigmentError where a class cannot be in every split."""
    real = task.real
    groups = None if real.groups is None else names_of(images, real.groups)
    rows = deal(images.labels, images.digests, keys(images), real.shares, task.class_names, real.split_seed, groups)
    return {split: images.take(own) for split, own in rows.items()}


def how_dealt(real: RealImages, given: Mapping[str, Stored]) -> dict[str, Any]:
    """For the record: how a folder was dealt, and which image went where, JSON-able."""
    return {
        "shares": real.shares,
        "seed": real.split_seed,
        "images": [
            {"split": split, "id": id, "label": int(label), "digest": digest}
            for split in sorted({*real.shares, "train"} & given.keys())
            for id, label, digest in zip(given[split].ids, given[split].labels, given[split].digests, strict=True)
        ],
    }

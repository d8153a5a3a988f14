"""Which real images belong together (bursts, videos, patients), by a column, by their names, or by a table of one's own."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa

from figment.errors import FigmentError
from figment.files import as_path
from figment.images_in.folder import FileImages
from figment.images_in.rows import RowImages
from figment.images_in.shards import ShardImages
from figment.images_in.table import read_pairs
from figment.task import Groups
from figment.types import Images
from figment.words import printable

log = logging.getLogger(__name__)


def groups_of(images: Images, settings: Groups, what: str = "test images") -> np.ndarray:
    """The group of each image, int64 (n,), counted in the order in which they first occur.

    Raises FigmentError, calling them ``what``, where some are of no group, or all of one.
    """
    names = names_of(images, settings)
    without = [id for id, name in zip(images.ids, names, strict=True) if name is None]
    if without:
        raise FigmentError(
            f"{len(without):,} of the {len(names):,} {what} are of no group by {_said(settings)}, such as {_shown(without)}."
            " Give each of them one (its own name, where it is alone), or leave task.real.groups out."
        )
    number: dict[str | None, int] = {}
    found = np.array([number.setdefault(name, len(number)) for name in names], np.int64)
    if len(number) < 2:
        raise FigmentError(
            f"By {_said(settings)} all {len(names):,} {what} are of one group, {_shown(list(number))}: nothing can be said of others."
            " Take test images of several, or another way to tell them apart in task.real.groups."
        )
    return found


def names_of(images: Images, settings: Groups) -> list[str | None]:
    """The name of each image's group; None where it has none. Raises FigmentError for a column or file that is not there."""
    if settings.column is not None:
        return column_of(images, settings.column, "task.real.groups.column")
    if settings.csv is not None:
        return _of_csv(images.ids, settings.csv)
    pattern = re.compile(str(settings.pattern))
    return [found and (found[1] or None) for found in map(pattern.search, images.ids)]


def shared_groups(a: Sequence[str | None], b: Sequence[str | None]) -> list[str]:
    """The groups that occur in both, sorted. Images without one share nothing."""
    return sorted({name for name in a if name is not None} & set(b))


def check_groups(given: Mapping[str, Images], settings: Groups) -> None:
    """Raise FigmentError where test images cannot be grouped, or have a group in common with others that are learnt from.

    Of ``train`` and ``val`` some may have no group: the log says so.
    """
    if "test" not in given:
        return
    groups_of(given["test"], settings)
    test = names_of(given["test"], settings)
    for split in sorted(given.keys() - {"test", "unlabelled"}):  # no label is learnt from unlabelled ones
        names = names_of(given[split], settings)
        if shared := shared_groups(test, names):
            n = sum(name in set(shared) for name in test)
            raise FigmentError(
                f"{len(shared):,} {'groups are' if len(shared) != 1 else 'group is'} in both task.real.{split} and task.real.test, such as"
                f" {_shown(shared)}: {n:,} of the {len(test):,} test images are near copies of what is learnt from, and accuracies would be too"
                f" good. Keep each group in one split. Where the same name means another group there, tell them apart: by {_said(settings)}"
                " they are one."
            )
        if without := names.count(None):
            log.warning(
                "%s of the %s images in task.real.%s are of no group: whether the test images share one with them is not known",
                f"{without:,}", f"{len(names):,}", split,
            )  # fmt: skip


def column_of(images: Images, column: str, field: str) -> list[str | None]:
    """What a column says beside each image; None where it is empty. Raises FigmentError, naming the setting ``field``, without one."""
    values = images.column(column) if isinstance(images, FileImages | RowImages | ShardImages) else None
    if values is None:
        raise FigmentError(
            f"{field}: there is no column {column[:60]!r} beside images such as {_shown(images.ids)}. Images in class folders and tars"
            f" have none: name a table of your own{' in groups.csv, or use groups.pattern' if 'groups' in field else ' in contexts'}."
        )
    plain = values.to_pylist() if isinstance(values, pa.ChunkedArray) else values
    return [None if value in (None, "") or value != value else str(value) for value in plain]  # NaN is not itself


def _of_csv(ids: Sequence[str], where: str) -> list[str | None]:
    path = as_path(where)
    if not path.is_file():
        raise FigmentError(f"task.real.groups.csv: there is no file {path}.")
    return looked_up(ids, read_pairs(path), path)


def looked_up(ids: Sequence[str], told: Mapping[str, str], path: Path) -> list[str | None]:
    """What a table says of each image, by its id, or else by the file's name alone, as far as that tells images apart. Raises
    FigmentError where it does not."""
    files = [PurePosixPath(id).name for id in ids]
    seen: dict[str, str] = {}
    for id, file in zip(ids, files, strict=True):
        if id not in told and file in told and seen.setdefault(file, id) != id:
            raise FigmentError(
                f"{path} names {file}, and there are several such images: {_shown([seen[file], id])}. Name them so."
            )
    return [told.get(id, told.get(file)) for id, file in zip(ids, files, strict=True)]


def _said(settings: Groups) -> str:
    """The setting in words."""
    kind, value = next((kind, value) for kind, value in settings if value is not None)
    return f"task.real.groups.{kind} {str(value)[:80]!r}"


def _shown(names: Sequence[str | None]) -> str:
    return " and ".join(printable(str(name))[-80:] for name in names[:2])

"""The classes that images bring along, as labels of a task."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from figment.errors import FigmentError, nearest
from figment.words import comparable

#: How the column or field of an image's class may be called; names say more than numbers.
CLASS_COLUMNS = ("class_name", "class", "label")
WHOLE_NUMBER = re.compile(r"-?[0-9]{1,9}")


def normalised(name: str) -> str:
    return comparable(name.replace("_", " ").replace("-", " "))


def match_classes(found: Sequence[str], class_names: Sequence[str], where: object) -> list[int]:
    """The task's label of each class found in ``where``. Raises FigmentError where the two sets differ."""
    exact = {n: i for i, n in enumerate(class_names)}  # wins where two names differ by a hyphen alone
    wanted = {normalised(n): i for i, n in enumerate(class_names)}
    labels = [exact.get(n, wanted.get(normalised(n), -1)) for n in found]
    missing = [n for i, n in enumerate(class_names) if i not in labels]
    strange = [n for n, label in zip(found, labels, strict=True) if label < 0]
    if missing or strange:
        hint = nearest(normalised(strange[0]), wanted) if strange else ""
        raise FigmentError(
            f"The classes of {where} are not those of the task."
            + (f" Missing there: {listed(missing)}." if missing else "")
            + (f" Not in the task: {listed(strange)}.{hint}" if strange else "")
            + " Rename them there, or change task.class_names (case, spaces, hyphens and underscores do not matter)."
        )
    return labels


def labels_of(values: Sequence[object], class_names: Sequence[str], where: object) -> np.ndarray:
    """The task's label of each image, ``int64 (N,)``: ``values`` are class names, or numbers that count them from 0.

    Text that could be either is a name where the task has such a class. Raises FigmentError for any other value.
    """
    texts = ["" if v is None else str(v) for v in values]
    found = sorted(set(texts))
    numbers = [t for t in found if WHOLE_NUMBER.fullmatch(t)]
    typed = all(isinstance(v, int) for v in values)
    names = {normalised(n) for n in class_names}
    if len(numbers) == len(found) and (typed or not any(normalised(t) in names for t in found)):
        return check_range(np.array([int(t) for t in texts], np.int64), len(class_names), where)
    below = [t for t in numbers if t.startswith("-")]  # a hyphen does not matter in names, but -1 is not the class 1
    if below or "" in found:
        what = f"the label {below[0]}" if below else "an image without a class"
        raise FigmentError(f"{where} holds {what}. Give each image one of the task's classes, or take it out.")
    label = dict(zip(found, match_classes(found, class_names, where), strict=True))
    return np.array([label[t] for t in texts], np.int64)


def check_range(labels: np.ndarray, n: int, where: object) -> np.ndarray:
    """The labels themselves. Raises FigmentError where one of them is none of ``n`` classes."""
    outside = labels[(labels < 0) | (labels >= n)]
    if len(outside):
        raise FigmentError(
            f"{where} holds the label {outside.min()}, which none of its {n} classes has (-1 means unlabelled)."
            f" Labels run from 0 to {n - 1}. Take those rows out."
        )
    return labels


def listed(names: Sequence[str], most: int = 8) -> str:
    shown = ", ".join(repr(n[:60]) for n in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")

"""The classes that images bring along, as labels of a task."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence

import numpy as np

from figment.errors import FigmentError, nearest
from figment.words import comparable

log = logging.getLogger(__name__)

#: How the column or field of an image's class may be called; names say more than numbers.
CLASS_COLUMNS = ("class_name", "class", "label")
WHOLE_NUMBER = re.compile(r"-?[0-9]{1,9}")


class OtherClasses(FigmentError):
    """The classes that images bring along, ``found``, are not those of the task."""

    def __init__(self, message: str, found: Sequence[str] = ()):
        super().__init__(message)
        self.found = list(found)


def normalised(name: str) -> str:
    return comparable(name.replace("_", " ").replace("-", " "))


def match_classes(found: Sequence[str], class_names: Sequence[str], where: object) -> list[int]:
    """The task's label of each class found in ``where``. Raises OtherClasses where the two sets differ."""
    exact = {n: i for i, n in enumerate(class_names)}  # wins where two names differ by a hyphen alone
    wanted = {normalised(n): i for i, n in enumerate(class_names)}
    labels = [exact.get(n, wanted.get(normalised(n), -1)) for n in found]
    missing = [n for i, n in enumerate(class_names) if i not in labels]
    strange = [n for n, label in zip(found, labels, strict=True) if label < 0]
    if missing or strange:
        hint = nearest(normalised(strange[0]), wanted) if strange else ""
        raise OtherClasses(
            f"The classes of {where} are not those of the task."
            + (f" Missing there: {listed(missing)}." if missing else "")
            + (f" Not in the task: {listed(strange)}.{hint}" if strange else "")
            + " Rename them there, or change task.class_names (case, spaces, hyphens and underscores do not matter)."
            + (_own_names(found) if len(strange) == len(class_names) and not hint else ""),
            found,
        )
    return labels


def _own_names(found: Sequence[str]) -> str:
    """How to say that these are names too, which none of the task's are like."""
    shown = ", ".join(repr(name[:40]) for name in found[:3]) + (", ..." if len(found) > 3 else "")
    return f" If these are what the data set calls the task's classes, say so in the order of class_names: task.own_names: [{shown}]"


def labels_of(values: Sequence[object], class_names: Sequence[str], where: object) -> np.ndarray:
    """The task's label of each image, ``int64 (N,)``, by :func:`labels_by_code`; ``values`` has a name or number for each."""
    codes: dict[object, int] = {}
    own = np.array([codes.setdefault(value, len(codes)) for value in map(_plain, values)], np.int64)
    return labels_by_code(own, list(codes), class_names, where)


def labels_by_code(own: np.ndarray, values: Sequence[object], class_names: Sequence[str], where: object) -> np.ndarray:
    """The task's label of each image, ``int64 (N,)``, whatever source it comes from: the image i is of the class ``values[own[i]]``.

    A class is a name of the task, or a number: its position among the names, from 0, which is said. Text that could be either
    is a name where the task has such a class. Raises FigmentError where an image has no class or another one, and where one of
    the task's classes has no image.
    """
    used = np.unique(own).tolist()
    check_range(np.array(used, np.int64), len(values), where)
    classes = [values[code] for code in used]
    found = ["" if value is None else str(value) for value in classes]
    if class_names and _are_numbers(classes, class_names):
        labels = _by_position([int(text) for text in found], class_names, where)
    else:
        below = [text for text in found if WHOLE_NUMBER.fullmatch(text) and text.startswith("-")]
        if below or "" in found:  # a hyphen does not matter in names, but -1 is not the class 1
            what = f"the label {below[0]}" if below else "an image without a class"
            raise FigmentError(f"{where} holds {what}. Give each image one of the task's classes, or take it out.")
        labels = match_classes(found, class_names, where)
    return np.array(labels, np.int64)[np.searchsorted(used, own)]


def _plain(value: object) -> object:
    """What can be a key: numbers stay numbers, True and the like are words."""
    return value if value is None or (isinstance(value, int) and not isinstance(value, bool)) else str(value)


def _are_numbers(values: Sequence[object], class_names: Sequence[str]) -> bool:
    names = {normalised(n) for n in class_names}
    named = [normalised(str(value)) in names for value in values]
    numbers = all(WHOLE_NUMBER.fullmatch(str(value)) for value in values)
    typed = all(isinstance(value, int) for value in values)
    return numbers and not (all(named) if typed else any(named))


def _by_position(numbers: Sequence[int], class_names: Sequence[str], where: object) -> list[int]:
    n, there = len(class_names), sorted(set(numbers))
    from_one = [str(i + 1) for i in range(n)]
    hint = " They count from 1, it seems." if [str(number) for number in there] == from_one else ""
    if len(there) == n and there[0] >= 0:
        hint += _own_names([str(number) for number in there])
    check_range(np.array(there, np.int64), n, where, hint)
    if missing := [class_names[i] for i in range(n) if i not in there]:
        raise FigmentError(
            f"The labels of {where} are numbers, read as positions in task.class_names from 0 ({_numbered(class_names)}), and of"
            f" {listed(missing)} there is no image. Give images of every class, or take the class out of the task."
            + (f" If the numbers count from 1:{_own_names(from_one)}" if 0 not in there else "")
        )
    log.info(
        f"the labels of {where} are numbers, read as positions in task.class_names from 0: {_numbered(class_names)}"
    )
    return list(numbers)


def _numbered(class_names: Sequence[str], most: int = 5) -> str:
    shown = ", ".join(f"{i} is {name[:40]}" for i, name in enumerate(class_names[:most]))
    return shown + (", ..." if len(class_names) > most else "")


def check_range(labels: np.ndarray, n: int, where: object, hint: str = "") -> np.ndarray:
    """The labels themselves. Raises FigmentError where one of them is none of ``n`` classes."""
    outside = labels[(labels < 0) | (labels >= n)]
    if len(outside):
        raise FigmentError(
            f"{where} holds the label {outside.min()}, which none of its {n} classes has (-1 means unlabelled)."
            f" Labels run from 0 to {n - 1}.{hint or ' Take those rows out.'}"
        )
    return labels


def listed(names: Sequence[str], most: int = 8) -> str:
    shown = ", ".join(repr(n[:60]) for n in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")

"""Images that cannot be read: one error each, and what a set of them means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from figment.errors import FigmentError
from figment.words import printable

#: Of the images of a split. A few broken files are bad luck; more are a broken copy, and the rest is no longer the set that was given.
MOST_UNREADABLE = 0.1
SHOWN = 5


class Unreadable(FigmentError):
    """One image that cannot be read: ``where`` it lies, the ``reason`` in a few words, and what to do about it."""

    def __init__(self, where: str, reason: str, advice: str = "Mend it or take it out."):
        super().__init__(where, reason, advice)
        self.where, self.reason, self.advice = where, reason, advice

    def __str__(self) -> str:
        return f"{self.where} is not an image that can be read: {self.reason}. {self.advice}"


def named(unreadable: Mapping[str, str], most: int = SHOWN) -> str:
    """The first few by name with their reasons, and how many more: ``cat/1.jpg (cut off), cat/7.jpg (empty) and 12 more``."""
    shown = ", ".join(f"{printable(name)[-80:]} ({reason})" for name, reason in list(unreadable.items())[:most])
    return shown + (f" and {len(unreadable) - most:,} more" if len(unreadable) > most else "")


def check_enough_is_left(
    unreadable: Mapping[str, str], before: np.ndarray, after: np.ndarray, class_names: Sequence[str], where: str
) -> None:
    """Raise FigmentError, naming images, where too many are unreadable: more than a tenth, or all of one class.

    ``before`` and ``after`` are the labels with and without them.
    """
    for label in sorted(set(before.tolist()) - set(after.tolist())):
        raise FigmentError(
            f"Not one of the {(before == label).sum():,} images of {class_names[label][:60]!r} in {where} can be read:"
            f" {named(unreadable)}. Mend them, or take the class out of the task."
        )
    if len(unreadable) > MOST_UNREADABLE * len(before):
        raise FigmentError(
            f"{len(unreadable):,} of the {len(before):,} images in {where} cannot be read: {named(unreadable)}."
            " That is more than a tenth. Mend them or take them out."
        )

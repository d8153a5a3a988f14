"""This machine: in the process itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Local:
    """Works on one piece after another in this process."""

    def __init__(self, workers: int = 1):
        self.workers = workers

    def __call__(
        self, job: Callable[[T, Callable[[int], None]], R], work: Sequence[T], advance: Callable[[int], Any]
    ) -> Iterator[tuple[T, R]]:
        for piece in work:
            yield piece, job(piece, advance)

"""Memory that runs out: work goes on in smaller portions, and where none is small enough one paragraph says what would fit."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

from figment.device import failure, free_memory, is_out_of_memory
from figment.errors import FigmentError

T = TypeVar("T")

#: What cuDNN and cuBLAS say where they were given no memory to work in: they rarely name it.
_DISGUISED = re.compile(
    r"unable to find an engine|_STATUS_(ALLOC_FAILED|NOT_INITIALIZED|INTERNAL_ERROR|EXECUTION_FAILED)"
)


def seems_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, or a library fails as it does when memory has run out."""
    return is_out_of_memory(error) or _DISGUISED.search(str(error)) is not None


def in_portions(work: Callable[[int, int], T], n: int, most: int, device: torch.device) -> tuple[list[T], int]:
    """What ``work(start, end)`` gives of [0, n), ``most`` at a time, or half as many after each time that it fails; and how many at a
    time that came to.

    Whatever fails is tried in less, as memory that runs out rarely says so (`seems_out_of_memory`). Raises what ``work`` raises for a
    single one, and for a device that failed.
    """
    made: list[T] = []
    done = 0
    while done < n:
        end = min(done + most, n)
        part = _attempt(work, done, end)
        if part:
            made += part
            done = end
        else:
            most = (end - done) // 2
            free_memory(device)
    return made, most


def _attempt(work: Callable[[int, int], T], start: int, end: int) -> list[T]:
    """Empty where fewer at a time may fit."""
    try:
        return [work(start, end)]
    except (RuntimeError, MemoryError) as error:
        if end - start == 1 or failure(error):
            raise
        return []  # what was at work lives in the error's traceback, and goes with it


@contextmanager
def enough_memory(what: str, mend: str) -> Iterator[None]:
    """Raises FigmentError where memory runs out inside: it did while ``what``, and ``mend`` is what to do. So it does for a device that
    failed."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if lost := failure(error, "take another device"):
            raise lost from error
        if not seems_out_of_memory(error):
            raise
        said = ". ".join(" ".join(str(error).split("\n")[0].split()).split(". ")[:2])[:200].rstrip(".")
        raise FigmentError(f"Out of memory while {what}{f' ({said})' if said else ''}. {mend}") from error

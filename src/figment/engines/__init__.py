"""Where shards are worked on: in this process, in one process a device, or on a Ray cluster.

An engine maps a function over independent pieces of work and hands back what comes of each, in whatever order they end.
It knows nothing of images. What is made does not depend on the engine; only the time does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

from figment.engines.behind import Later
from figment.engines.local import Local

T = TypeVar("T")
R = TypeVar("R")


class Engine(Protocol):
    """Maps ``job(work, advance)`` over pieces of work."""

    def __call__(
        self, job: Callable[[T, Callable[[int], None]], R | Later[R]], work: Sequence[T], advance: Callable[[int], Any]
    ) -> Iterator[tuple[T, R]]:
        """Each piece with its result, as they end. ``advance`` is told the units of progress that jobs report. A job may hand back a
        :class:`~figment.engines.behind.Later`: then the worker may begin with its next piece while what is left of this one is done.

        A worker that dies costs the piece it was at, which is given to another; one that fails is tried again after a rest, and given up
        after some times. Raises FigmentError as soon as a job does, unless others may do better (see :mod:`figment.engines.todo`), and at the
        end for what was given up.
        """
        ...


__all__ = ["Engine", "Later", "Local"]

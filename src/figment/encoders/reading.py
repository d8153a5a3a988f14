"""Images read and decoded for an encoder, and prepared by worker processes where that takes long, so that the encoder does not wait."""

from __future__ import annotations

import logging
import pickle
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import current_process
from typing import Any

import numpy as np

from figment.errors import FigmentError
from figment.images_in import Unreadable
from figment.images_in.ahead import ahead
from figment.machine import cores
from figment.types import Images

log = logging.getLogger(__name__)

TRIAL = 64  # images that are read in this process first, to see how long the rest would take; and what is asked for together
WORTH = 5.0  # seconds of reading from which on workers pay: they take a tenth of one to start
MOST_WORKERS = 16
PORTION_BYTES = 2**28  # of decoded images at a time: a thousand photographs of 12 megapixels would be 36 GB

Read = tuple[int, np.ndarray | FigmentError]  # the position of an image, and what came of it


class Reader:
    """The images at the positions ``wanted``, each decoded once, in portions of ``most`` images or about ``PORTION_BYTES``.

    Iterating gives positions and arrays: ``uint8 (H, W, 3)``, or in later portions what ``prepare`` makes of one, where workers do that.
    What cannot be read goes to ``failed``, position -> error.
    """

    def __init__(
        self, images: Images, wanted: Sequence[int], most: int, prepare: Callable[[np.ndarray], np.ndarray] | None
    ):
        self.images, self.wanted, self.most, self.prepare = images, list(wanted), most, prepare
        self.failed: dict[int, Unreadable] = {}
        self.workers = 0  # that were hired

    def __iter__(self) -> Iterator[tuple[list[int], list[np.ndarray]]]:
        source = _Source(self.images)
        yield from self._portions(_here(source, self.wanted[:TRIAL]))
        rest = self.wanted[TRIAL:]
        if self.prepare is None or not _pays(source.seconds / TRIAL * len(rest)):
            yield from self._portions(_here(source, rest))
            return
        self.workers = min(MOST_WORKERS, cores())
        yield from self._portions(_by_workers(_Source(self.images, self.prepare), rest, self.workers))

    def _portions(self, read: Iterator[Read]) -> Iterator[tuple[list[int], list[np.ndarray]]]:
        index, arrays, size = [], [], 0
        for i, found in read:
            if isinstance(found, Unreadable):
                self.failed[i] = found
                continue
            if isinstance(found, FigmentError):
                raise found
            if not self.images.digests[i]:
                self.failed[i] = Unreadable(self.images.ids[i], "it came while the others were being read")
                continue
            index.append(i)
            arrays.append(found)
            size += found.nbytes
            if len(index) == self.most or size > PORTION_BYTES:
                yield index, arrays
                index, arrays, size = [], [], 0
        if index:
            yield index, arrays


class _Source:
    def __init__(self, images: Images, prepare: Callable[[np.ndarray], np.ndarray] | None = None):
        self.images, self.prepare = images, prepare
        self.seconds = 0.0  # that reading has taken

    def __getitem__(self, index: int) -> np.ndarray | FigmentError:
        """An error is a value: what a worker raises comes with the worker's traceback in its text."""
        started = time.perf_counter()
        try:
            (image,) = self.images.load([index])
            return image if self.prepare is None else self.prepare(image)
        except FigmentError as error:
            return error
        finally:
            self.seconds += time.perf_counter() - started


def _here(source: _Source, wanted: Sequence[int]) -> Iterator[Read]:
    """In this process."""
    for at in range(0, len(wanted), TRIAL):
        ahead(source.images, wanted[at : at + 2 * TRIAL])  # this portion, and the next one while it is decoded
        yield from ((i, source[i]) for i in wanted[at : at + TRIAL])


def _pays(seconds: float) -> bool:
    """Whether workers are worth hiring for so much to read. A daemon may have no children."""
    return seconds > WORTH and cores() > 1 and not current_process().daemon


def _by_workers(source: _Source, wanted: list[int], workers: int) -> Iterator[Read]:
    """In order. Arrays and no tensors come from the workers: each tensor would hold an open file for as long as it is kept."""
    import torch
    from torch.utils.data import DataLoader

    loader: Any = DataLoader(
        source,  # type: ignore[arg-type]  # the sampler says what there is
        sampler=wanted,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=4,
        collate_fn=_as_it_is,
        generator=torch.Generator(),  # workers' seeds are not drawn from the one that everybody uses
        multiprocessing_context="fork",  # an encoder need not be written down and read again
        worker_init_fn=_with_files_of_its_own,
    )
    done = 0
    try:
        for i, found in zip(wanted, loader, strict=True):
            done += 1
            yield i, found
    except RuntimeError as error:  # DataLoader's, where the system has killed a worker
        if not str(error).startswith("DataLoader worker (pid"):
            raise
        log.warning(
            "A process that read images was killed, probably since memory ran out; the rest is read without others."
        )
        yield from _here(source, wanted[done:])


def _with_files_of_its_own(worker: int) -> None:
    """A worker's images as they are after a pickle: connections to an object store, and open files, do not survive a fork."""
    from torch.utils.data import get_worker_info

    source: Any = get_worker_info().dataset  # type: ignore[union-attr]
    source.images = pickle.loads(pickle.dumps(source.images))


def _as_it_is(found: Any) -> Any:
    return found

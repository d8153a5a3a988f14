"""Paths in object stores that tell a store which does not answer from one that holds nothing.

fsspec's ``isfile``, and ``exists`` of some stores, are false for a file that cannot be asked for: no network, a server that is away,
one that wants fewer requests. Whoever believes that makes again what is there. A store that only wants fewer requests is waited for.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from upath.extensions import ProxyUPath

from figment.errors import FigmentError, Unreachable
from figment.words import one_line

log = logging.getLogger(__name__)

T = TypeVar("T")

PATIENCE = 300.0  # seconds for a store that wants fewer requests; s3fs by itself waits for some two
PAUSES = 1.0, 30.0  # the first, which doubles, and the longest
BORN_IN = os.getpid()
AT_ONCE = 32  # requests: a store that answers after 30 ms then answers a thousand a second
BUSY = (429, 503)  # HTTP: too many requests; S3's SlowDown


@contextmanager
def reached(where: object) -> Iterator[None]:
    """Turn what stores raise into one paragraph; what is not there is the caller's affair. Raises Unreachable."""
    try:
        yield
    except (FigmentError, FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError):
        raise
    except Exception as error:  # each store has errors of its own
        raise Unreachable(
            f"{where} cannot be reached ({one_line(f'{type(error).__name__}: {error}')[:300].rstrip('.')}). Is there a network, does"
            " the bucket exist, are its address and the keys right, or does the store want fewer requests? What is there is"
            " safe; the same command again goes on from there."
        ) from error


def is_busy(error: BaseException | None) -> bool:
    """Whether a store wants fewer requests. Each library says so in its own way: s3fs by errno, others by the status of HTTP."""
    while error is not None:
        told = (getattr(error, name, None) for name in ("status", "status_code", "code"))
        response = getattr(error, "response", None)  # botocore's
        meta = response.get("ResponseMetadata", {}) if isinstance(response, dict) else {}
        if getattr(error, "errno", None) == errno.EBUSY or {*BUSY} & {*told, meta.get("HTTPStatusCode")}:
            return True
        error = error.__cause__
    return False


def patiently(ask: Callable[[], T], where: object) -> T:
    """The answer of a store that may want fewer requests: asked again after pauses that grow, and that differ from one who asks to
    another, so that a thousand of them do not come back at once. Raises what the store does, where it is another matter or lasts."""
    pause, longest = PAUSES
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return ask()
        except Exception as error:
            if not is_busy(error) or time.monotonic() + pause > deadline:
                raise
        if pause >= longest / 4:
            log.warning(f"{where}: the store wants fewer requests; asking again in {pause:.0f} s")
        time.sleep(random.uniform(pause / 2, pause))
        pause = min(2 * pause, longest)


class StorePath(ProxyUPath):
    """A :class:`upath.UPath` whose questions have an answer, or raise FigmentError."""

    __slots__ = ()

    @property
    def fs(self) -> Any:
        """The store, by connections of this process's own: they do not survive a fork."""
        own: Any = super().fs
        return own if os.getpid() == BORN_IN else type(own)(*own.storage_args, **own.storage_options)  # fsspec keeps it

    def is_file(self) -> bool:
        return self._is("file")

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        return self._is("file", "directory")

    def is_dir(self) -> bool:
        return self._asked(super().is_dir)

    def stat(self, *, follow_symlinks: bool = True) -> Any:
        return self._asked(super().stat)

    def iterdir(self) -> Iterator[Any]:
        return iter(self._asked(lambda: list(super(StorePath, self).iterdir())))

    def names(self) -> list[str]:
        """Of what lies in this folder."""
        places = self._asked(lambda: self.fs.ls(self.path, detail=False))
        return [place.rstrip("/").rpartition("/")[2] for place in places]

    def glob(self, pattern: str, **options: Any) -> Iterator[Any]:
        return iter(self._asked(lambda: list(super(StorePath, self).glob(pattern, **options))))

    def rglob(self, pattern: str, **options: Any) -> Iterator[Any]:
        return iter(self._asked(lambda: list(super(StorePath, self).rglob(pattern, **options))))

    def open(self, *args: Any, **options: Any) -> Any:
        return self._asked(lambda: super(StorePath, self).open(*args, **options))

    def unlink(self, missing_ok: bool = False) -> None:
        self._asked(lambda: super(StorePath, self).unlink(missing_ok))

    def read_text(self, encoding: str | None = None, errors: str | None = None, newline: str | None = None) -> str:
        return io.TextIOWrapper(io.BytesIO(self.read_bytes()), encoding, errors, newline).read()

    def read_bytes(self) -> bytes:
        """In one request: old or new, while another process writes it."""
        return self.read_range(None, None)

    def read_range(self, start: int | None, end: int | None) -> bytes:
        """The bytes from ``start`` to before ``end``."""
        return self._asked(lambda: self.fs.cat_file(self.path, start=start, end=end))

    def put(self, data: bytes, mode: str = "overwrite") -> None:
        """Write the whole of it, in one request. Raises what the store does: whoever writes says what that means."""
        patiently(lambda: self.fs.pipe_file(self.path, data, mode=mode), self)

    def _is(self, *kinds: str) -> bool:
        try:
            return self._asked(lambda: self.fs.info(self.path)["type"]) in kinds
        except FileNotFoundError:
            return False

    def _asked(self, ask: Callable[[], T]) -> T:
        with reached(self):
            return patiently(ask, self)

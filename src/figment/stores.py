"""Paths in object stores that tell a store which does not answer from one that holds nothing.

fsspec's ``isfile``, and ``exists`` of some stores, are false for a file that cannot be asked for: no network, a server that is away,
one that wants fewer requests. Whoever believes that makes again what is there.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from upath.extensions import ProxyUPath

from figment.errors import FigmentError
from figment.words import one_line


@contextmanager
def reached(where: object) -> Iterator[None]:
    """Turn what stores raise into one paragraph; what is not there is the caller's affair. Raises FigmentError."""
    try:
        yield
    except (FigmentError, FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError):
        raise
    except Exception as error:  # each store has errors of its own
        raise FigmentError(
            f"{where} cannot be reached ({one_line(f'{type(error).__name__}: {error}')[:300].rstrip('.')}). Is there a network, does"
            " the bucket exist, are its address and the keys right, or does the store want fewer requests? What is there is"
            " safe; the same command again goes on from there."
        ) from error


class StorePath(ProxyUPath):
    """A :class:`upath.UPath` whose questions have an answer, or raise FigmentError."""

    __slots__ = ()

    def is_file(self) -> bool:
        return self._is("file")

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        return self._is("file", "directory")

    def is_dir(self) -> bool:
        with reached(self):
            return super().is_dir()

    def stat(self, *, follow_symlinks: bool = True) -> Any:
        with reached(self):
            return super().stat()

    def iterdir(self) -> Iterator[Any]:
        with reached(self):
            return iter(list(super().iterdir()))

    def glob(self, pattern: str, **options: Any) -> Iterator[Any]:
        with reached(self):
            return iter(list(super().glob(pattern, **options)))

    def rglob(self, pattern: str, **options: Any) -> Iterator[Any]:
        with reached(self):
            return iter(list(super().rglob(pattern, **options)))

    def open(self, *args: Any, **options: Any) -> Any:
        with reached(self):
            return super().open(*args, **options)

    def unlink(self, missing_ok: bool = False) -> None:
        with reached(self):
            super().unlink(missing_ok)

    def read_text(self, encoding: str | None = None, errors: str | None = None, newline: str | None = None) -> str:
        return io.TextIOWrapper(io.BytesIO(self.read_bytes()), encoding, errors, newline).read()

    def read_bytes(self) -> bytes:
        """In one request: old or new, while another process writes it."""
        return self.read_range(None, None)

    def read_range(self, start: int | None, end: int | None) -> bytes:
        """The bytes from ``start`` to before ``end``."""
        with reached(self):
            return self.fs.cat_file(self.path, start=start, end=end)

    def _is(self, *kinds: str) -> bool:
        try:
            with reached(self):
                return self.fs.info(self.path)["type"] in kinds
        except FileNotFoundError:
            return False

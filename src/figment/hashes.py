"""The hash of a large file, read once: it is kept in the user's cache for as long as the file stays what it was."""

from __future__ import annotations

import hashlib
import os
import time
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from figment.errors import FigmentError
from figment.files import cache_folder, load_json, write_json
from figment.records import fingerprint

LARGE = 2**20  # bytes: smaller files are read as soon as what was kept of them
#: Nanoseconds that a file must have been left alone: some disks tell times apart by two seconds, and a file that is written to
#: again sooner would look the same.
SETTLED = 2 * 10**9

State = tuple[int, int, int, int]  # size in bytes, mtime and ctime in nanoseconds, inode
About = list[str | int]  # the real path, and the state


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex. A model of 34 GB takes 90 seconds, at every command and for each of twenty arms.

    What is kept is believed where real path, size, times and inode are the same, and only for speed: where the cache cannot be
    read or written, or is damaged, the file is read.
    """
    return _hash_once(path.resolve(), _state(path.stat()))


def _state(stat: os.stat_result) -> State:
    # ctime: what a copy that keeps sizes and mtimes cannot set back
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino


@lru_cache(maxsize=4096)
def _hash_once(path: Path, state: State) -> str:
    if state[0] < LARGE:
        return _read(path)[0]
    about: About = [str(path), *state]
    if (known := _known(about)) is not None:
        return known
    began = time.time_ns()
    found, after = _read(path)
    if after == state and began - max(state[1:3]) > SETTLED:
        _keep(about, found)
    return found


def _place(about: About) -> Path:
    """One a path: the hash of a file that has changed goes over that of before."""
    return cache_folder() / "hashes" / f"{fingerprint(about[0])}.json"


def _known(about: About) -> str | None:
    """What was kept of a file; None where nothing was, the file has changed, or it is not what was written."""
    with suppress(OSError, RuntimeError, ValueError, FigmentError):  # RuntimeError: nobody has a home here
        told = load_json(_place(about), "record")
        if isinstance(told, dict) and told.get("checksum") == fingerprint([about, told.get("sha256")]):
            return str(told["sha256"])
    return None


def _keep(about: About, found: str) -> None:
    """Whole or not at all, whoever else writes it; not where the cache cannot be written to."""
    with suppress(OSError, RuntimeError, FigmentError):
        write_json(_place(about), {"file": about, "sha256": found, "checksum": fingerprint([about, found])})


def _read(path: Path) -> tuple[str, State]:
    """A file's hash, and what the file was when it had been read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), _state(os.fstat(file.fileno()))

"""Files, on a local disk or anywhere fsspec reaches (``s3://``, ``gs://``, ``hf://`` ...), written so that they are never half.

A remote path is a :class:`figment.stores.StorePath`, which has the methods of a :class:`pathlib.Path`; both are called Path here.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import stat
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from figment import guard
from figment.errors import FigmentError, Unreachable

AN_ADDRESS = re.compile(r"[A-Za-z][\w+.:-]*://")
#: ``s3://`` without a bucket, ``s3:/bucket`` and ``s3:bucket``, which would be folders on this disk.
HALF_AN_ADDRESS = re.compile(r"(?P<protocol>s3a?|gs|gcs|abfss?|az|adl|hf|https?|hdfs|webhdfs):(?!//[^/])")
LEASE_BEAT = 5.0  # seconds between two signs of life of a run on a remote folder
REFUSALS = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP}
REFUSALS |= {errno.ENAMETOOLONG}
#: What a lock file holds that figment made itself: only such a one is ever taken away.
LOCK_TEXT = b"figment locks this folder by this file while it works in it.\n"
TEMPORARY = re.compile(r"\.(?P<name>.+)\.(?P<own>[0-9a-f]{8})(?P<seal>[0-9a-f]{8})\.tmp", re.DOTALL)
LEASE = re.compile(rb"[0-9a-f]{32} \d+")
AGAIN = "What was finished before is safe; run the same command again and it goes on from there."


# ---- where ----------------------------------------------------------------------------------------------------------


def as_path(where: str | Path) -> Path:
    """A local path, or a remote one for ``protocol://...``. Raises FigmentError for a protocol that cannot be spoken here, and for
    an address that is only half one."""
    text = str(where)
    if half := HALF_AN_ADDRESS.match(text):
        raise FigmentError(
            f"{text} is half an address: after {half['protocol']}: come two slashes and the name of a bucket, such as"
            f" {half['protocol']}://bucket/run. A folder of that name here is ./{text}."
        )
    if not AN_ADDRESS.match(text) or text.startswith("file://"):
        try:
            return Path(text.removeprefix("file://")).expanduser()
        except RuntimeError as error:
            raise FigmentError(f"{text} cannot be reached: there is no home folder of that name here.") from error
    from figment.stores import StorePath

    try:
        # Other machines write into the same folder, so what was listed a minute ago says nothing.
        path = StorePath(text, use_listings_cache=False)
        _ = path.fs
    except (ImportError, ValueError) as error:
        raise FigmentError(
            f"{text} cannot be reached: {str(error).rstrip('.')}. Storage like this is spoken by packages of its own:"
            " pip install s3fs for s3://, gcsfs for gs://, adlfs for az://. Or give a local folder."
        ) from error
    return cast(Path, path)


def cache_folder() -> Path:
    """What figment keeps for later runs, of whatever recipe: ``XDG_CACHE_HOME`` says where, as for other programs. All of it may be
    deleted at any time. Raises RuntimeError where nobody has a home."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "figment"


def is_remote(path: Path) -> bool:
    return hasattr(path, "fs")


def names_in(folder: Path) -> list[str]:
    """The names of what lies in a folder, in any order; none where there is no folder. Nothing is opened, nor asked about one by one."""
    try:
        return cast(Any, folder).names() if is_remote(folder) else os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []


def read_bytes(path: Path, kind: str | None = None) -> bytes:
    """The whole of a file, in one request where it is remote: old or new, while another process writes it.

    ``kind`` is what it should be, of :data:`figment.guard.MOST`; without one it may have any size. Raises FigmentError for
    what is no file or too large, which is not opened, and OSError (object stores: errors of their own) for the rest.
    """
    if is_remote(path):
        if kind is not None:
            guard.check_size(path.stat().st_size, path, kind)
    else:
        guard.check(path, kind)
    return path.read_bytes()


def read_text(path: Path, kind: str) -> str:
    """A file of UTF-8 as text, with or without the mark that Windows puts in front. Raises as :func:`read_bytes`, and ValueError."""
    return read_bytes(path, kind).decode("utf-8-sig")


def load_json(path: Path, kind: str) -> Any:
    """A JSON file from outside. Raises as :func:`read_bytes` and :func:`figment.guard.parse_json` do."""
    return guard.parse_json(read_bytes(path, kind), path, kind)


def read_range(path: Path, start: int, length: int) -> bytes:
    """``length`` bytes of a remote file from ``start``."""
    return cast(Any, path).read_range(start, start + length)


def open_parquet(path: Path) -> pq.ParquetFile:
    """The footer is read, the rows are not. Raises what pyarrow raises for a damaged file: see :func:`legible`."""
    if is_remote(path):
        remote = cast(Any, path)
        from figment.stores import patiently

        ask = partial(pq.ParquetFile, remote.path, filesystem=remote.fs, page_checksum_verification=True)
        return patiently(ask, path)
    guard.check(path)
    return pq.ParquetFile(path, page_checksum_verification=True)


@contextmanager
def legible(path: Path) -> Iterator[None]:
    """Turn what is raised on reading a damaged file of ours into one paragraph that says how to mend it."""
    try:
        yield
    except FigmentError:
        raise
    except Exception as error:
        if not (is_remote(path) or isinstance(error, OSError | pa.ArrowException | ValueError)):
            raise  # object stores have errors of their own
        reason = " ".join(str(error).split())[:200]
        raise FigmentError(
            f"{path} cannot be read: {reason.rstrip('.')}. Look for more with: figment verify DIR, where DIR is the folder"
            " of the run. Then figment repair DIR makes again what is broken, and nothing else."
        ) from error


# ---- writing that survives -------------------------------------------------------------------------------------------


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals into one paragraph that says what is safe and what to do."""
    try:
        yield
    except FigmentError:
        raise
    except Exception as error:
        if is_remote(path):  # object stores have errors of their own
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise Unreachable(
                f"Cannot write to {path.parent} ({reason.rstrip('.')}). Check that the bucket exists, that it can be reached and that the keys are right. {AGAIN}"
            ) from error
        if not isinstance(error, OSError):
            raise
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise FigmentError(
                f"No space left on the disk of {path.parent} while writing {path.name}. Free some space. {AGAIN}"
            ) from error
        if error.errno in REFUSALS:
            reason, where = os.strerror(error.errno).lower(), path if error.errno == errno.EISDIR else path.parent
            raise FigmentError(
                f"Cannot write to {where}: {reason}. Choose another place, or change its permissions."
            ) from error
        raise


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that it is either the old one or the whole new one.

    On a disk: a temporary name, sync, rename. In an object store putting an object is atomic by itself.
    """
    with explained(path):
        if is_remote(path):
            cast(Any, path).put(data)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_of(path)
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)  # a full disk needs the room
            raise
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the rename itself must survive a power cut
        finally:
            os.close(folder)


def remove(path: Path) -> None:
    """Take away a file of ours, if it is there. Raises FigmentError where that is refused, as for a folder in its place."""
    with explained(path):
        path.unlink(missing_ok=True)


def move(path: Path, to: Path) -> None:
    """Give a file of ours another name beside it, in the place of what has that name; where nothing can be renamed it is copied first."""
    with explained(path):
        if is_remote(path):
            from figment.stores import patiently

            store = cast(Any, path).fs
            patiently(lambda: store.mv(cast(Any, path).path, cast(Any, to).path), path)
        else:
            os.replace(path, to)


def clear(folder: Path, pattern: str) -> None:
    """Take away what was kept in a folder for a while, what a killed writer left half written there, and the folder itself, unless
    somebody else's file lies in it."""
    for path in [*folder.glob(pattern), *leftovers(folder)]:
        remove(path)
    if not is_remote(folder):
        with suppress(OSError):  # something lies in it, or it is not there
            folder.rmdir()


def write_json(path: Path, value: Any) -> None:
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n"
    write_atomic(path, text.encode(errors="backslashreplace"))  # half a surrogate pair becomes JSON's own escape of it


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file of ours. Raises FigmentError for one that is not there or damaged."""
    with legible(path):
        return load_json(path, "record")


def temporary_of(path: Path) -> Path:
    """The name of what is to become ``path``, beside it, another each time: a worker given up for lost may still be writing.

    It carries a checksum of itself, by which :func:`leftovers` tells it from a file of the user's that looks alike.
    """
    name, own = path.name[-150:], uuid.uuid4().hex[:8]
    return path.with_name(f".{name}.{own}{_seal(name, own)}.tmp")


def is_temporary(path: Path) -> bool:
    """Whether only figment can have named a file so."""
    found = TEMPORARY.fullmatch(path.name)
    return found is not None and _seal(found["name"], found["own"]) == found["seal"]


def _seal(name: str, own: str) -> str:
    return hashlib.sha256(f"figment {own} {name}".encode(errors="surrogateescape")).hexdigest()[:8]


def leftovers(folder: Path) -> list[Path]:
    """Temporary files of writers of ours that were killed."""
    return sorted(path for path in folder.glob(".*.tmp") if is_temporary(path))


# ---- one run at a time -----------------------------------------------------------------------------------------------

_locks: set[int] = set()  # files of the locks that this process holds


def _hold_no_locks() -> None:
    """A worker that reads images is a fork, and has the open files of its parent. It may outlive a parent that was killed, waiting
    for a slow disk say, and a lock is held until the last of those who have its file open has closed it."""
    while _locks:
        os.close(_locks.pop())


os.register_at_fork(after_in_child=_hold_no_locks)


@contextmanager
def lock(folder: Path, part: str = "", wait: bool = False) -> Iterator[None]:
    """Hold a folder: a second run on it is told so instead of harming the first. Freed when the process ends.

    With a ``part``, such as ``"3-of-16"``, several processes may hold one folder, each another part; none of them while
    a whole run holds it (in object stores a part and a whole run do not see each other; what they write is the same).
    Processes that are forked or started in here do not hold it. With ``wait``, one who comes second waits for the first.
    """
    if is_remote(folder):
        with _lease(folder / (f".lock-{part}" if part else ".lock"), folder, wait):
            yield
        return
    import fcntl

    files: list[int] = []
    try:
        with explained(folder / ".lock"):
            folder.mkdir(parents=True, exist_ok=True)
            files.append(_lock_file(folder / ".lock"))
            if part:
                files.append(_lock_file(folder / f".lock-{part}"))
        now = 0 if wait else fcntl.LOCK_NB
        try:
            fcntl.flock(files[0], (fcntl.LOCK_SH if part else fcntl.LOCK_EX) | now)
            if part:
                fcntl.flock(files[1], fcntl.LOCK_EX | now)
        except BlockingIOError as error:
            raise _held(folder) from error
        yield
    finally:
        for file in _locks.intersection(files):  # in a fork there is none left
            _locks.remove(file)
            os.close(file)


def _lock_file(path: Path) -> int:
    """Open the file that stands for a lock, made where it is missing. One that is there is never written to, and no link is followed."""
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        _locks.add(file)
        os.write(file, LOCK_TEXT)
        return file
    except FileExistsError:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            raise FigmentError(
                f"{path} is a link, or no file. figment locks the folder by a file of that name and follows no link there."
                " Move it away, or choose another folder with --out."
            ) from None
    file = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    _locks.add(file)
    return file


def give_up_lock(folder: Path) -> None:
    """Take away the file of a lock on a local folder that is handed on, if figment made it."""
    path = folder / ".lock"
    if not is_remote(folder) and is_own_lock(path):
        path.unlink(missing_ok=True)


def is_own_lock(path: Path) -> bool:
    """Whether a local file is a lock that figment made: by what it holds, not by its name."""
    return path.is_file() and path.stat().st_size == len(LOCK_TEXT) and path.read_bytes() == LOCK_TEXT


def _held(folder: Path) -> FigmentError:
    return FigmentError(
        f"Another figment is working in {folder}. Wait for it to end, or choose another folder with --out."
    )


@contextmanager
def _lease(path: Path, folder: Path, wait: bool) -> Iterator[None]:
    """A lock for object stores, which have none: an object that only one can create, rewritten as a sign of life.

    One that does not change for three beats belongs to the dead and is taken over. No clock is compared with another's.
    """
    name, ended = uuid.uuid4().hex.encode(), threading.Event()
    with explained(path):
        _take(path, name, folder, wait)

    def beat() -> None:
        count = 0
        while not ended.wait(LEASE_BEAT):
            count += 1
            with suppress(Exception):  # the next beat may get through
                if not _content(path).startswith(name):
                    return  # taken over, after a sleep of this machine say: it is another's now
                write_atomic(path, b"%s %d" % (name, count))

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        with suppress(Exception):  # it is found dead in a while
            if _content(path).startswith(name):
                path.unlink(missing_ok=True)


def _take(path: Path, name: bytes, folder: Path, wait: bool) -> None:
    """Create a lease, where there is one already in place of it if its owner is dead."""
    took_over = False
    while True:
        if _create(path, name + b" 0"):
            if not took_over:
                return
            time.sleep(LEASE_BEAT)  # who found the same owner dead may have removed ours in the same moment
            if _content(path).startswith(name):
                return
        dead = _unchanged(path)
        if dead and not LEASE.fullmatch(dead):
            raise FigmentError(
                f"{path} is no lease of figment's, which locks the folder by an object of that name. Move it away, or choose another"
                " folder with --out."
            )
        if dead is None:
            if not wait:
                raise _held(folder)
        elif dead and _content(path) == dead:
            path.unlink(missing_ok=True)
            took_over = True


def _create(path: Path, data: bytes) -> bool:
    """Make an object; False where it is there already."""
    try:
        cast(Any, path).put(data, mode="create")
    except FileExistsError:
        return False
    return True


def _unchanged(path: Path) -> bytes | None:
    """What a lease holds if that does not change for three beats; None of one that lives, nothing of one given back."""
    before = _content(path)
    for _ in range(6):
        time.sleep(LEASE_BEAT / 2)
        now = _content(path)
        if not now or now != before:
            return None if now else b""
    return before


def _content(path: Path) -> bytes:
    try:
        return read_bytes(path)
    except FileNotFoundError:
        return b""

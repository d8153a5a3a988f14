"""A folder that is written to once: never over what is there, and finished by the same command if interrupted."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from figment import files, records
from figment.errors import FigmentError
from figment.layout import EXPORT
from figment.records import Record, Written

STARTED = ".figment-started.json"  # which export this is going to be


def fill_folder(out: Path, identity: dict[str, Any], write: Callable[[bool], None]) -> bool:
    """Call ``write(resuming)`` unless ``out`` holds this very export already; whether anything was written.

    Raises FigmentError where the folder holds anything else.
    """
    record = Record(out, "export", {"format": identity["format"]}, {"source": identity["fingerprint"]}, EXPORT)
    _begun(out, record)  # before the lock, so that what is somebody else's does not even get one
    with files.lock(out):
        begun = _begun(out, record)
        if record.is_finished():
            return False
        files.write_atomic(out / STARTED, _mark(record))
        for path in out.rglob(".*.tmp"):
            if files.is_temporary(path):
                files.remove(path)
        write(begun)
        record.finish({name: Written.of(files.read_bytes(out / name)) for name in _names(out)})
        files.remove(out / STARTED)
        files.give_up_lock(out)  # the folder is handed on
    return True


def _begun(out: Path, record: Record) -> bool:
    """Whether this very export was begun in a folder, or finished; False for one that is empty.

    Raises FigmentError for what holds anything else. A mark that was cut short while it was written says nothing, and is in
    nobody's way.
    """
    found, mark, whole = records.read(out, EXPORT), _read_mark(out), _mark(record)
    if found.state == "none" and mark != whole and whole.startswith(mark or b""):
        _check_empty(out)
        return False
    if record.fingerprint != found.data.get("fingerprint") and mark != whole:
        raise FigmentError(
            f"{out} holds another export: of other images, with other verdicts, in another format, signed otherwise, or by another version of figment. Nothing was changed."
            " Choose another folder with --out, or move that one away yourself."
        )
    return True


def _mark(record: Record) -> bytes:
    return (json.dumps({"fingerprint": record.fingerprint}, indent=2) + "\n").encode()


def _read_mark(out: Path) -> bytes | None:
    try:
        return files.read_bytes(out / STARTED, "record")
    except FileNotFoundError:
        return None
    except NotADirectoryError as error:
        raise FigmentError(
            f"Cannot write to {out}: it is or lies below a file. Choose another folder with --out."
        ) from error


def _names(out: Path) -> list[str]:
    """All files of the export, by their ways from its folder."""
    found = (p for p in out.rglob("*") if p.is_file() and not p.name.startswith("."))
    return sorted(p.relative_to(out).as_posix() for p in found)


def _check_empty(out: Path) -> None:
    there = out.iterdir() if out.is_dir() else ()
    other = next((p.name for p in sorted(there) if not _is_own(p)), None)
    if other is not None:
        raise FigmentError(
            f"{out} is not empty: it holds {other!r}. Nothing was written; an export never goes over what is there."
            " Choose a new folder with --out."
        )


def _is_own(path: Path) -> bool:
    """What an export that was stopped at its very beginning leaves: its lock, perhaps still empty, and its mark, half or whole."""
    if path.name == ".lock":
        return files.is_remote(path) or path.lstat().st_size == 0 or files.is_own_lock(path)
    return path.name == STARTED or files.is_temporary(path)


def put(path: Path, data: bytes, resuming: bool) -> None:
    """Write one image; one that an interrupted export left whole is not written again."""
    with files.explained(path):
        if resuming and path.is_file() and path.stat().st_size == len(data):
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write to that takes its name when it is whole, and not at all if writing fails."""
    with files.explained(path):
        if files.is_remote(path):
            with tempfile.NamedTemporaryFile() as file:
                yield cast(BinaryIO, file)
                file.flush()
                cast(Any, path).fs.put_file(file.name, cast(Any, path).path)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = files.temporary_of(path)
        try:
            with open(temporary, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

"""A folder that is written to once: never over what is there, and finished by the same command if interrupted."""

from __future__ import annotations

import json
import os
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from figment import files, records
from figment.errors import FigmentError
from figment.records import Record, Written

# Hidden, since readers of others take whatever else lies in the folder for data.
STARTED = ".figment-started.json"  # which export this is going to be
RECORD = ".figment-export.json"  # written last


def fill_folder(out: Path, identity: dict[str, Any], write: Callable[[bool], None]) -> bool:
    """Call ``write(resuming)`` unless ``out`` holds this very export already; whether anything was written.

    Raises FigmentError where the folder holds anything else.
    """
    record = Record(out, "export", {"format": identity["format"]}, {"source": identity["fingerprint"]}, RECORD)
    with files.lock(out):
        found, started = records.read(out, RECORD), _started(out)
        if found.state == "none" and started is None:
            _check_empty(out)
        elif record.fingerprint not in (found.data.get("fingerprint"), started):
            raise FigmentError(
                f"{out} holds another export: of other images, with other verdicts, or in another format. Nothing was changed."
                " Choose another folder with --out, or move that one away yourself."
            )
        elif record.is_finished():
            return False
        files.write_json(out / STARTED, {"fingerprint": record.fingerprint})
        for path in files.leftovers(out):
            path.unlink(missing_ok=True)
        write(started is not None or found.state != "none")
        record.finish({name: Written.of(files.read_bytes(out / name)) for name in _names(out)})
        (out / STARTED).unlink(missing_ok=True)
        if not files.is_remote(out):
            (out / ".lock").unlink(missing_ok=True)  # the folder is handed on
    return True


def _started(out: Path) -> str | None:
    """The fingerprint of an export that was begun here; None where none was, or its name was cut short."""
    try:
        return str(json.loads(files.read_bytes(out / STARTED))["fingerprint"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        return ""


def _names(out: Path) -> list[str]:
    """All files of the export, by their ways from its folder."""
    found = (p for p in out.rglob("*") if p.is_file() and not p.name.startswith("."))
    return sorted(p.relative_to(out).as_posix() for p in found)


def _check_empty(out: Path) -> None:
    other = next((p.name for p in out.iterdir() if not p.name.startswith(".lock")), None)
    if other is not None:
        raise FigmentError(
            f"{out} is not empty: it holds {other!r}. Nothing was written; an export never goes over what is there."
            " Choose a new folder with --out."
        )


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
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
        try:
            with open(temporary, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

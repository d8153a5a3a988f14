"""Is a checkpoint what was written? Told from its bytes, without torch, which is not imported only to look."""

from __future__ import annotations

import hashlib
import json
import mmap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors

from figment.files import is_remote, read_bytes
from figment.words import one_line

NAME = "checkpoint.safetensors"  # of a training that has a folder of its own


def before(path: Path) -> Path:
    """Where the checkpoint lies that was written before the last one."""
    return path.with_name(f"previous-{path.name}")


def problem(path: Path) -> str:
    """What is wrong with a checkpoint; nothing for one that is as it was written."""
    try:
        with _bytes_of(path) as data:
            header, start = header_of(data)
            digest, text = json.loads(header.pop("__metadata__")["figment"])
            places = {name: header[name]["data_offsets"] for name in header if name}
            buffers = {name: data[start + first : start + last] for name, (first, last) in places.items()}
            try:
                return "" if digest == digest_of(text, buffers) else "its bytes are not those that were written"
            finally:
                for buffer in buffers.values():
                    buffer.release()  # a file that is mapped cannot be let go before
    except Exception as error:  # whatever is wrong with it: it is no checkpoint any more
        return one_line(f"{type(error).__name__}: {error}")[:200].rstrip(".")


def digest_of(text: str, tensors: Mapping[str, Any]) -> str:
    """The checksum that a checkpoint carries: of its text, and of the bytes of each tensor by its name."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name])
    return digest.hexdigest()


def header_of(data: Any) -> tuple[dict[str, Any], int]:
    """What safetensors writes in front of the tensors, and where they begin."""
    start = 8 + int.from_bytes(data[:8], "little")
    return json.loads(bytes(data[8:start])), start


@contextmanager
def _bytes_of(path: Path) -> Iterator[memoryview]:
    """The whole file, which safetensors takes for one of its own. On a disk it is mapped: a denoiser's has gigabytes."""
    if is_remote(path):
        whole = read_bytes(path)
        safetensors.deserialize(whole)
        yield memoryview(whole)
        return
    with safetensors.safe_open(path, "np"):
        pass
    with (
        open(path, "rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped) as data,
    ):
        yield data

"""A training's state in one file: safetensors, with JSON in its header. Nothing in it can be run."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor

from figment.checkpoint_bytes import before, digest_of, header_of
from figment.files import is_remote, move, read_bytes, remove, write_atomic

log = logging.getLogger(__name__)


class Checkpoint:
    """Where a training writes its state, every ``seconds`` and at its end.

    Args:
        path: of the file, which is either the old one or the whole new one at any moment.
        identity: says which training it is of; the state of another one is as good as none.
        seconds: from one writing to the next; 0 writes after every step.
        writes: False in all processes but one, where all read the same file.
        keeps_previous: whether the one before stays, as ``previous-<name>``: what is lost to a damaged file is then the work between two.
    """

    def __init__(
        self, path: Path, identity: str, *, seconds: float = 60.0, writes: bool = True, keeps_previous: bool = False
    ):
        self.path, self.identity, self.seconds, self.writes = path, identity, seconds, writes
        self.keeps_previous = keeps_previous
        self.is_sound = False  # whether what lies at the path is known to be a state of this training
        self.last = time.monotonic()

    def is_due(self) -> bool:
        return self.writes and time.monotonic() - self.last >= self.seconds

    def write(self, state: dict[str, Any]) -> None:
        if not self.writes:
            return
        if self.keeps_previous and self.is_sound:  # a damaged one must not push out the good one before it
            move(self.path, before(self.path))  # first, so that there are never three
        write_atomic(self.path, packed({"identity": self.identity, "state": state}))
        self.is_sound, self.last = True, time.monotonic()

    def read(self) -> dict[str, Any] | None:
        """The state, on the CPU, of the last one or, where that is gone or damaged, of the one before; None where there is neither, or
        they are of another training."""
        state = self._read(self.path)
        self.is_sound = state is not None
        if state is not None or not self.keeps_previous:
            return state
        state = self._read(before(self.path))
        if state is not None:
            log.warning("The training goes on from the checkpoint before that one, %s.", before(self.path).name)
        return state

    def _read(self, path: Path) -> dict[str, Any] | None:
        if not path.is_file():
            return None
        try:
            found = unpacked(path)
        except Exception as error:  # whatever is wrong with it, there is no state in it
            log.warning("%s cannot be read (%s): the training cannot go on from it.", path, error)
            return None
        return found["state"] if found["identity"] == self.identity else None

    def forget(self) -> None:
        """Take away what was written: the training is over."""
        for path in (self.path, before(self.path)):
            remove(path)


def packed(value: Any) -> bytes:
    """Tensors, numbers, texts, None, and lists and dicts of them (keys of any such kind), as the bytes of a file."""
    tensors: dict[str, Tensor] = {}

    def plain(value: Any) -> Any:
        if isinstance(value, Tensor):
            # copied, as safetensors takes no two tensors on the same memory
            tensors[f"{len(tensors)}"] = value.detach().to("cpu", copy=True).contiguous()
            return {"tensor": f"{len(tensors) - 1}"}
        if isinstance(value, dict):
            return {"dict": [[key, plain(v)] for key, v in value.items()]}
        if isinstance(value, list | tuple):
            return {"list": [plain(v) for v in value]}
        return value

    # One key: safetensors writes several in any order, so that equal states would have unequal bytes.
    text = json.dumps(plain(value))
    header = json.dumps([_digest(text, tensors), text])
    return safetensors.torch.save(tensors or {"": torch.zeros(0)}, metadata={"figment": header})


def unpacked(path: Path) -> Any:
    """What `packed` was given, with lists for tuples. Raises ValueError, or what safetensors raises, for a damaged file."""
    header, tensors = _remote(path) if is_remote(path) else _local(path)
    digest, text = json.loads(header.get("figment", "[null, null]"))
    if not isinstance(text, str) or digest != _digest(text, tensors):
        raise ValueError("its bytes are not those that were written")

    def rich(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        ((kind, inside),) = value.items()
        if kind == "tensor":
            return tensors[inside]
        if kind == "list":
            return [rich(v) for v in inside]
        return {key: rich(v) for key, v in inside}

    return rich(json.loads(text))


def _local(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    with safe_open(path, "pt") as file:  # which maps it, in place of a second copy in memory
        return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys() if name}  # noqa: SIM118


def _remote(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    data = read_bytes(path)
    header, _ = header_of(data)
    return header.get("__metadata__", {}), {name: t for name, t in safetensors.torch.load(data).items() if name}


def _digest(text: str, tensors: dict[str, Tensor]) -> str:
    return digest_of(text, {name: t.flatten().view(torch.uint8).numpy().data for name, t in tensors.items()})

"""A checkpoint: any bit of it that changes is seen, and the one before it takes its place."""

from __future__ import annotations

import pytest
import torch

from figment.checkpoint import Checkpoint
from figment.checkpoint_bytes import before, problem
from figment.files import as_path

STATE = {"weights": {"a": torch.arange(4.0), "b": torch.ones(2, 3, dtype=torch.bfloat16)}, "seconds": 1.5, "best": None}


def test_every_bit_that_changes_is_seen(tmp_path):
    path = tmp_path / "it.safetensors"
    Checkpoint(path, "it").write(STATE)
    assert problem(path) == ""
    written = path.read_bytes()
    for place in range(len(written)):
        for bit in range(8):
            changed = bytearray(written)
            changed[place] ^= 1 << bit
            path.write_bytes(changed)
            assert problem(path), (place, bit)
    for cut in (0, 4, len(written) // 2, len(written) - 1):
        path.write_bytes(written[:cut])
        assert problem(path)
    path.unlink()
    assert "FileNotFoundError" in problem(path)


@pytest.mark.parametrize("where", ["disk", "store"])
def test_the_one_before_takes_the_place_of_a_damaged_one(tmp_path, caplog, where):
    folder = tmp_path if where == "disk" else as_path(f"memory://{tmp_path.name}")
    path = folder / "it.safetensors"

    def checkpoint(identity: str = "it") -> Checkpoint:
        return Checkpoint(path, identity, keeps_previous=True)

    first = checkpoint()
    for step in (1, 2, 3):
        first.write({"step": step})
    assert checkpoint().read() == {"step": 3} and caplog.text == ""
    path.write_bytes(path.read_bytes()[:-3])
    assert problem(path) and not problem(before(path))
    again = checkpoint()
    assert again.read() == {"step": 2}
    assert "it.safetensors cannot be read" in caplog.text
    assert "goes on from the checkpoint before that one, previous-it.safetensors" in caplog.text
    assert checkpoint("another").read() is None
    again.write({"step": 3})  # what is damaged does not push out what is good
    assert checkpoint().read() == {"step": 3} and Checkpoint(before(path), "it").read() == {"step": 2}
    path.unlink()  # as between two writings
    assert checkpoint().read() == {"step": 2}
    again.forget()
    assert not path.exists() and not before(path).exists() and checkpoint().read() is None


def test_one_alone_is_kept_where_nobody_asks_for_two(tmp_path):
    checkpoint = Checkpoint(tmp_path / "it.safetensors", "it")
    checkpoint.write({"step": 1})
    checkpoint.write({"step": 2})
    assert [path.name for path in tmp_path.iterdir()] == ["it.safetensors"]

"""A large file is read for its hash once, and again as soon as anything says that it may be another."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from pathlib import Path

import pytest

from figment import hashes
from figment.hashes import file_hash

LONG_AGO = 1_700_000_000


@pytest.fixture
def reads(tmp_path, monkeypatch):
    """The names of the files whose bytes were read. Any size is large, and the cache is new."""
    names: list[str] = []
    digest = hashlib.file_digest
    monkeypatch.setattr(
        hashlib, "file_digest", lambda file, kind: (names.append(Path(file.name).name), digest(file, kind))[1]
    )
    monkeypatch.setattr(hashes, "LARGE", 1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return names


@pytest.fixture
def settled(monkeypatch):
    """A file counts as left alone for long: nobody can set back its ctime."""
    monkeypatch.setattr(hashes, "SETTLED", -(10**9))


def weights(folder: Path, data: bytes = b"weights", name: str = "model.safetensors") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)
    return folder / name


def in_another_process(path: Path) -> str:
    hashes._hash_once.cache_clear()
    return file_hash(path)


def kept(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache/figment/hashes").glob("*"))


def test_another_process_reads_nothing(tmp_path, reads, settled):
    path = weights(tmp_path)
    assert {in_another_process(path) for _ in range(3)} == {hashlib.sha256(b"weights").hexdigest()}
    assert len(reads) == 1 and len(kept(tmp_path)) == 1
    (tmp_path / "link").symlink_to(tmp_path)
    assert in_another_process(tmp_path / "link/model.safetensors") and len(reads) == 1  # by its real path


def test_small_files_are_read_and_not_kept(tmp_path, reads, settled, monkeypatch):
    monkeypatch.setattr(hashes, "LARGE", 8)
    path = weights(tmp_path)
    assert [in_another_process(path) for _ in range(2)] and len(reads) == 2 and not kept(tmp_path)


@pytest.mark.parametrize("changed", ["size", "mtime", "same size and mtime", "another file", "moved"])
def test_what_may_be_another_file_is_read(tmp_path, reads, settled, changed):
    path = weights(tmp_path)
    os.utime(path, (LONG_AGO, LONG_AGO))
    before = in_another_process(path)
    data = b"weights"
    if changed == "size":
        data = b"more weights"
        path.write_bytes(data)
        os.utime(path, (LONG_AGO, LONG_AGO))
    elif changed == "mtime":
        os.utime(path, (LONG_AGO, LONG_AGO + 1))
    elif changed == "same size and mtime":
        data = b"WEIGHTS"
        time.sleep(0.05)  # the clock of a disk has ticks
        path.write_bytes(data)
        os.utime(path, (LONG_AGO, LONG_AGO))
    elif changed == "another file":
        data = b"WEIGHTS"
        weights(tmp_path, data, "new")
        os.utime(tmp_path / "new", (LONG_AGO, LONG_AGO))
        (tmp_path / "new").replace(path)
    else:
        path = path.rename(tmp_path / "moved")
    assert in_another_process(path) == hashlib.sha256(data).hexdigest()
    assert (before == file_hash(path)) == (data == b"weights") and len(reads) == 2
    assert in_another_process(path) and len(reads) == 2  # and this is what is known of it now


def test_a_file_that_was_written_just_now_is_not_remembered(tmp_path, reads):
    path = weights(tmp_path)
    in_another_process(path)
    assert not kept(tmp_path)
    in_another_process(path)
    assert len(reads) == 2


def test_a_file_that_was_left_alone_for_two_seconds_is_remembered(tmp_path, reads, monkeypatch):
    path = weights(tmp_path)
    for seconds, n in ((1.9, 0), (2.1, 1)):
        monkeypatch.setattr(time, "time_ns", lambda s=seconds: path.stat().st_ctime_ns + int(s * 10**9))
        in_another_process(path)
        assert len(kept(tmp_path)) == n


def test_a_file_that_is_written_to_while_it_is_read_is_not_remembered(tmp_path, reads, settled, monkeypatch):
    path, digest = weights(tmp_path), hashlib.file_digest

    def meanwhile(file, kind):
        found = digest(file, kind)
        path.write_bytes(b"other weights")
        return found

    monkeypatch.setattr(hashlib, "file_digest", meanwhile)
    in_another_process(path)
    assert not kept(tmp_path)


@pytest.mark.parametrize("damage", ["half", "another hash", "no JSON", "a list", "empty", "a folder"])
def test_what_is_damaged_is_not_believed(tmp_path, reads, settled, damage):
    path = weights(tmp_path)
    expected = in_another_process(path)
    (own,) = kept(tmp_path)
    told = own.read_bytes()
    own.unlink()
    if damage == "a folder":
        own.mkdir()
    else:
        others = {"half": told[: len(told) // 2], "no JSON": b"\xff{", "a list": b"[]", "empty": b""}
        another = json.dumps({**json.loads(told), "sha256": "0" * 64}).encode()
        own.write_bytes(others.get(damage, another))
    assert in_another_process(path) == expected and len(reads) == 2
    if damage != "a folder":  # which is left as it is, and every command reads the file
        assert own.read_bytes() == told


def test_a_cache_that_cannot_be_written_to_is_none(tmp_path, reads, settled, monkeypatch):
    path = weights(tmp_path / "models")
    (tmp_path / "cache").write_bytes(b"a file in its place")
    assert in_another_process(path) == in_another_process(path) and len(reads) == 2
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setattr(
        Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("Could not determine home directory."))
    )
    assert in_another_process(path) and len(reads) == 3


def test_writers_at_the_same_time_leave_one_whole_answer(tmp_path, reads, settled):
    path = weights(tmp_path, os.urandom(10_000))
    state = hashes._state(path.stat())
    writers = [threading.Thread(target=hashes._hash_once.__wrapped__, args=(path, state)) for _ in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    n = len(reads)
    assert in_another_process(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert len(reads) == n and len(kept(tmp_path)) == 1

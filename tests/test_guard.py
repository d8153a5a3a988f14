"""Every file is looked at before it is opened."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from figment import files, guard, plain_yaml
from figment.errors import FigmentError
from hostile import in_time


def make(path: Path, kind: str) -> Path:
    if kind == "a named pipe":
        os.mkfifo(path)
    elif kind == "a device":
        path.symlink_to("/dev/null")
    elif kind == "a socket":
        place = Path.cwd()
        os.chdir(path.parent)  # the name of a socket must be short
        try:
            socket.socket(socket.AF_UNIX).bind(path.name)
        finally:
            os.chdir(place)
    return path


@pytest.mark.parametrize("kind", ["a named pipe", "a device", "a socket"])
@pytest.mark.parametrize(
    "read",
    [
        lambda path: files.read_bytes(path),
        lambda path: files.read_bytes(path, "image"),
        lambda path: files.read_text(path, "recipe"),
        lambda path: files.load_json(path, "split file"),
        lambda path: files.read_json(path),
        lambda path: files.open_parquet(path),
        lambda path: plain_yaml.read(path),
        lambda path: guard.check_folder(path.parent, "The model"),
    ],
)
def test_what_is_no_file_is_refused_by_its_kind_before_it_is_opened(tmp_path, read, kind):
    path = make(tmp_path / "it", kind)
    with in_time(20), pytest.raises(FigmentError, match=f"(?s)it.*{kind}"):
        read(path)


def test_what_is_not_there_and_folders_stay_what_they_were(tmp_path):
    with pytest.raises(FileNotFoundError):
        files.read_bytes(tmp_path / "none", "recipe")
    with pytest.raises(IsADirectoryError):
        files.read_bytes(tmp_path, "recipe")
    (tmp_path / "round").symlink_to("round")
    guard.check_folder(tmp_path, "The model")  # a link to itself is opened by nobody
    with pytest.raises(OSError, match="symbolic links"):
        files.read_bytes(tmp_path / "round")


@pytest.mark.parametrize("kind", sorted(guard.MOST))
def test_every_kind_of_file_has_a_bound_that_is_told(tmp_path, monkeypatch, kind):
    """Lowered for the test: a file of the real size would take the disk."""
    monkeypatch.setitem(guard.MOST, kind, 10)
    (tmp_path / "it").write_bytes(b"[" + b" " * 8 + b"]")
    assert files.load_json(tmp_path / "it", kind) == []
    (tmp_path / "it").write_bytes(b"[" + b" " * 9 + b"]")
    with pytest.raises(
        FigmentError, match=f"it is too large: 11 bytes, and the most for a file of this kind .{kind}. is 10"
    ):
        files.load_json(tmp_path / "it", kind)
    with pytest.raises(FigmentError, match="it is too large"):
        guard.parse_json(b" " * 11, "it", kind)


@pytest.mark.parametrize("opening", ["[", '{"a":', '[{"a":'])
@pytest.mark.parametrize("as_bytes", [True, False])
def test_json_is_read_up_to_a_depth(opening, as_bytes):
    def nested(depth: int) -> str | bytes:
        n = depth // sum(opening.count(c) for c in "[{")
        closing = "".join({"[": "]", "{": "}"}[c] for c in reversed(opening) if c in "[{")
        text = opening * n + "1" + closing * n
        return text.encode() if as_bytes else text

    assert guard.parse_json(nested(guard.MOST_DEPTH), "it", "record") == json.loads(nested(guard.MOST_DEPTH))
    for depth in (guard.MOST_DEPTH + 2, 200):
        with pytest.raises(FigmentError, match="it is JSON nested more than 64 deep"):
            guard.parse_json(nested(depth), "it", "record")


@pytest.mark.parametrize("text", ["", "{", "nul", "[1,]", b"\xff\xfe\xff", "{'a': 1}"])
def test_what_is_no_json_is_a_value_error_as_pythons(text):
    with pytest.raises(ValueError):
        guard.parse_json(text, "it", "record")


def test_json_is_as_python_reads_it():
    for value in (None, 1, "x", [], {}, [1, [2, {"a": [3]}]], {"a": {"b": None}, "ü": [True, 1.5]}):
        assert guard.parse_json(json.dumps(value), "it", "record") == value


def test_a_remote_file_is_bounded_by_its_size_alone(s3, monkeypatch):
    monkeypatch.setitem(guard.MOST, "recipe", 10)
    path = files.as_path(f"{s3}/recipe.yaml")
    files.write_atomic(path, b"seed: 1")
    assert files.read_text(path, "recipe") == "seed: 1"
    files.write_atomic(path, b"seed: 10000")
    with pytest.raises(FigmentError, match="too large: 11 bytes"):
        files.read_text(path, "recipe")

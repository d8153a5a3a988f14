"""What vouches for something finished: every way in which it can be wrong is told, and none is a traceback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from figment import records
from figment.errors import FigmentError
from figment.records import Record, Written


def finished(folder: Path, **facts) -> Record:
    record = Record(folder, "model", {"train": {"rate": 0.1}, "seeds": (0, 1)}, {"kept": "abc"})
    files = {name: record.write(name, name.encode() * 10) for name in ("a.bin", "sub/b.bin")}
    record.finish(files, **facts)
    return record


def test_a_record_says_what_was_made_from_what(tmp_path):
    record = finished(tmp_path / "model", counts={"kept": 3})
    found = records.read(record.folder)
    assert found.state == "finished" and found.record.fingerprint == record.fingerprint
    assert found.files["sub/b.bin"] == Written.of(b"sub/b.bin" * 10)
    assert found.data["counts"] == {"kept": 3} and found.data["settings"]["seeds"] == [0, 1]
    assert record.is_finished() and not records.problems(found)
    assert not Record(record.folder, "model", {}, {}).is_finished()


@pytest.mark.parametrize("name", ["a.bin", "sub/b.bin"])
def test_a_changed_a_shorter_and_a_missing_file_are_found(tmp_path, name):
    record = finished(tmp_path)
    path = tmp_path / name
    data = path.read_bytes()
    path.write_bytes(data[:-1] + b"?")
    assert records.problems(records.read(tmp_path)) == {name: "is not the file that stage.json has the checksum of"}
    path.write_bytes(data[:-1])
    assert "instead of" in records.problems(records.read(tmp_path))[name] and record.is_finished()
    path.unlink()
    assert records.problems(records.read(tmp_path)) == {name: "is not there"} and not record.is_finished()


def test_every_byte_of_a_record_is_vouched_for(tmp_path):
    finished(tmp_path, counts={"kept": 3}, note="ü")
    path = tmp_path / records.NAME
    data = path.read_bytes()
    for at in range(len(data)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        assert records.read(tmp_path).state in ("damaged", "newer"), data[max(0, at - 20) : at + 20]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "cannot be read"),
        (b'{"scheme": 4, "kind"', "cannot be read"),
        (b"[1, 2]", "holds a list"),
        (b"7", "holds a int"),
        (b"{}", "does not say of which version"),
        (b'{"scheme": "4"}', "does not say of which version"),
        (b'{"scheme": 4}', "kind, settings, inputs, fingerprint, files is missing"),
        (
            b'{"scheme": 4, "kind": 1, "settings": [], "inputs": {}, "fingerprint": "x", "files": {}}',
            "kind, settings is",
        ),
        (b"\xff\xfe", "cannot be read"),
    ],
)
def test_a_record_of_a_wrong_type_cut_short_or_empty_is_damaged(tmp_path, content, said):
    (tmp_path / records.NAME).write_bytes(content)
    found = records.read(tmp_path)
    assert found.state == "damaged" and said in found.problem and not found.files
    with pytest.raises(FigmentError, match="figment repair"):
        records.finished(tmp_path)


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_record_of_version_0_1_is_old_and_never_written_to(tmp_path, version):
    told = {"format": version, "fingerprint": "0123456789abcdef", "settings": {}, "inputs": {}, "files": {}}
    (tmp_path / records.NAME).write_text(json.dumps(told))
    found = records.read(tmp_path)
    assert found.state == "old" and f"format {version}" in found.problem
    assert records.finished(tmp_path)["fingerprint"] == "0123456789abcdef"
    with pytest.raises(FigmentError, match="older figment.*never written to.*--out"):
        Record(tmp_path, "images", {}, {}).check_not_of_old()


def test_a_record_of_a_later_figment_is_left_alone(tmp_path):
    (tmp_path / records.NAME).write_text('{"scheme": 5, "fingerprint": "x"}')
    assert records.read(tmp_path).state == "newer"


def test_a_report_written_again_is_vouched_for(tmp_path):
    record = finished(tmp_path, counts={"kept": 3})
    (tmp_path / "a.bin").write_bytes(b"new")
    assert records.problems(records.read(tmp_path))
    records.vouch(tmp_path, ["a.bin"])
    found = records.read(tmp_path)
    assert not records.problems(found) and found.data["counts"] == {"kept": 3} and record.is_finished()


def test_files_of_a_cache_have_beside_them_what_vouches_for_them(tmp_path):
    path = tmp_path / "ab12.parquet"
    records.write_beside(path, b"data", rows=2)
    assert records.beside(path) == Written.of(b"data", 2)
    beside = path.with_suffix(".json")
    beside.write_bytes(beside.read_bytes().replace(b"ab12", b"ab13"))
    assert records.beside(path) is None
    beside.unlink()
    assert records.beside(path) is None

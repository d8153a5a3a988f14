"""Files that are old or new and never half, and folders that know whose shards they hold."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pyarrow as pa
import pytest

from figment import files, layout, png, records, shards
from figment.errors import FigmentError
from figment.records import Record
from figment.shards import ShardFolder
from figment.types import Prompt, Sample, Verdict

SETTINGS = {"generate": {"guidance_scale": 2.0, "height": None, "templates": ["a {}"]}, "seed": 0}


def record(
    folder: Path, inputs: Mapping[str, str] = MappingProxyType({"prompts": "abc"}), seed: int = 0, **generate
) -> Record:
    settings = {"generate": {**SETTINGS["generate"], **generate}, "seed": seed}
    return Record(folder, "images", settings, inputs)


def shard_folder(folder: Path, shard_size: int = 2, **generate) -> ShardFolder:
    return ShardFolder(record(folder, **generate), shard_size)


def rows(*errors: str) -> pa.Table:
    """A table of images, of which those with an error are none."""
    image = np.zeros((2, 2, 3), np.uint8)
    samples = [Sample(f"p/{i}", "p", "t", 0, i, "g", None if e else image, e or None) for i, e in enumerate(errors)]
    return shards.sample_table([shards.sample_row(s) for s in samples], ["a"])


def refuse(number: int):
    def call(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    return call


# ---- atomic writing --------------------------------------------------------------------------------------------------


def test_a_written_file_is_there_with_its_folders(tmp_path):
    files.write_atomic(tmp_path / "a" / "b" / "file", b"data")
    assert (tmp_path / "a" / "b" / "file").read_bytes() == b"data"
    assert os.listdir(tmp_path / "a" / "b") == ["file"]


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_failure_on_the_way_leaves_the_old_file(tmp_path, monkeypatch, function):
    path = tmp_path / "file"
    files.write_atomic(path, b"old")
    monkeypatch.setattr(os, function, refuse(errno.EIO))
    with pytest.raises(OSError):
        files.write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    monkeypatch.undo()
    files.write_atomic(path, b"new")
    assert path.read_bytes() == b"new"


@pytest.mark.slow
def test_a_killed_writer_leaves_the_old_file_and_no_shard(tmp_path):
    """The process dies between writing and renaming; what it leaves is not taken for a shard."""
    one = shard_folder(tmp_path / "s")
    code = (
        "import os, sys; from pathlib import Path; from figment import files\n"
        "os.replace = lambda a, b: os._exit(9)\n"
        "files.write_atomic(Path(sys.argv[1]), b'half')"
    )
    assert subprocess.run([sys.executable, "-c", code, str(one.shard(0))]).returncode == 9
    assert not one.listing().shards and not list(one.folder.rglob("*.parquet"))
    one.write(0, rows("", ""))
    assert len(files.leftovers(one.shard(0).parent)) == 1
    assert one.listing().shards == {0} and sorted(one.folder.rglob("train*.parquet")) == [one.shard(0)]


def test_no_space_left_is_one_clear_paragraph(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", refuse(errno.ENOSPC))
    with pytest.raises(FigmentError, match=r"No space left on the disk of .*s.00000 while writing train-0000000"):
        shard_folder(tmp_path / "s").write(0, rows("", ""))
    monkeypatch.undo()
    assert not shard_folder(tmp_path / "s").listing().shards


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
def test_a_disk_that_is_really_full(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "with_name", lambda path, name: Path("/dev/full"))
    monkeypatch.setattr(Path, "unlink", lambda path, missing_ok: None)
    with pytest.raises(FigmentError, match="No space left"):
        files.write_atomic(tmp_path / "file", b"data")
    assert not (tmp_path / "file").exists()


def test_a_folder_under_a_file_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file" / "sub", tmp_path / "file"):
        with pytest.raises(FigmentError, match="Cannot write to"), files.lock(path):
            pass
        with pytest.raises(
            FigmentError, match="Cannot write to .*: (not a directory|file exists). Choose another place"
        ):
            files.write_atomic(path / "data", b"")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_name_that_is_too_long_cannot_be_written(tmp_path):
    with pytest.raises(FigmentError, match="Cannot write to"), files.lock(tmp_path / ("x" * 300)):
        pass


# ---- the lock --------------------------------------------------------------------------------------------------------


def test_a_second_run_on_a_folder_is_refused_until_the_first_ends(tmp_path):
    with files.lock(tmp_path / "run"):
        with pytest.raises(FigmentError, match="Another figment is working in"), files.lock(tmp_path / "run"):
            pass
        with files.lock(tmp_path / "other"):
            pass
    with files.lock(tmp_path / "run"):
        pass


def test_a_lock_goes_with_the_process_that_held_it(tmp_path):
    code = "import os, sys; from pathlib import Path; from figment import files\nwith files.lock(Path(sys.argv[1])): os._exit(9)"
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)]).returncode == 9
    with files.lock(tmp_path):
        pass


# ---- fingerprints ----------------------------------------------------------------------------------------------------


def test_fingerprints_do_not_depend_on_the_order_of_keys_or_the_process():
    value = {"b": [1, 2.5, None], "a": "ü"}
    own = records.fingerprint(value)
    assert own == records.fingerprint({"a": "ü", "b": [1, 2.5, None]})
    code = "from figment.records import fingerprint; print(fingerprint({'a': 'ü', 'b': [1, 2.5, None]}))"
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONIOENCODING": "utf-8"}
    assert subprocess.check_output([sys.executable, "-c", code], text=True, env=environment).strip() == own
    assert own == "b7f18cc940079559"


def test_fingerprints_change_with_anything():
    values = [{"a": 1}, {"a": 2}, {"a": "1"}, {"b": 1}, {"a": [1]}, {"a": None}, {"a": 1, "b": None}, [{"a": 1}]]
    assert len({records.fingerprint(v) for v in values}) == len(values)


def test_a_record_is_known_by_settings_inputs_and_kind(tmp_path):
    base = record(tmp_path)
    others = [
        record(tmp_path, guidance_scale=3.0),
        record(tmp_path, {"prompts": "abd"}),
        record(tmp_path, seed=1),
        Record(tmp_path, "prompts", base.settings, base.inputs),
    ]
    assert len({s.fingerprint for s in [base, *others]}) == 5
    assert record(tmp_path / "elsewhere").fingerprint == base.fingerprint


# ---- a folder of shards ----------------------------------------------------------------------------------------------


def test_names_sort_past_a_hundred_thousand_and_a_folder_holds_a_thousand(tmp_path):
    numbers = [0, 7, 999, 1000, 99_999, 100_000, 1_234_567]
    paths = [layout.shard_path(tmp_path, i) for i in numbers]
    assert paths == sorted(paths)
    assert paths[1].relative_to(tmp_path).as_posix() == "00000/train-0000007.parquet"
    assert paths[-1].relative_to(tmp_path).as_posix() == "01234/train-1234567.parquet"
    assert "of" not in paths[0].stem  # no total: a set can grow


def test_a_listing_tells_what_is_done_without_opening_anything(tmp_path, monkeypatch):
    s = shard_folder(tmp_path / "s")
    s.write(0, rows("", ""))
    s.write(1, rows("", "NaN"))
    s.write(2, rows(""))
    for module in (files, shards):
        monkeypatch.setattr(module, "read_bytes", refuse(errno.EIO))
    listing = s.listing()
    assert listing.shards == listing.vouched == {0, 1, 2}
    assert listing.partial == {1, 2}  # a failed row, and fewer rows than a full shard has


def test_a_sidecar_says_what_its_shard_is(tmp_path):
    s = shard_folder(tmp_path / "s")
    written = s.write(1, rows("", "NaN"))
    assert s.read_sidecar(1) == written and written.rows == 2 and written.failed == {"NaN": 1}
    assert written.written.is_of(s.shard(1).read_bytes()) and written.fingerprint == s.fingerprint
    s.write(1, rows("", ""))  # the row was made after all
    assert not s.listing().partial and s.read_sidecar(1).failed == {}
    path = s.sidecar(1)
    path.write_bytes(path.read_bytes().replace(b'"rows": 2', b'"rows":  2'))
    assert s.read_sidecar(1) is None  # not as it was written


def test_a_shard_whose_writer_was_stopped_before_the_sidecar_is_adopted(tmp_path):
    s = shard_folder(tmp_path / "s")
    written = s.write(0, rows("", ""))
    s.sidecar(0).unlink()
    assert not s.listing().vouched and s.adopt(0) == written and s.listing().vouched == {0}
    s.sidecar(0).unlink()
    data = bytearray(s.shard(0).read_bytes())
    data[60] ^= 255
    s.shard(0).write_bytes(data)
    assert s.adopt(0) is None
    s.shard(0).write_bytes(shards.parquet(rows("", "")))
    assert s.adopt(0) is None  # of nobody


def test_a_record_of_shards_has_the_checksum_of_all_sidecars(tmp_path):
    s = shard_folder(tmp_path / "s")
    own = [s.write(i, rows("", "")) for i in range(2)]
    s.finish(own, {}, counts={"attempted": 4})
    told = records.read(s.folder).data["shards"]
    whole = hashlib.sha256(s.sidecar(0).read_bytes() + s.sidecar(1).read_bytes()).hexdigest()
    assert told == {"count": 2, "rows": 4, "sidecars_sha256": whole}
    assert shard_folder(tmp_path / "s").record.is_finished()
    assert not shard_folder(tmp_path / "s", guidance_scale=3.0).record.is_finished()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"guidance_scale": 3.0}, "generate.guidance_scale was 2.0 and is now 3.0"),
        ({"height": 64}, "generate.height was None and is now 64"),
        ({"templates": ["the {}"]}, "generate.templates was ['a {}'] and is now ['the {}']"),
        ({"new": 1}, "generate.new was None and is now 1"),
        ({"inputs": {"prompts": "xyz"}}, "prompts was 'abc' and is now 'xyz'"),
    ],
)
@pytest.mark.parametrize("finished", [True, False])
def test_stale_settings_are_refused_by_name(tmp_path, changed, said, finished):
    s = shard_folder(tmp_path / "s")
    sidecar = s.write(0, rows("", ""))
    if finished:
        s.finish([sidecar], {})
    before = {p: p.read_bytes() for p in s.folder.rglob("*") if p.is_file()}
    with pytest.raises(FigmentError) as error:
        shard_folder(tmp_path / "s", **changed).check_not_stale()
    assert f"other settings: {said}. Old images" in str(error.value) and "--out" in str(error.value)
    assert before == {p: p.read_bytes() for p in s.folder.rglob("*") if p.is_file()}  # nothing was touched


def test_a_change_of_a_thousand_classes_is_still_a_readable_message(tmp_path):
    many = {"task": {"class_names": [f"class {i}" for i in range(1000)]}}
    ShardFolder(Record(tmp_path, "images", many, {}), 2).write(0, rows(""))
    few = Record(tmp_path, "images", {"task": {"class_names": ["a", "b"]}}, {})
    with pytest.raises(FigmentError, match="task.class_names") as error:
        ShardFolder(few, 2).check_not_stale()
    assert len(str(error.value)) < 1000


# ---- rows ------------------------------------------------------------------------------------------------------------


def test_png_is_lossless():
    import io

    from PIL import Image

    image = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    data = png.encode(image)
    assert (np.array(Image.open(io.BytesIO(data))) == image).all()
    assert records.digest(data) != records.digest(png.encode(255 - image))


def test_prompts_survive_a_shard(tmp_path):
    prompts = [Prompt("000-a/0", "ein Bär 🐻", 0, "g"), Prompt("001-b/0", "", 1, "h")]
    own = Record(tmp_path / "prompts", "prompts", {}, {})
    own.finish(shards.write_rows(own, shards.prompt_table(prompts, ["a", "b"])))
    assert shards.prompts_in(tmp_path / "prompts") == prompts and own.is_finished()


def test_rows_of_samples_say_what_failed():
    image = np.zeros((2, 2, 3), np.uint8)
    samples = [Sample("p/0", "p", "t", 1, 2**63 - 1, "g", image), Sample("p/1", "p", "t", 1, 5, "g", None, "NaN")]
    rows = shards.sample_table([shards.sample_row(s) for s in samples], ["a", "b"]).to_pylist()
    assert rows[0]["image"]["path"] == "p/0.png" and rows[0]["error"] == "" and rows[0]["seed"] == 2**63 - 1
    assert rows[1]["image"] is None and rows[1]["digest"] == "" and rows[1]["error"] == "NaN"


def test_scores_have_a_column_each():
    verdicts = [Verdict(True, scores={"p": 0.5}), Verdict(False, "low", {"std": 1.0})]
    rows = shards.score_table(["a", "b"], [0, 1], verdicts, ["x", "y"]).to_pylist()
    assert rows[0] == {"id": "a", "label": 0, "keep": True, "reason": "", "p": 0.5, "std": None}
    assert rows[1] == {"id": "b", "label": 1, "keep": False, "reason": "low", "p": None, "std": 1.0}

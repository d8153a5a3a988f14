"""Files that are old or new and never half, and stages that know whose shards they hold."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from figment import files, png, store
from figment.errors import FigmentError
from figment.types import Prompt, Sample, Verdict

SETTINGS = {"generate": {"guidance_scale": 2.0, "height": None, "templates": ["a {}"]}, "seed": 0}


def stage(folder: Path, n_shards: int = 2, **generate) -> store.Stage:
    settings = {**SETTINGS, "generate": {**SETTINGS["generate"], **generate}}
    return store.Stage(folder, n_shards, settings, {"prompts": "abc"})


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
    one = stage(tmp_path / "s", 1)
    code = (
        "import os, sys; from pathlib import Path; from figment import files, store\n"
        "os.replace = lambda a, b: os._exit(9)\n"
        "files.write_atomic(Path(sys.argv[1]), b'half')"
    )
    assert subprocess.run([sys.executable, "-c", code, str(one.shard(0))]).returncode == 9
    assert one.missing() == [0] and not list(one.folder.glob("*.parquet"))
    one.write(0, pa.table({"x": [1]}))
    assert len(files.leftovers(one.folder)) == 1
    assert sorted(one.folder.glob("*.parquet")) == [one.shard(0)]


def test_no_space_left_is_one_clear_paragraph(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", refuse(errno.ENOSPC))
    with pytest.raises(FigmentError, match=r"No space left on the disk of .*s while writing train-00000-of-00002"):
        stage(tmp_path / "s").write(0, pa.table({"x": [1]}))
    monkeypatch.undo()
    assert stage(tmp_path / "s").missing() == [0, 1]


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
        with pytest.raises(FigmentError, match="Cannot write to .*--out"):
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
    code = "import os, sys; from pathlib import Path; from figment import files, store\nwith files.lock(Path(sys.argv[1])): os._exit(9)"
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)]).returncode == 9
    with files.lock(tmp_path):
        pass


# ---- fingerprints ----------------------------------------------------------------------------------------------------


def test_fingerprints_do_not_depend_on_the_order_of_keys_or_the_process():
    value = {"b": [1, 2.5, None], "a": "ü"}
    own = store.fingerprint(value)
    assert own == store.fingerprint({"a": "ü", "b": [1, 2.5, None]})
    code = "from figment.store import fingerprint; print(fingerprint({'a': 'ü', 'b': [1, 2.5, None]}))"
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONIOENCODING": "utf-8"}
    assert subprocess.check_output([sys.executable, "-c", code], text=True, env=environment).strip() == own
    assert own == "b7f18cc940079559"


def test_fingerprints_change_with_anything():
    values = [{"a": 1}, {"a": 2}, {"a": "1"}, {"b": 1}, {"a": [1]}, {"a": None}, {"a": 1, "b": None}, [{"a": 1}]]
    assert len({store.fingerprint(v) for v in values}) == len(values)


def test_a_stage_is_known_by_settings_inputs_and_shards(tmp_path):
    base = stage(tmp_path)
    others = [
        stage(tmp_path, guidance_scale=3.0),
        stage(tmp_path, 3),
        store.Stage(tmp_path, 2, SETTINGS, {"prompts": "abd"}),
        store.Stage(tmp_path, 2, {**SETTINGS, "seed": 1}, {"prompts": "abc"}),
    ]
    assert len({s.fingerprint for s in [base, *others]}) == 5
    assert stage(tmp_path / "elsewhere").fingerprint == base.fingerprint


# ---- a stage ---------------------------------------------------------------------------------------------------------


def test_a_partial_stage_is_recognised_and_finished(tmp_path):
    s = stage(tmp_path / "s", 3)
    assert s.missing() == [0, 1, 2] and not s.is_complete()
    s.write(1, pa.table({"x": [2]}))
    assert s.missing() == [0, 2] and not s.is_complete()
    s.write(0, pa.table({"x": [1]}))
    s.write(2, pa.table({"x": [3]}))
    assert not s.is_complete()  # the marker is missing
    s.finish(counts={"n": 3})
    assert s.is_complete() and stage(tmp_path / "s", 3).is_complete()
    assert s.read()["x"].to_pylist() == [1, 2, 3]
    assert files.read_json(s.marker)["counts"] == {"n": 3}
    s.check_not_stale()
    assert not stage(tmp_path / "s", 3, guidance_scale=3.0).is_complete()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"guidance_scale": 3.0}, "generate.guidance_scale was 2.0 and is now 3.0"),
        ({"height": 64}, "generate.height was None and is now 64"),
        ({"templates": ["the {}"]}, "generate.templates was ['a {}'] and is now ['the {}']"),
        ({"new": 1}, "generate.new was None and is now 1"),
    ],
)
@pytest.mark.parametrize("finished", [True, False])
def test_stale_settings_are_refused_by_name(tmp_path, changed, said, finished):
    s = stage(tmp_path / "s")
    s.write(0, pa.table({"x": [1]}))
    if finished:
        s.write(1, pa.table({"x": [2]}))
        s.finish()
    with pytest.raises(FigmentError) as error:
        stage(tmp_path / "s", **changed).check_not_stale()
    assert f"other settings: {said}. Old images" in str(error.value) and "--out" in str(error.value)
    assert s.missing() == ([] if finished else [1])  # nothing was touched


def test_stale_inputs_and_shard_numbers_are_refused_by_name(tmp_path):
    stage(tmp_path / "s").write(0, pa.table({"x": [1]}))
    with pytest.raises(FigmentError, match="prompts was 'abc' and is now 'xyz'"):
        store.Stage(tmp_path / "s", 2, SETTINGS, {"prompts": "xyz"}).check_not_stale()
    with pytest.raises(FigmentError, match="shards was 2 and is now 4"):
        stage(tmp_path / "s", 4).check_not_stale()


def test_a_change_of_a_thousand_classes_is_still_a_readable_message(tmp_path):
    before = store.Stage(tmp_path, 1, {"task": {"class_names": [f"class {i}" for i in range(1000)]}}, {})
    before.write(0, pa.table({"x": [1]}))
    with pytest.raises(FigmentError, match="task.class_names") as error:
        store.Stage(tmp_path, 1, {"task": {"class_names": ["a", "b"]}}, {}).check_not_stale()
    assert len(str(error.value)) < 1000


# ---- rows ------------------------------------------------------------------------------------------------------------


def test_png_is_lossless():
    import io

    from PIL import Image

    image = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    data = png.encode(image)
    assert (np.array(Image.open(io.BytesIO(data))) == image).all()
    assert store.digest(data) != store.digest(png.encode(255 - image))


def test_prompts_survive_a_shard(tmp_path):
    prompts = [Prompt("000-a/0", "ein Bär 🐻", 0, "g"), Prompt("001-b/0", "", 1, "h")]
    s = stage(tmp_path, 1)
    s.write(0, store.prompt_table(prompts, ["a", "b"]))
    assert store.read_prompts(s.read()) == prompts


def test_sample_rows_say_what_failed():
    image = np.zeros((2, 2, 3), np.uint8)
    rows = store.sample_table(
        store.sample_rows(
            [Sample("p/0", "p", "t", 1, 2**63 - 1, "g", image), Sample("p/1", "p", "t", 1, 5, "g", None, "NaN")]
        ),
        ["a", "b"],
    ).to_pylist()
    assert rows[0]["image"]["path"] == "p/0.png" and rows[0]["error"] == "" and rows[0]["seed"] == 2**63 - 1
    assert rows[1]["image"] is None and rows[1]["digest"] == "" and rows[1]["error"] == "NaN"


def test_scores_have_a_column_each():
    verdicts = [Verdict(True, scores={"p": 0.5}), Verdict(False, "low", {"std": 1.0})]
    rows = store.score_table(["a", "b"], [0, 1], verdicts, ["x", "y"]).to_pylist()
    assert rows[0] == {"id": "a", "label": 0, "keep": True, "reason": "", "p": 0.5, "std": None}
    assert rows[1] == {"id": "b", "label": 1, "keep": False, "reason": "low", "p": None, "std": 1.0}

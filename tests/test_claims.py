"""The user's files are the user's: whatever they are called, and wherever figment is pointed."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import damage
from figment import claims, files, layout, plain_yaml, records
from figment.claims import MARK
from figment.errors import FigmentError
from figment.generate.fill import generate_images
from figment.generate.procedural import ProceduralGenerator
from figment.images_in import open_shards
from figment.layout import Run, Study
from figment.recipe import load_recipe
from figment.recipe.recipe import as_yaml
from figment.repair import repair
from figment.run import make_images, run_recipe
from figment.studies.table import run_table
from figment.types import Prompt
from figment.verify import verify
from hostile import in_time, snapshot


def put(path: Path, text: str = "mine") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return damage.make(tmp_path_factory.mktemp("made") / "run")


@pytest.fixture
def run(made, tmp_path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run"))


# ---- a folder of the user's ------------------------------------------------------------------------------------------


def as_run(out: Path) -> None:
    run_recipe(damage.recipe(), out)


def as_images(out: Path) -> None:
    make_images(damage.recipe(), out)


def as_table(out: Path) -> None:
    run_table(damage.recipe(table={"title": "t", "rows": {"a": {}}, "columns": {"x": {}}}), out)


@pytest.mark.parametrize("name", sorted(layout.NAMES))
@pytest.mark.parametrize("start", [as_run, as_images, as_table])
def test_a_project_with_files_in_the_way_is_refused_by_their_names_and_nothing_changes(tmp_path, start, name):
    put(tmp_path / "out" / name / "mine.txt" if "." not in name else tmp_path / "out" / name)
    before = snapshot(tmp_path)
    with pytest.raises(FigmentError, match=rf"out holds {name}, which figment did not make.*--out"):
        start(tmp_path / "out")
    assert snapshot(tmp_path) == before  # not even a lock


@pytest.mark.parametrize("name", ["00000/train-0000000.parquet", "stage.json", MARK])
def test_images_made_from_python_do_not_go_over_what_is_there(tmp_path, name):
    put(tmp_path / "out" / name)
    before = snapshot(tmp_path)
    prompts = [Prompt(f"{i}", f"thing {i}", i, f"{i}") for i in range(2)]
    with pytest.raises(FigmentError, match="which figment did not make|is damaged|cannot be read"):
        generate_images(
            prompts, ProceduralGenerator(height=8, width=8), tmp_path / "out", ["a", "b"], images_per_class=2
        )
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("mark", ["mine", "", "folder", "pipe"])
def test_a_file_called_like_the_mark_is_no_mark(tmp_path, mark):
    out = tmp_path / "out"
    out.mkdir()
    if mark == "pipe":
        os.mkfifo(out / MARK)
    elif mark == "folder":
        put(out / MARK / "x")
    else:
        put(out / MARK, mark)
    before = snapshot(tmp_path)
    with in_time(20), pytest.raises(FigmentError, match=r"holds \.figment, which"):
        as_images(out)
    assert snapshot(tmp_path) == before


def test_empty_folders_are_in_nobodys_way(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "images").symlink_to(tmp_path / "disk")  # of a larger disk
    (tmp_path / "out" / "features").mkdir()
    as_images(tmp_path / "out")
    assert (tmp_path / "disk" / "stage.json").is_file() and verify(tmp_path / "out").ok


def test_every_name_below_a_run_is_among_those_that_are_looked_for():
    here = Path("/here")
    made_of = [(kind, name) for kind in (Run, Study) for name, own in vars(kind).items() if isinstance(own, property)]
    paths = [getattr(kind(here), name) for kind, name in made_of]
    own = {p.relative_to(here).parts[0] for p in paths if isinstance(p, Path) and p != here}
    assert len(own) >= 15 and own - layout.NAMES == set()


# ---- a run of figment's with files of the user's in it ---------------------------------------------------------------

THEIRS = [
    "recipe.yaml", "notes.md", "data/cat.png", ".env", ".notes.tmp", ".results.csv.0123abcd.tmp", ".x.0123abcd89abcdef.tmp",
    "prompts/notes.md", "prompts/.mine.tmp", "images/mine.parquet", "images/mine/a.parquet", "images/00000/train-mine.parquet",
    "images/00000/mine.json", "images/00000/0000001-mine.json", "images/00000/.train-0000000.parquet.0123abcd.tmp",
    "features/mine.parquet", "features/mine.json", "features/mine/a.parquet", "features/chat/mine.json", "features/.a.tmp",
    "finetune/mine/stage.json", "finetune/mine/weights.safetensors", "finetune/0123456789abcdef/mine.safetensors",
    "scores/mine/stage.json", "scores/mine/a.parquet", "trainings/mine.parquet", "trainings/.b.tmp", "arms/mine/stage.json",
    "arms/mine/prompts/stage.json", "set-aside/mine", "set-aside/images/mine.parquet", "model/mine.safetensors", "hub/mine/a",
]  # fmt: skip


def test_files_of_the_users_in_a_run_stay_through_repair_verify_and_another_run(run):
    theirs = {put(run / name): name.encode() for name in THEIRS}
    for path, data in theirs.items():
        path.write_bytes(data)
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in theirs}
    damage.flip(damage.shard(run, 1), 300)
    damage.shard(run, 2).unlink()
    verify(run)
    repair(run)
    make_images(damage.recipe(**{"generate.images_per_class": 12}), run)
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in theirs} == before
    assert len(open_shards(run / "images")[0]) == 24  # and what they hold is not taken for images


def test_what_figment_left_half_written_is_still_cleared_away(run):
    left = files.temporary_of(run / "images" / "00000" / "train-0000000.parquet")
    left.write_bytes(b"half")
    damage.shard(run, 2).unlink()
    repair(run)
    assert not left.exists()


def test_a_recipe_with_comments_stays_as_it_is_in_its_own_run_folder(tmp_path):
    text = "# mine\n" + damage.recipe().to_yaml()
    recipe = put(tmp_path / "out" / "recipe.yaml", text)
    for _ in range(2):
        make_images(load_recipe(recipe), tmp_path / "out")
    assert recipe.read_text() == text
    assert not (tmp_path / "out" / "set-aside").exists()


@pytest.mark.parametrize("edit", ["# mine\n{}", "{}# mine\n", "{}\n", "mine: {{}}\n{}", "mine", ""])
def test_a_resolved_recipe_that_somebody_edited_is_kept(run, edit):
    text = edit.format((run / "resolved.yaml").read_text())
    put(run / "resolved.yaml", text)
    make_images(damage.recipe(), run)
    assert (run / "set-aside" / "resolved.yaml").read_text() == text
    assert load_recipe(run / "resolved.yaml") == damage.recipe()


def test_a_resolved_recipe_of_before_a_field_was_added_is_nobodys_edit(run):
    data = plain_yaml.read(run / "resolved.yaml")
    del data["evaluate"]["shot_draws"]
    put(run / "resolved.yaml", as_yaml(data))
    make_images(damage.recipe(), run)
    assert not (run / "set-aside").exists() and "shot_draws" in (run / "resolved.yaml").read_text()


# ---- the mark --------------------------------------------------------------------------------------------------------


def test_a_run_goes_on_without_its_hidden_files_and_after_the_mark_alone_was_made(run, tmp_path):
    before = damage.content(run)
    (run / MARK).unlink()
    damage.shard(run, 2).unlink()
    as_images(run)
    assert damage.content(run) == before
    put(tmp_path / "new" / MARK, claims.RUN.mark.decode())
    as_images(tmp_path / "new")
    assert damage.content(tmp_path / "new") == before


@pytest.mark.parametrize("below", ["arms/00-first/prompts", "images/0f3a/prompts", "cells/a/seed-0/scores/0-blank"])
def test_a_study_that_was_copied_before_its_end_goes_on_without_hidden_files(run, tmp_path, below):
    shutil.copytree(run / "prompts", tmp_path / "study" / below)
    put(tmp_path / "study" / "features" / "cache.parquet")
    assert claims.is_ours(tmp_path / "study") and claims.check(tmp_path / "study")


@pytest.mark.parametrize("part", ["", "0-of-2"])
def test_a_part_that_fails_leaves_the_mark_to_the_others(tmp_path, part):
    with pytest.raises(FigmentError, match="no GPU"), claims.held(tmp_path / "run", root=tmp_path / "run", part=part):
        raise FigmentError("no GPU")
    assert (tmp_path / "run" / MARK).exists() == bool(part)


def test_what_holds_the_lock_keeps_the_mark_of_who_comes_too_late(tmp_path):
    out = tmp_path / "run"
    with files.lock(out), pytest.raises(FigmentError, match="Another figment"), claims.held(out, root=out):
        pass
    assert claims.is_ours(out)


def test_a_copy_of_a_shard_in_another_folder_is_not_read_as_more_images(run):
    before = layout.shard_files(run / "images")
    shutil.copytree(run / "images" / "00000", run / "images" / "00001")
    assert layout.shard_files(run / "images") == before


def test_parts_that_start_together_share_the_mark(tmp_path, made):
    for part in ((1, 2), (0, 2)):
        make_images(damage.recipe(), tmp_path / "out", part=part)
    assert damage.content(tmp_path / "out") == damage.content(made)


def test_a_run_that_is_refused_before_anything_is_made_leaves_no_mark(tmp_path):
    out = tmp_path / "out"
    with pytest.raises(FigmentError, match="no model folder"):
        run_recipe(damage.recipe(**{"train.encoder": "./none"}), out)
    assert {path.name for path in out.iterdir()} == {".lock"}
    put(out / "images" / "mine.png")
    with pytest.raises(FigmentError, match="holds images, which"):
        as_images(out)


@pytest.mark.parametrize("below", ["", "/sub", "/00000"])
def test_a_run_does_not_go_into_another_runs_folders(run, below):
    before = snapshot(run)
    with pytest.raises(FigmentError, match="belongs to the run in|which figment did not make"):
        as_images(Path(f"{run}/images{below}"))
    assert snapshot(run) == before


@pytest.mark.parametrize("what", ["prompts", "images", "recipe.yaml", "resolved.yaml"])
def test_repair_of_a_folder_of_the_users_changes_nothing(tmp_path, what):
    put(tmp_path / "out" / what / "mine" if "." not in what else tmp_path / "out" / what)
    before = snapshot(tmp_path)
    with pytest.raises(FigmentError, match="is no folder that figment wrote to|neither the folder of a run"):
        repair(tmp_path / "out")
    assert snapshot(tmp_path) == before


# ---- records ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../mine", "/etc/hostname", "a/../../mine", "..", "", "a\0b"])
def test_a_record_that_names_a_file_outside_of_its_folder_is_damaged(tmp_path, name):
    """It may come from anybody, with its checksum right: what it names may be read and one day taken away."""
    record = records.Record(tmp_path / "model", "model", {}, {})
    record.finish({"weights": records.Written.of(b"x")})
    told = json.loads(record.path.read_bytes())
    told["files"] = {name: told["files"]["weights"]}
    del told["checksum"]
    record.path.write_bytes(records._sealed(told))
    found = records.read(record.folder)
    assert found.state == "damaged" and "outside of its folder" in found.problem and not found.files


# ---- locks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["", "0-of-2"])
@pytest.mark.parametrize("kind", ["link", "link to nothing", "link to a folder", "folder", "pipe"])
def test_a_lock_that_is_no_file_is_refused_and_no_link_is_followed(tmp_path, kind, part):
    out, precious = tmp_path / "out", put(tmp_path / "precious")
    out.mkdir()
    lock = out / (f".lock-{part}" if part else ".lock")
    if kind == "pipe":
        os.mkfifo(lock)
    elif kind == "folder":
        lock.mkdir()
    else:
        lock.symlink_to({"link": precious, "link to nothing": tmp_path / "none"}.get(kind, tmp_path))
    before = snapshot(tmp_path)
    with in_time(20), pytest.raises(FigmentError, match="is a link, or no file"), files.lock(out, part):
        pass
    (out / ".lock").unlink(missing_ok=True) if part else None
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("part", ["", "0-of-2"])
def test_a_lock_file_that_is_there_is_never_written_to(tmp_path, part):
    lock = put(tmp_path / (f".lock-{part}" if part else ".lock"))
    os.link(lock, tmp_path / "precious")  # the same file under another name
    with files.lock(tmp_path, part):
        pass
    assert lock.read_text() == (tmp_path / "precious").read_text() == "mine"
    files.give_up_lock(tmp_path)
    assert lock.is_file()


@pytest.mark.parametrize(
    ("name", "own"),
    [
        (".x.tmp", False),
        (".x.abc.tmp", False),
        (".x.0123abcd.tmp", False),
        (".x.0123abcd89abcdef.tmp", False),
        ("x", False),
    ],
)
def test_only_a_name_that_figment_drew_is_temporary(tmp_path, name, own):
    assert files.is_temporary(tmp_path / name) == own
    drawn = files.temporary_of(tmp_path / ("a\n" * 200 + name))
    assert files.is_temporary(drawn) and len(drawn.name) < 200
    assert not files.is_temporary(drawn.with_name(f"{drawn.name[:-7]}xyz.tmp"))
    assert not files.is_temporary(drawn.with_name(drawn.name.replace(".", ".b", 1)))


def test_images_in_another_folder_of_figment_are_told_from_a_run(tmp_path):
    """A set of images made from Python is no run: a run does not go into it."""
    prompts = [Prompt(f"{i}", f"thing {i}", i, f"{i}") for i in range(2)]
    images = generate_images(
        prompts, ProceduralGenerator(height=8, width=8), tmp_path / "out", ["a", "b"], images_per_class=2
    )
    assert len(images) == 4 and np.array_equal(images.labels, [0, 1, 0, 1])
    before = snapshot(tmp_path)
    with pytest.raises(FigmentError, match="is the folder of generated images, and this would be one of a run"):
        as_images(tmp_path / "out")
    assert snapshot(tmp_path) == before

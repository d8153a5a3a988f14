"""Every kind of damage is found and named; a clean run is said to be one; nothing is ever changed by looking."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import damage
from damage import flip, shard, sidecar
from figment import files, layout, records, shards
from figment.errors import FigmentError
from figment.exports.export import export
from figment.generate.fill import generate_images
from figment.generate.procedural import ProceduralGenerator
from figment.images_in import open_shards
from figment.recipe import load_recipe
from figment.repair import repair
from figment.run import make_images, run_recipe
from figment.stages.report import write_report
from figment.status import status
from figment.types import Prompt
from figment.verify import verify


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return damage.make(tmp_path_factory.mktemp("verify") / "run")


@pytest.fixture
def run(made, tmp_path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory, clip) -> Path:
    """A run to its end, with verdicts, features and a classifier."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    run_recipe(damage.recipe(**{"train.encoder": str(clip)}), folder)
    return folder


def said(folder: Path, severity: str = "broken", **options) -> str:
    return "\n".join(f"{f.stage}: {f.text}" for f in verify(folder, **options).findings if f.severity == severity)


def state(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {str(p): (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.rglob("*") if p.is_file()}


# ---- nothing wrong ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fast", [False, True])
def test_a_clean_run_is_said_to_be_one_and_is_left_as_it_is(run, fast):
    before = state(run)
    found = verify(run, fast=fast)
    assert found.ok and not found.findings
    assert found.advice == "Everything is as it was written."
    assert found.checked["images"].startswith("20 rows in 3 shards") and "made: 10 a class" in found.checked["images"]
    assert found.checked["prompts"] == "8 prompts"
    assert state(run) == before


def test_a_finished_run_is_clean_too_with_its_arms(whole):
    found = verify(whole)
    assert not found.findings
    assert found.checked["scores/0-blank"] == "20 verdicts, 20 kept" and "model" in found.checked
    assert "kept by the filters: 10 a class" in found.checked["images"]


def test_images_alone(tmp_path):
    prompts = [Prompt(f"{label:03d}-x/0", f"text {label}", label, "g") for label in (0, 1)]
    generator = ProceduralGenerator(height=8, width=8)
    generate_images(prompts, generator, tmp_path / "made", ["a", "b"], images_per_class=6, shard_size=4)
    assert verify(tmp_path / "made").ok
    flip(layout.shard_path(tmp_path / "made", 1), 200)
    found = verify(tmp_path / "made")
    assert [f.shard for f in found.findings] == [1] and "3 of its images are unharmed" in found.findings[0].text


def test_the_images_of_a_run_are_held_against_its_recipe(run):
    damage.edit(shard(run), lambda rows: rows[::-1])
    assert "their order is another" in said(run / "images")


def test_the_way_to_one_image_that_the_docs_show_is_right(run):
    text = (Path(__file__).parents[1] / "docs" / "format.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.S)
    names = {"path": shard(run, 1), "row": 5}
    exec(code, names)
    assert (np.asarray(names["image"]) == open_shards(run / "images")[0].load([13])[0]).all()


def test_a_folder_of_nothing_of_ours_is_refused(tmp_path):
    with pytest.raises(FigmentError, match="neither the folder of a run nor of images"):
        verify(tmp_path)


# ---- bytes -----------------------------------------------------------------------------------------------------------


def positions(path: Path, n: int = 200) -> list[int]:
    """The first and last bytes of a file, and some of everything between them."""
    size = path.stat().st_size
    return sorted({*range(12), *range(size - 12, size), *np.linspace(0, size - 1, n).astype(int).tolist()})


@pytest.mark.slow
@pytest.mark.parametrize("fast", [False, True])
def test_a_flipped_bit_anywhere_in_a_shard_is_found(run, fast):
    path = shard(run, 1)
    right = path.read_bytes()
    for i, position in enumerate(positions(path, 40 if fast else 70)):
        flip(path, position, 1 << (i % 8))
        found = verify(run, fast=fast)
        assert [f.shard for f in found.findings if f.severity == "broken"] == [1], position
        assert not found.ok and "figment repair" in found.advice
        path.write_bytes(right)
    assert verify(run).ok


@pytest.mark.slow
def test_without_stage_json_a_flipped_bit_in_the_rows_is_found_and_one_in_the_footer_is_noted(run):
    (run / "images" / "stage.json").unlink()
    path = shard(run, 1)
    right = path.read_bytes()
    name = right.rindex(b"parquet-cpp-arrow")  # a file that says another version wrote it cannot be compared
    assert verify(run).findings[0].severity == "missing" and len(verify(run).findings) == 1
    for i, position in enumerate(positions(path, 40)):
        flip(path, position, 1 << (i % 8))
        assert [f for f in verify(run).findings if f.shard == 1] or name <= position < name + 40, position
        path.write_bytes(right)


def test_a_truncated_shard_says_by_how_much(run):
    path = shard(run)
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[: size // 2])
    assert f"{size // 2:,} bytes instead of {size:,}" in said(run) and "cannot be read" in said(run)
    path.write_bytes(b"")
    assert "it has 0 bytes" in said(run)


# ---- files -----------------------------------------------------------------------------------------------------------


def test_a_missing_shard(run):
    shard(run, 2).unlink()
    found = verify(run)
    assert not found.ok and "1 of 3 shards are not there" in said(run, "missing")
    assert found.advice.endswith(f"figment repair {run}")


def test_a_shard_of_another_run_under_a_right_and_under_a_wrong_name(run, tmp_path):
    other = damage.make(tmp_path / "other", **{"generate.noise": 1.0})
    shutil.copy(shard(other, 1), shard(run, 1))
    shutil.copy(shard(other, 1), run / "images" / "copy.parquet")
    text = said(run)
    assert "train-0000001.parquet is not the file that was written" in text
    assert "was made with other settings" in text
    assert "copy.parquet is no shard of these images" in said(run, "note")


def test_two_shards_that_changed_places(run):
    first, second = shard(run, 0).read_bytes(), shard(run, 1).read_bytes()
    shard(run, 0).write_bytes(second)
    shard(run, 1).write_bytes(first)
    found = verify(run)
    assert [f.shard for f in found.findings if f.shard is not None] == [0, 1]
    assert "has other rows than planned: 8 missing" in said(run)


def test_files_of_killed_writers_are_noted(run):
    for path in (run / "images" / "README.md", shard(run)):
        files.temporary_of(path).write_bytes(b"half")
    assert "2 files of writers that were killed" in said(run, "note")
    assert verify(run).ok


def test_a_missing_card_and_a_missing_and_a_damaged_recipe(run):
    (run / "images" / "README.md").unlink()
    assert "images: README.md is not there" in said(run, "missing")
    (run / "resolved.yaml").write_text("task: [unclosed")
    assert "resolved.yaml: cannot be read" in said(run)
    assert "figment run RECIPE --out" in verify(run).advice
    (run / "resolved.yaml").unlink()
    assert "resolved.yaml: cannot be read: it is not there" in said(run, "missing")


# ---- rows ------------------------------------------------------------------------------------------------------------


def doubled(rows):
    return [*rows, rows[3]]


def relabelled(rows):
    rows[2]["label"] = 1 - rows[2]["label"]


def reseeded(rows):
    rows[0]["seed"] += 1


def exchanged(rows):
    rows[0]["image"], rows[1]["image"] = rows[1]["image"], rows[0]["image"]


def emptied(rows):
    rows[4]["image"] = None


def no_image(rows):
    rows[5]["image"]["bytes"] = b"no image"
    rows[5]["digest"] = records.digest(b"no image")


EDITS = {
    doubled: "has other rows than planned: 1 twice",
    relabelled: "has another label than planned in 1 of 8 rows",
    reseeded: "has another seed than planned in 1 of 8 rows",
    exchanged: "holds 2 broken rows of 8: row 0 (000-red-thing/00000/0) has an image that is not the one of its digest",
    emptied: "has neither an image nor a reason",
    no_image: "has an image that cannot be decoded",
}


@pytest.mark.parametrize("change", EDITS)
@pytest.mark.parametrize("finished", [True, False])
def test_a_shard_that_another_tool_edited(run, change, finished):
    """Its page checksums are right; the file's checksum tells, and where there is none yet, the rows do."""
    if not finished:
        (run / "images" / "stage.json").unlink()
        sidecar(run).unlink()
    damage.edit(shard(run), change)
    assert EDITS[change] in said(run)
    assert ("is not the file that was written" in said(run)) == finished


def test_a_column_less(run):
    import pyarrow.parquet as pq

    shard(run).write_bytes(shards.parquet(pq.read_table(shard(run)).drop(["seed"])))
    assert "has other columns than the format" in said(run)


def test_another_writers_layout_without_places(run):
    import pyarrow.parquet as pq

    (run / "images" / "stage.json").unlink()
    sidecar(run).unlink()
    pq.write_table(pq.read_table(shard(run)), shard(run))
    assert "does not say where its images lie" in said(run)


# ---- stage.json ------------------------------------------------------------------------------------------------------


def edit_record(run: Path, seal: bool = False, **changes) -> None:
    """Change what a record says, as somebody with an editor does, or (``seal``) somebody who knows how it is sealed."""
    path = run / "images" / "stage.json"
    data = {**files.read_json(path), **changes}
    if seal:
        del data["checksum"]
        path.write_bytes(records._sealed(data))
    else:
        files.write_json(path, data)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"seconds": 1.0}, "stage.json was changed since it was written"),
        ({"fingerprint": "0" * 16}, "stage.json was changed since it was written"),
        ({"scheme": 0}, "stage.json was changed since it was written"),
        ({"scheme": "4"}, "it does not say of which version it is"),
        ({"files": []}, "files is missing or of a wrong type"),
        ({"kind": None, "settings": 3}, "kind, settings is missing or of a wrong type"),
    ],
)
def test_an_edited_record(run, changes, text):
    edit_record(run, **changes)
    assert text in said(run)
    assert "figment repair" in verify(run).advice


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"counts": {"attempted": 20, "made": 19, "failed": {"x": 1}}}, "stage.json counts"),
        ({"shards": {"count": 3, "rows": 20, "sidecars_sha256": "0"}}, "checksum of other sidecars than there are"),
        ({"files": {}}, "README.md, the dataset card, is not there"),
    ],
)
def test_a_record_that_is_sealed_and_says_what_is_not_so(run, changes, text):
    edit_record(run, seal=True, **changes)
    assert text in said(run) + said(run, "missing")
    assert "figment repair" in verify(run).advice


def test_a_missing_and_a_damaged_record(run):
    path = run / "images" / "stage.json"
    path.write_text(path.read_text()[:100])
    assert "stage.json cannot be read (JSONDecodeError" in said(run)
    path.unlink()
    assert "stage.json is not there" in said(run, "missing")


WRONG = [b"", b"{", b"[]", b"3", b"null", b'"text"', b"{}", b'{"scheme": 4}', b"\xff\xfe", b"[" * 100_000]


@pytest.mark.slow
def test_a_record_of_a_wrong_type_empty_or_cut_short_is_a_damaged_one_at_every_stage(finished):
    paths = sorted(finished.rglob("stage.json"))
    assert len(paths) == 6
    for number, path in enumerate(paths):
        right = path.read_bytes()
        for raw in [*WRONG, right[: len(right) // 2]]:
            path.write_bytes(raw)
            found = [f for f in verify(finished, fast=True).findings if f.severity != "note"]
            place = path.parent.relative_to(finished).as_posix()
            assert [(f.severity, f.stage) for f in found] == [("broken", place)], raw[:20]
            assert found[0].text.startswith("stage.json ")
            assert status(finished)
        path.write_bytes(WRONG[number])
        with contextlib.suppress(FigmentError):  # no other error
            run_recipe(load_recipe(finished), finished)
        path.write_bytes(right)


def test_a_newer_version_is_said_plainly_and_nothing_else_is(run, monkeypatch):
    monkeypatch.setattr(records, "SCHEME", 5)
    newer = damage.make(run.parent / "newer")
    monkeypatch.undo()
    (newer / ".lock").unlink()
    before = state(newer)
    assert {f.text.partition(";")[0] for f in verify(newer).findings if f.severity == "broken"} == {
        "was written by a newer figment, in format 5"
    }
    assert verify(newer).advice.startswith("This cannot be mended")
    with pytest.raises(FigmentError, match="newer figment"):
        make_images(damage.recipe(), newer)
    assert state(newer) == before


def test_images_of_another_recipe_and_of_other_prompts(run, tmp_path):
    (run / "resolved.yaml").write_text(damage.recipe(**{"generate.noise": 1.0}).to_yaml())
    assert "not made with resolved.yaml: generate.noise was 8.0 and is now 1.0" in said(run)
    other = damage.make(tmp_path / "other", **{"prompts.per_class": 3})
    (run / "resolved.yaml").write_text(damage.recipe().to_yaml())
    shutil.rmtree(run / "prompts")
    shutil.copytree(other / "prompts", run / "prompts")
    assert "made from other prompts" in said(run)


# ---- prompts ---------------------------------------------------------------------------------------------------------


def test_damaged_prompts(run):
    path = run / "prompts" / "train.parquet"
    right = path.read_bytes()
    for position in (0, 50, len(right) // 2, len(right) - 20, len(right) - 1):
        flip(path, position)
        assert "prompts: train.parquet is not the file" in said(run)
        path.write_bytes(right)
    path.unlink()
    assert "prompts: train.parquet is not there" in said(run, "missing")


# ---- notes -----------------------------------------------------------------------------------------------------------


class Unlucky(ProceduralGenerator):
    """Fails for a prompt's texts, and draws the same image for all seeds of another."""

    def __init__(self, fails: str = "?", stuck: str = "?"):
        super().__init__(height=8, width=8)
        self.fails, self.stuck = fails, stuck

    def __call__(self, prompts, seeds, init=None):
        images = super().__call__(prompts, [1 if self.stuck in p else s for p, s in zip(prompts, seeds, strict=True)])
        return [None if self.fails in p else image for p, image in zip(prompts, images, strict=True)]


def test_failed_rows_are_noted_with_their_reasons(tmp_path):
    make_images(damage.recipe(), tmp_path, generator=Unlucky(fails="blue thing"))
    notes = said(tmp_path, "note")
    assert "10 rows failed and will be tried again by the next run: 10 the model gave NaN" in notes
    assert "out of balance (made): the median is 5, and of these there are few: blue thing 0" in notes
    assert verify(tmp_path).ok


def test_the_same_image_for_other_seeds_is_noted(tmp_path):
    make_images(damage.recipe(), tmp_path, generator=Unlucky(stuck="red thing"))
    notes = said(tmp_path, "note")
    assert "6 images are the same as another one" in notes  # ten of four prompts
    assert "6 of them have the same prompt and another seed, which looks like a generator that is stuck" in notes
    assert re.search(r"such as row (\d) of shard 0 and row \1 of shard 1", notes)


def test_an_interrupted_run_is_told_from_a_broken_one(run):
    shard(run, 1).unlink()
    (run / "images" / "stage.json").unlink()
    found = verify(run)
    assert {f.severity for f in found.findings} == {"missing"}
    assert found.advice == f"Nothing is harmed. The next run makes what is missing: figment run {run}"


# ---- what comes after the images -------------------------------------------------------------------------------------


@pytest.fixture
def finished(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run"))


def test_damaged_verdicts_features_model_and_results(finished):
    scores = finished / "scores" / "0-blank" / "train.parquet"
    flip(scores, scores.stat().st_size // 2)
    assert "scores/0-blank: train.parquet is not the file" in said(finished)
    assert verify(finished).advice.endswith(f"figment repair {finished}")
    cache = sorted((finished / "features").glob("*/*.parquet"))[0]
    flip(cache, 300)
    assert f"features: {cache.name} is not the file that was written" in said(finished)
    head = finished / "model" / "head.safetensors"
    head.write_bytes(head.read_bytes()[:50])
    assert "model: head.safetensors is not the file" in said(finished)
    (finished / "results.jsonl").write_text('{"metric": \n')
    assert "results.jsonl: line 1 cannot be read" in said(finished)


def test_verdicts_on_other_images(finished):
    folder = finished / "scores" / "0-blank"
    stage = records.read(folder)
    table = shards.read_shard(folder / shards.ROWS)
    other = records.Record(folder, "scores", stage.data["settings"], {"images": "0" * 16})
    other.finish(shards.write_rows(other, table), counts=stage.data["counts"])
    assert "these verdicts are on other images" in said(finished)
    more = pa.concat_tables([table.slice(1), table.slice(0, 1).set_column(0, "id", pa.array(["another/0"]))])
    stage.record.finish(shards.write_rows(stage.record, more), counts=stage.data["counts"])
    assert "there are 20 verdicts, 19 of them on the images that reached this filter" in said(finished)


# ---- what nobody knows -----------------------------------------------------------------------------------------------

UNKNOWN = [
    "notes.txt",
    "images/stray.txt",
    "model/mine.bin",
    "scores/0-blank/mine.json",
    "prompts/more.txt",
    "mine/own.md",
]


@pytest.mark.slow
def test_what_no_record_vouches_for_is_named_and_left_alone_by_every_verb(finished, tmp_path):
    for name in UNKNOWN:
        path = finished / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(name.encode())

    def check(what: str) -> None:
        assert {name: (finished / name).read_bytes() for name in UNKNOWN} == {n: n.encode() for n in UNKNOWN}, what

    notes = said(finished, "note")
    assert f"{len(UNKNOWN)} files are unknown" in notes and "notes.txt" in notes and "left alone" in notes
    assert verify(finished).ok
    check("verify")
    assert repair(finished) == []
    flip(finished / "prompts" / "train.parquet", 100)
    flip(finished / "model" / "head.safetensors", 100)
    flip(finished / "scores" / "0-blank" / "train.parquet", 100)
    flip(finished / "results.csv", 10)
    assert len(repair(finished)) == 4
    check("repair")
    run_recipe(load_recipe(finished), finished)
    check("run")
    write_report(layout.Run(finished))
    check("report")
    export(finished, "imagefolder", tmp_path / "out")
    check("export")
    assert verify(finished).ok and f"{len(UNKNOWN)} files are unknown" in said(finished, "note")


# ---- the command -----------------------------------------------------------------------------------------------------


def test_the_command_prints_a_table_and_exits_with_1_where_something_is_wrong(run):
    from test_cli import figment

    done = figment("verify", run)
    assert done.returncode == 0 and "Everything is as it was written." in done.stdout
    flip(shard(run), 300)
    done = figment("verify", run, "--fast")
    assert done.returncode == 1 and "broken" in done.stdout
    assert done.stdout.splitlines()[-1].startswith(
        "Make again what is broken or missing, and nothing else: figment repair"
    )
    assert json.loads((run / "images" / "stage.json").read_text())["counts"]["made"] == 20


# ---- what later runs must not hide -----------------------------------------------------------------------------------


def test_a_later_run_records_no_new_checksum_for_a_damaged_shard(tmp_path):
    make_images(damage.recipe(**{"generate.shard_size": 1}), tmp_path, generator=Unlucky(fails="blue thing"))
    whole = shard(tmp_path)  # red; every other shard is tried again
    flip(whole, damage.image_at(whole, 0) + 50)
    make_images(damage.recipe(**{"generate.shard_size": 1}), tmp_path, generator=Unlucky())
    assert f"{whole.name} is not the file that was written" in said(tmp_path)


def test_a_retry_that_was_killed_before_its_end_is_recorded_by_the_next_run(tmp_path):
    make_images(damage.recipe(), tmp_path, generator=Unlucky(fails="blue thing"))
    old = (tmp_path / "images" / "stage.json").read_bytes()
    make_images(damage.recipe(), tmp_path, generator=Unlucky())
    (tmp_path / "images" / "stage.json").write_bytes(old)  # as if it had been killed just before
    assert not verify(tmp_path).ok
    make_images(damage.recipe(), tmp_path, generator=Unlucky())
    assert verify(tmp_path).ok and not verify(tmp_path).findings

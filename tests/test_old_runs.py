"""Runs of version 0.1: read by everything that reads, called old and never damaged, and never written to."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import v0_1
from damage import flip
from figment.errors import FigmentError
from figment.exports.export import export
from figment.images_in.verdicts import open_kept
from figment.layout import Run
from figment.recipe import load_recipe
from figment.repair import repair
from figment.report.folder import report_of
from figment.run import make_images, run_recipe
from figment.stages.report import write_report
from figment.status import status
from figment.studies.arms import run_arms
from figment.studies.table import read_table, run_table, write_page
from figment.verify import verify

RUNS = [kind for kind in v0_1.KINDS if kind != "table"]
REFUSED = "written by an older figment"


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory) -> dict[str, Path]:
    return {kind: v0_1.unpack(kind, tmp_path_factory.mktemp(kind)) for kind in v0_1.KINDS}


def state(folder: Path) -> dict[str, bytes]:
    """Every file but the locks."""
    files = (p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".lock"))
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


@pytest.mark.parametrize("kind", v0_1.KINDS)
def test_reading_finds_nothing_wrong_and_changes_nothing(unpacked, kind):
    folder = unpacked[kind]
    before = state(folder)
    found = verify(folder)
    assert found.ok
    text = "\n".join(f.text for f in found.findings)
    assert "an older figment" in text
    assert "damaged" not in text and "missing" not in text and "is not there" not in text and "unknown" not in text
    rows = status(folder)
    assert rows and all(row.state == "done" for row in rows), rows
    assert load_recipe(folder).task.class_names == ["trouser", "sneaker", "bag"]
    assert state(folder) == before


@pytest.mark.parametrize("kind", RUNS)
def test_its_images_and_verdicts_can_be_read(unpacked, kind):
    kept = open_kept(unpacked[kind])
    assert 0 < len(kept) <= 12 and kept.load([0])[0].shape[2] == 3


def test_its_images_can_be_exported(unpacked, tmp_path):
    before = state(unpacked["plain"])
    export(unpacked["plain"], "imagefolder", tmp_path / "out")
    assert len(list((tmp_path / "out").rglob("*.png"))) == len(open_kept(unpacked["plain"]))
    assert state(unpacked["plain"]) == before


@pytest.mark.parametrize("kind", v0_1.KINDS)
def test_its_report_can_be_written_again_and_nothing_else_is(unpacked, tmp_path, kind):
    folder = Path(shutil.copytree(unpacked[kind], tmp_path / "run"))
    before = state(folder)
    if kind == "table":
        write_page(read_table(folder), folder)
    else:
        assert report_of(folder).verdict
        write_report(Run(folder))
    after = state(folder)
    assert [name for name in before if after[name] != before[name]] == ["report.html"] and after.keys() == before.keys()


def run_into(folder: Path) -> Any:
    recipe = load_recipe(folder)
    return run_table(recipe, folder) if recipe.table else run_arms(recipe, folder)


def one_run_into(folder: Path) -> Any:
    return run_recipe(load_recipe(folder).changed({"table": None}), folder)


def images_into(folder: Path) -> Any:
    return make_images(load_recipe(folder).changed({"table": None}), folder)


@pytest.mark.parametrize("kind", v0_1.KINDS)
@pytest.mark.parametrize("write", [repair, run_into, one_run_into, images_into])
def test_writing_to_it_is_refused(unpacked, kind, write: Callable[[Path], Any]):
    folder = unpacked[kind]
    before = state(folder)
    why = REFUSED if kind != "table" or write in (repair, run_into) else "holds a table"
    with pytest.raises(FigmentError, match=why):
        write(folder)
    assert state(folder) == before


def test_a_flipped_byte_is_found_and_no_remedy_is_offered(unpacked, tmp_path):
    folder = Path(shutil.copytree(unpacked["plain"], tmp_path / "run"))
    shard = sorted((folder / "images").glob("*.parquet"))[0]
    flip(shard, shard.stat().st_size // 2)
    found = verify(folder)
    broken = [f for f in found.findings if f.severity == "broken"]
    assert broken and all(f.remedy == "" and f.stage == "images" for f in broken)
    assert shard.name in broken[0].text and found.advice.startswith("This cannot be mended")

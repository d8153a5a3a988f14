"""One byte flipped, or a file lost, in every kind of file that runs and tables hold: it is found, and made again."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from damage import flip
from figment.errors import FigmentError
from figment.layout import SCRATCH
from figment.recipe import Recipe, validate
from figment.repair import repair
from figment.studies.arms import run_arms
from figment.studies.table import run_table
from figment.verify import verify

pytestmark = pytest.mark.slow

NAMES = ["red thing", "green thing"]
SAMPLING = {"images_per_class": 2, "shard_size": 3, "num_inference_steps": 2, "dtype": "float32", "guidance_scale": 1.0}
#: Of a record: when, where and how long, which no second making repeats.
TIMES = {"finished", "seconds", "peak_memory_mb", "device", "versions", "checksum", "files"}
HOW = {"repair", "the same command"}
CACHES = ("features/", "trainings/")  # what is damaged there is taken away, and made again when it is needed


@dataclass(frozen=True)
class Made:
    """A finished run or table, and the command that made it."""

    folder: Path
    again: Callable[[Path], Any]


def recipe(clip: Path, photos: Path, **changes: Any) -> Recipe:
    data = {
        "name": "flipped",
        "task": {"class_names": NAMES, "real": {split: str(photos / split) for split in ("train", "test")}},
        "prompts": {"kind": "templates"},
        "generate": {"kind": "procedural", "images_per_class": 3, "shard_size": 4, "height": 24, "width": 20},
        "filters": [{"kind": "blank"}],
        "train": {"encoder": str(clip), "epochs": 1, "seeds": 1, "learning_rate": 0.05},
        "evaluate": {"shots": [1], "draws": 2},
    }
    return validate({**data, **changes}, "test")


TABLE = {
    "title": "Two losses",
    "source": "nobody",
    "seeds": 1,
    "rows": {"CE": {"train.soft_weight": 0.0}, "SCE": {"train.soft_weight": 0.5}},
    "columns": {"2": {"train.images_per_class": 2}},
    "printed": {"CE": {"2": 50.0}},
}
LESS = {"real_all": False, "exchange_rate": False}
FINETUNE = {"rank": 1, "alpha": 1, "warmup_steps": 1, "steps": 2, "batch_size": 2, "text_encoder": False}


@pytest.fixture(scope="module")
def two_classes(photos, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("two")
    for split in ("train", "test"):
        for name in NAMES:
            shutil.copytree(photos / split / name.replace(" ", "_"), root / split / name.replace(" ", "_"))
    return root


@pytest.fixture(scope="module")
def made(request, tmp_path_factory, clip, sd15, two_classes) -> Made:
    kind, changes = request.param, {}
    if kind == "run":
        changes = {"arms": {"CE": {"train.soft_weight": 0.0}}}
    elif kind == "few-shot run":
        generate = {"model": str(sd15), **SAMPLING, "real_guidance": {}}
        changes = {"few_shot": {"shots": 2}, "generate": generate, "evaluate": LESS}
    elif kind == "fine-tuned run":
        pytest.importorskip("peft")
        changes = {"generate": {"model": str(sd15), **SAMPLING, "finetune": FINETUNE}, "evaluate": LESS}
    elif kind == "table":
        changes = {"table": TABLE, "few_shot": {"shots": 2}}
    own = recipe(clip, two_classes, **changes)
    run = run_table if kind == "table" else run_arms
    folder = tmp_path_factory.mktemp("made") / "run"
    run(own, folder)
    assert not verify(folder).findings
    return Made(folder, lambda out: run(own, out))


# ---- what a folder holds ---------------------------------------------------------------------------------------------


def held(folder: Path) -> dict[str, Path]:
    files = (p for p in sorted(folder.rglob("*")) if p.is_file())
    named = ((p.relative_to(folder).as_posix(), p) for p in files)
    return {name: path for name, path in named if not SCRATCH.search(name) and "set-aside" not in name}


def kind_of(name: str) -> str:
    """A file's name with stars for what tells it from others of its kind."""
    name = re.sub(r"(?<![a-z])[0-9a-f]{12,}(?![a-z])", "*", name)
    name = re.sub(r"(features|arms|cells|scores)/[^/]+/", r"\1/*/", name)
    return re.sub(r"\d+(?=[/.])", "*", name)


def kinds(folder: Path) -> dict[str, str]:
    """Kind -> the first file of it."""
    found: dict[str, str] = {}
    for name in held(folder):
        found.setdefault(kind_of(name), name)
    return found


def content(folder: Path) -> dict[str, Any]:
    """What counts of every file: all bytes, but for times and pages; without the caches, which may be emptied."""
    own: dict[str, Any] = {}
    for name, path in held(folder).items():
        data: Any = path.read_bytes()
        if name.startswith(CACHES):
            continue
        if path.name in ("stage.json", "table.json"):
            data = {key: value for key, value in json.loads(data).items() if key not in TIMES}
        elif path.name == "report.html":
            data = len(re.findall(rb"<table", data))
        elif path.name == "table.md":
            data = re.sub(rb"made in .*", b"", data)
        elif path.name == "README.md":  # has the name of whoever made them, an arm perhaps
            data = re.sub(rb'"[^"]*: generated images"', b"", data)
        own[name] = data
    return own


def is_near(place: str, name: str) -> bool:
    """Whether a finding at a place may be about a file."""
    return place in (".", name) or name.startswith(f"{place}/") or place.startswith(f"{name}/")


# ---- every kind ------------------------------------------------------------------------------------------------------


def mended(made: Made, folder: Path, name: str) -> str:
    """By what a folder was mended."""
    try:
        repair(folder)
        how = "repair"
    except FigmentError:
        how = ""
    if not (how and verify(folder).ok):
        made.again(folder)
        how = "the same command"
    if not verify(folder).ok:
        return f"NOTHING: {verify(folder).findings}"
    before, after = content(made.folder), content(folder)
    other = [own for own in before | after if after.get(own) != before.get(own)]
    return how if not other else f"{how}, BUT OTHER: {other}"


def harmed(made: Made, harm: Callable[[Path], None], names: dict[str, str]) -> Iterator[tuple[str, str, str]]:
    """What was harmed, what verify says, by what it was mended."""
    for kind, name in names.items():
        folder = made.folder.with_name("harmed")
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(made.folder, folder)
        harm(folder / name)
        findings = [f for f in verify(folder).findings if f.severity != "note"]
        if not findings:
            yield kind, "", ""
            continue
        far = [f for f in findings if not is_near(f.stage, name) and "the images that it uses" not in f.text]
        yield kind, findings[0].text, mended(made, folder, name) if not far else f"FOUND ELSEWHERE: {findings}"


def table_of(rows: list[tuple[str, str, str]]) -> str:
    lines = [f"{kind:<58} | {'yes' if found else 'no':<5} | {how}" for kind, found, how in rows]
    return "\n".join(["", f"{'file':<58} | found | mended by", "-" * 90, *lines])


def of(*kinds: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("made", kinds, indirect=True)


@of("run", "few-shot run", "fine-tuned run", "table")
def test_a_flipped_byte_in_every_kind_of_file(made):
    rows = list(harmed(made, lambda path: flip(path, path.stat().st_size // 2), kinds(made.folder)))
    print(table_of(rows))
    assert not [kind for kind, found, _ in rows if not found]
    assert {how for *_, how in rows} <= HOW
    assert len(rows) > 15


def lose(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


@of("run", "table")
def test_every_kind_of_file_that_is_lost_is_made_again(made):
    names = {kind: name for kind, name in kinds(made.folder).items() if not name.startswith(CACHES)}
    rows = list(harmed(made, lose, names))
    print(table_of(rows))
    assert not [kind for kind, found, _ in rows if not found]
    assert {how for *_, how in rows} <= HOW


FOLDERS = {
    "run": [
        "prompts",
        "images",
        "images/00000",
        "scores",
        "scores/0-blank",
        "model",
        "arms/00-ce/scores",
        "arms/00-ce/model",
        "arms/00-ce",
        "arms",
    ],
    "fine-tuned run": ["finetune"],
    "table": [
        "cells/00-ce-2/seed-0/scores",
        "cells/00-ce-2/seed-0/model",
        "cells/00-ce-2/seed-0",
        "cells/00-ce-2",
        "images",
    ],
}


@of(*FOLDERS)
def test_whole_folders_that_are_lost_are_made_again(made, request):
    names = {name: name for name in FOLDERS[request.node.callspec.params["made"]]}
    rows = list(harmed(made, lose, names))
    print(table_of(rows))
    assert not [kind for kind, found, _ in rows if not found]
    assert {how for *_, how in rows} <= HOW


@of("run")
@pytest.mark.parametrize("name", CACHES)
def test_a_cache_may_be_emptied(made, tmp_path, name):
    folder = Path(shutil.copytree(made.folder, tmp_path / "run"))
    shutil.rmtree(folder / name)
    assert not verify(folder).findings and repair(folder) == []
    made.again(folder)
    assert content(folder) == content(made.folder)

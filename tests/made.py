"""Finished runs and a table of tiny models, each kind with all that is special to it, and what counts of their files."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from figment.engines import Engine
from figment.errors import FigmentError
from figment.layout import SCRATCH
from figment.recipe import Recipe, validate
from figment.repair import repair
from figment.studies.arms import run_arms
from figment.studies.table import run_table
from figment.verify import verify

NAMES = ["red thing", "green thing"]
SAMPLING = {"images_per_class": 2, "shard_size": 3, "num_inference_steps": 2, "dtype": "float32", "guidance_scale": 1.0}
#: Of a record: when, where and how long, which no second making repeats.
TIMES = {"finished", "seconds", "rows_made", "peak_memory_mb", "device", "versions", "checksum", "files"}
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
        "train": {"encoder": str(clip), "epochs": 1, "min_steps": 20, "seeds": 1, "learning_rate": 0.05},
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
KINDS = ("run", "few-shot run", "fine-tuned run", "table")


def recipe_of_kind(kind: str, clip: Path, sd15: Path, photos: Path) -> Recipe:
    """The recipe of one of KINDS; ``photos`` has class folders of NAMES."""
    changes: dict[str, Any] = {}
    if kind == "run":
        changes = {"arms": {"CE": {"train.soft_weight": 0.0}}}
    elif kind == "few-shot run":
        generate = {"model": str(sd15), **SAMPLING, "real_guidance": {}}
        changes = {"few_shot": {"shots": 2}, "generate": generate, "evaluate": LESS}
    elif kind == "fine-tuned run":
        changes = {"generate": {"model": str(sd15), **SAMPLING, "finetune": FINETUNE}, "evaluate": LESS}
    elif kind == "table":
        changes = {"table": TABLE, "few_shot": {"shots": 2}}
    return recipe(clip, photos, **changes)


def make(own: Recipe, folder: Path, engine: Engine | None = None) -> Made:
    """What the command makes of a recipe, be it a run or a table."""
    run = run_arms if own.table is None else run_table
    run(own, folder, engine)
    return Made(folder, lambda out: run(own, out))


def of_two_classes(photos: Path, root: Path) -> Path:
    """The photographs of NAMES alone, in ``root``."""
    for split in ("train", "test"):
        for name in NAMES:
            shutil.copytree(photos / split / name.replace(" ", "_"), root / split / name.replace(" ", "_"))
    return root


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

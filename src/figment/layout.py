"""The name of every file and folder below a run, once."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from figment import files, records
from figment.errors import FigmentError
from figment.files import is_remote, load_json, write_json

#: Not worth a record: locks, signs of life, what killed writers left, checkpoints, what was set aside, what an upload is made from.
SCRATCH = re.compile(
    r"(^|/)(\.lock[^/]*|\.heartbeat|\.figment|\.[^/]*\.tmp)$|^(set-aside|hub|curves|features/(networks|unfrozen|pretrain))/"
)
#: Everything that a run, a study or a table writes to in its folder: what of it is there already is in the way of a new one.
NAMES = frozenset(
    {
        "prompts",
        "images",
        "scores",
        "model",
        "features",
        "trainings",
        "finetune",
        "arms",
        "cells",
        "curves",
        "hub",
        "set-aside",
    }
)
NAMES |= {
    "hand",
    "resolved.yaml",
    "shared.json",
    "shots.json",
    "split.json",
    "results.jsonl",
    "results.csv",
    "predictions.parquet",
    "report.html",
    ".huggingface.yaml",
    "pilot.json",
    "worth.html",
    "worth.md",
    "worth.json",
}
NAMES |= {"table.json", "table.md", "best.yaml", "stage.json", ".heartbeat"}
EXPORT = ".figment-export.json"  # the record of an export; hidden, since readers of others take whatever else lies there for data
DENOISERS = ("unet", "transformer")  # diffusers' names of the folder of a whole one
LORA = "pytorch_lora_weights.safetensors"  # the name that diffusers looks for
OLD_RECIPE = "recipe.yaml"  # what version 0.1 called the resolved recipe; a user's own may be called so


@dataclass(frozen=True)
class Run:
    """The folder of one run, local or remote.

    A run of a study (an arm, a cell of a table) may use the images of another and the caches of the whole: where they are
    is said in its ``shared.json``, or by ``made_at`` and ``root_at`` before that is written.
    """

    folder: Path
    made_at: Path | None = field(default=None, compare=False)
    root_at: Path | None = field(default=None, compare=False)

    # ---- stages ----

    @property
    def prompts(self) -> Path:
        return self.made.folder / "prompts"

    @property
    def images(self) -> Path:
        return self.made.folder / "images"

    @property
    def scores(self) -> Path:
        return self.folder / "scores"

    @property
    def hand(self) -> Path:
        """What a person said of the images, beside them: it holds for every run that uses them."""
        return self.made.folder / "hand"

    @property
    def model(self) -> Path:
        return self.folder / "model"

    # ---- what a study shares ----

    @property
    def finetune(self) -> Path:
        return self.root / "finetune"

    @property
    def features(self) -> Path:
        return self.root / "features"

    @property
    def chat(self) -> Path:
        return self.features / "chat"

    @property
    def trainings(self) -> Path:
        """What classifiers take the test images for: of trainings that runs may share."""
        return self.root / "trainings"

    # ---- files ----

    @property
    def recipe(self) -> Path:
        """The resolved recipe. The user's own is never written to, so this has a name of its own."""
        of_old = self.folder / OLD_RECIPE
        return of_old if not self.resolved.is_file() and of_old.is_file() and self.is_old else self.resolved

    @property
    def resolved(self) -> Path:
        """Where the resolved recipe is written to."""
        return self.folder / "resolved.yaml"

    @property
    def shots(self) -> Path:
        return self.folder / "shots.json"

    @property
    def split(self) -> Path:
        """Of real images that nobody had split: which of them went where."""
        return self.folder / "split.json"

    @property
    def results(self) -> Path:
        return self.folder / "results.jsonl"

    @property
    def results_csv(self) -> Path:
        return self.folder / "results.csv"

    @property
    def predictions(self) -> Path:
        own = self.folder / "predictions.parquet"
        old = self.model / "predictions.parquet"  # version 0.1
        return old if not own.is_file() and old.is_file() else own

    @property
    def report(self) -> Path:
        return self.folder / "report.html"

    @property
    def card(self) -> Path:
        """Of a backbone."""
        return self.model / "README.md"

    @property
    def data_files(self) -> Path:
        """What ``datasets.load_dataset`` opens of this folder, under the name that it looks for."""
        return self.folder / ".huggingface.yaml"

    @property
    def pilot(self) -> Path:
        """What a look at the first images said, with a checksum of its own."""
        return self.folder / "pilot.json"

    @property
    def heartbeat(self) -> Path:
        return self.folder / ".heartbeat"

    @property
    def set_aside(self) -> Path:
        return self.folder / "set-aside"

    @property
    def hub(self) -> Path:
        return self.folder / "hub"

    @property
    def kind(self) -> Literal["run", "set", "table"]:
        """A whole run; a set of prompts and images that cells of a table share; or the table, which has its caches and results."""
        if (self.folder / "cells").is_dir():
            return "table"
        parent = self.folder.parent
        return "set" if parent.name == "images" and (parent.parent / "cells").is_dir() else "run"

    @property
    def is_cell(self) -> bool:
        """Of a table, which has one report for all of them."""
        return self.folder.parent.parent.name == "cells"

    # ---- who shares what ----

    @property
    def shared(self) -> Path:
        return self.folder / "shared.json"

    @property
    def made(self) -> Run:
        """The run in whose folder the prompts and images lie; usually this one."""
        place = self.made_at or self._elsewhere("made")
        return self if place == self.folder else Run(place)

    @property
    def root(self) -> Path:
        """The folder of the whole study, with its caches; usually this one."""
        return self.root_at or self._elsewhere("root")

    def _elsewhere(self, what: str) -> Path:
        try:
            return joined(self.folder, load_json(self.shared, "record")[what])
        except OSError:  # there is none, or the folder cannot be read, which whoever writes there says
            return self._root_above() if what == "root" else self.folder
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise FigmentError(
                f"{self.shared} is damaged. The next run writes it again: figment run with the recipe of the whole study."
            ) from error

    def _root_above(self) -> Path:
        """Of what has no shared.json: sets that cells share, and arms of version 0.1, use the features of the whole."""
        of_study = self.folder.parent.name == "arms" or self.kind == "set"
        return self.folder.parent.parent if of_study else self.folder

    def share(self) -> None:
        """Write down where the images and the caches are, as ways from here, so that a study can be moved as a whole."""
        made, root = self.made_at or self.folder, self.root_at or self.folder
        if made != self.folder or root != self.folder:
            write_json(self.shared, {"made": way(self.folder, made), "root": way(self.folder, root)})

    @property
    def is_old(self) -> bool:
        """Whether version 0.1 wrote it, or (of a table) one of its cells."""
        if self.kind == "table":
            return any(run.is_old for run in Study(self.folder).runs() if run.folder != self.folder)
        return any(
            records.read(folder).state == "old"
            for folder in (self.folder / "prompts", self.folder / "images", self.model)
        )


@dataclass(frozen=True)
class Study:
    """The folder of many runs: arms beside the recipe's own run, or the cells of a table."""

    folder: Path

    @property
    def arms(self) -> Path:
        return self.folder / "arms"

    @property
    def order_of_arms(self) -> Path:
        return self.arms / "arms.json"

    @property
    def cells(self) -> Path:
        return self.folder / "cells"

    @property
    def sets(self) -> Path:
        """Of a table: a folder for each set of images that cells share."""
        return self.folder / "images"

    @property
    def table_json(self) -> Path:
        return self.folder / "table.json"

    @property
    def table_md(self) -> Path:
        return self.folder / "table.md"

    @property
    def best(self) -> Path:
        """Of a sweep: the recipe with the settings that it found best."""
        return self.folder / "best.yaml"

    @property
    def is_table(self) -> bool:
        return self.cells.is_dir()

    def runs(self) -> Iterator[Run]:
        """All runs below, in the order in which they were made; the recipe's own last. A table's sets of images come first."""
        if self.is_table:
            yield from (Run(p) for p in subfolders(self.sets))
            yield from (Run(p) for cell in subfolders(self.cells) for p in subfolders(cell))
        else:
            yield from (Run(p) for p in subfolders(self.arms))
        yield Run(self.folder)


def folder_name(number: int, name: str) -> str:
    """A name for the folder of one of many runs: in order, and readable."""
    return f"{number:02d}-" + (re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "arm")


def subfolders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("*") if p.is_dir())


def runs_of(folder: Path) -> list[Run]:
    """Every run in a folder. Raises FigmentError where there is none."""
    runs = list(Study(folder).runs())
    own = runs[-1]
    if len(runs) == 1 and not own.recipe.is_file() and not (folder / "prompts").is_dir():
        raise FigmentError(
            f"{folder} is neither the folder of a run nor of images: it has no {own.resolved.name}, no prompts and no shards."
            " Give the folder that figment run or figment generate wrote to."
        )
    return runs


def check_not_of_old(run: Run) -> None:
    """Raise FigmentError where another version of figment wrote the run: nothing is written there, not even a lock."""
    for folder in (run.folder / "prompts", run.folder / "images", run.model):
        found = records.read(folder)
        if found.state in ("old", "newer"):
            raise FigmentError(f"{folder} {found.problem}")


def is_images_folder(folder: Path) -> bool:
    """Whether these are images alone, such as :func:`figment.generate_images` makes them."""
    if Run(folder).recipe.is_file() or (folder / "prompts").is_dir() or (folder / "cells").is_dir():
        return False
    return (folder / records.NAME).is_file() or bool(shard_files(folder))


# ---- shards ----------------------------------------------------------------------------------------------------------

SHARD = re.compile(r"train-(\d{7,})\.parquet", re.ASCII)
SIDECAR = re.compile(r"(\d{7,})(\.partial)?\.json", re.ASCII)
A_FOLDERS_NAME = re.compile(r"\d{5}", re.ASCII)
LISTERS = 16  # folders of shards listed at a time: waiting, mostly
A_FOLDER = 1000  # shards: a folder of a million files is slow to list everywhere


def shard_path(folder: Path, index: int) -> Path:
    """``00003/train-0003217.parquet``: the name holds no total, so that a set can grow, and sorts up to ten million."""
    return folder / f"{index // A_FOLDER:05d}" / f"train-{index:07d}.parquet"


def sidecar_path(folder: Path, index: int, partial: bool = False) -> Path:
    """What vouches for a shard. ``partial``: it holds failed rows, or fewer than a full one; so a listing tells which to open."""
    return folder / f"{index // A_FOLDER:05d}" / f"{index:07d}{'.partial' if partial else ''}.json"


def image_folders(folder: Path) -> list[Path]:
    """The folder of a set of images, and those below it in which its shards lie."""
    return [folder, *(folder / name for name in _folders_of_shards(folder))]


def _folders_of_shards(folder: Path) -> list[str]:
    return sorted(name for name in files.names_in(folder) if A_FOLDERS_NAME.fullmatch(name))


def names_of_shards(folder: Path) -> Iterator[tuple[str, str]]:
    """Sub-folder and name of whatever lies in those that hold shards, in the order of the sub-folders. One listing each, several at a
    time where they are remote; no path is made of a name, which takes longer than to list it."""
    below = _folders_of_shards(folder)
    if not is_remote(folder):
        yield from ((name, own) for name in below for own in files.names_in(folder / name))
        return
    with ThreadPoolExecutor(LISTERS) as pool:
        for name, own in zip(below, pool.map(lambda name: files.names_in(folder / name), below), strict=True):
            yield from ((name, one) for one in own)


def named_in(below: str, name: str, kind: re.Pattern[str]) -> re.Match[str] | None:
    """The name of a shard (``SHARD``) or sidecar (``SIDECAR``), in the folder that it belongs to: not of a copy in another."""
    found = kind.fullmatch(name)
    return found if found and below == f"{int(found[1]) // A_FOLDER:05d}" else None


def first_shard(folder: Path) -> Path | None:
    """The first of our own shards in a folder; lists no further."""
    for below in _folders_of_shards(folder):
        found = [int(own[1]) for name in files.names_in(folder / below) if (own := named_in(below, name, SHARD))]
        if found:
            return shard_path(folder, min(found))
    return None


def shard_files(folder: Path) -> list[Path]:
    """The Parquet files of a data set in their order: our own in sub-folders, those of version 0.1 and of others in one folder."""
    own = sorted(int(found[1]) for below, name in names_of_shards(folder) if (found := named_in(below, name, SHARD)))
    return [shard_path(folder, i) for i in own] or sorted(folder.glob("[!.]*.parquet"))


# ---- ways from one folder to another ---------------------------------------------------------------------------------


def way(start: Path, end: Path) -> str:
    """From one folder to another, with ``..`` where need be: ``../../images/0f3a``."""
    if is_remote(start):
        return os.path.relpath(str(end).partition("://")[2], str(start).partition("://")[2])
    return os.path.relpath(end, start)


def joined(start: Path, told: str) -> Path:
    """Where a way leads."""
    place = start
    for part in told.split("/"):
        place = place.parent if part == ".." else place if part in ("", ".") else place / part
    return place

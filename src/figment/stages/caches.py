"""What can be had again: ``features/``, ``trainings/`` and ``pilot.json``. Each file has beside it, or in it, what vouches for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from figment import records
from figment.files import leftovers, read_bytes, remove
from figment.layout import Run
from figment.stages.stage import Look, Stage, StageStatus

if TYPE_CHECKING:
    from figment.context import Context


class Caches(Stage):
    """Makes nothing by itself: the other stages fill it, and look into it before they compute."""

    name = "caches"
    of = ("run", "table")

    def folders(self, run: Run) -> list[Path]:
        return [run.features, run.trainings] if run.root == run.folder else []

    def run(self, ctx: Context) -> None:
        return None

    def status(self, run: Run) -> list[StageStatus]:
        return []

    def verify(self, look: Look) -> None:
        for folder in self.folders(look.run):
            files = cached(folder)
            for path in files:
                look.known |= {path, path.with_suffix(".json")}
                problem = "" if look.old else check_cached(path)
                if problem:
                    look.add("broken", folder, f"{path.name} {problem}", remedy="repair")
            old = [leftover for own in (folder, *folder.glob("*")) if own.is_dir() for leftover in leftovers(own)]
            if old:
                look.add("note", folder, f"{len(old)} files of writers that were killed take up room", remedy="repair")
            if files:
                look.checked(folder, f"{len(files):,} files of the cache")
        self._verify_pilot(look)

    def _verify_pilot(self, look: Look) -> None:
        path = look.run.pilot
        if path.is_file():
            look.known.add(path)
            if problem := check_cached(path):
                look.add("broken", path, problem, remedy="repair")

    def repair(self, ctx: Context, look: Look) -> Iterator[str]:
        for folder in self.folders(ctx.run):
            for path in cached(folder):
                if check_cached(path):
                    remove(path)
                    if path.suffix == ".parquet":
                        remove(path.with_suffix(".json"))
                    yield f"{folder.name}: removed the damaged {path.name}; it is a cache, and the next run fills it"
        if look.broken(ctx.run.pilot):
            remove(ctx.run.pilot)
            yield f"removed the damaged {ctx.run.pilot.name}; figment pilot says it again, and makes no image that is there"


def cached(folder: Path) -> list[Path]:
    """The files of a cache: Parquet with a JSON beside each, and answers of chat servers, which are JSON themselves.

    All are called by a fingerprint; what has another name is somebody else's."""
    own = sorted([*folder.glob("*.parquet"), *folder.glob("*/*.parquet")]) + sorted(folder.glob("chat/*.json"))
    return [path for path in own if records.IS_FINGERPRINT.fullmatch(path.stem)]


def check_cached(path: Path) -> str:
    """What is wrong with a file of a cache; nothing where it is right."""
    if path.suffix == ".json":
        return "" if records.read_answer(path) is not None else "is not the answer that was written"
    told = records.beside(path)
    if told is None:
        return "has nothing beside it that vouches for it"
    return "" if told.is_of(read_bytes(path)) else "is not the file that was written"

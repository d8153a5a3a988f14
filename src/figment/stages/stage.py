"""What every stage says of itself: what it makes, what it would cost, how far it is, whether it is right, and how to mend it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from figment import layout, records
from figment.files import leftovers, remove
from figment.layout import Run, Study
from figment.records import Found

if TYPE_CHECKING:
    from figment.context import Context
    from figment.recipe import Recipe

Severity = Literal["broken", "missing", "note"]
Remedy = Literal["repair", "run", "recipe", ""]


# ---- what verify finds -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be (broken, missing), or that is worth knowing (note).

    ``stage`` is the place in the folder, such as ``images`` or ``arms/00-basic/scores/1-clip``; ``shard`` the number of the
    shard, where it is about one; ``remedy`` the command that mends it: "repair", "run",
    "recipe" (a run of the user's own recipe, since the resolved one is damaged), or nothing.
    """

    severity: Severity
    stage: str
    text: str
    shard: int | None = None
    remedy: Remedy = ""


@dataclass
class Verification:
    """What was found, and for each stage in words what was looked at."""

    folder: Path
    findings: list[Finding] = field(default_factory=list)
    checked: dict[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Nothing is broken or missing. Notes do not count."""
        return all(f.severity == "note" for f in self.findings)

    @property
    def advice(self) -> str:
        """What to do, in a line."""
        remedies = {f.remedy for f in self.findings if f.severity != "note"}
        if "recipe" in remedies:
            return f"Run the recipe that you ran first again, which writes this anew: figment run RECIPE --out {self.folder}"
        if "repair" in remedies:
            return f"Make again what is broken or missing, and nothing else: figment repair {self.folder}"
        if "run" in remedies and not any(f.severity == "broken" for f in self.findings):
            return f"Nothing is harmed. The next run makes what is missing: figment run {self.folder}"
        if "run" in remedies:
            return f"The next run makes this again: figment run {self.folder}"
        return "Everything is as it was written." if self.ok else "This cannot be mended by figment; see above."


@dataclass
class Look:
    """One run that is being verified: from the disk alone, without its models, and without its recipe if that is lost."""

    run: Run
    recipe: Recipe | None
    found: Verification
    fast: bool = False
    known: set[Path] = field(default_factory=set)  # files that something vouches for
    memory: dict[str, Any] = field(default_factory=dict)  # what stages tell those after them

    @cached_property
    def old(self) -> bool:
        """Whether version 0.1 wrote the run: what has no record there is not missing, and nobody knows what else there was."""
        return self.run.is_old

    @cached_property
    def was_whole(self) -> bool:
        """Whether the run once came to its end, so that whatever is not there was lost, and not only never begun."""
        run = self.run
        if run.kind == "set":
            return records.read(run.folder.parent.parent).state != "none"
        if run.kind == "table":
            return Study(run.folder).table_json.is_file()
        return run.results.is_file() or any(records.read(p).state != "none" for p in (run.folder, run.model))

    def name(self, folder: Path) -> str:
        """A place as it is shown: its way from the folder that is verified."""
        try:
            return str(folder.relative_to(self.found.folder))
        except ValueError:
            return str(folder)

    def add(self, severity: Severity, place: Path, text: str, *, shard: int | None = None, remedy: Remedy = "") -> None:
        self.found.findings.append(Finding(severity, self.name(place), text, shard, remedy))

    def checked(self, place: Path, text: str) -> None:
        self.found.checked[self.name(place)] = text

    def record(self, folder: Path, lost: bool = False) -> Found:
        """The record of a folder; what is wrong with it, and with any file it vouches for, is noted.

        A stage that was never begun is no finding, as after figment generate; ``lost`` says that it must have been.
        """
        found = records.read(folder)
        self.known |= {found.folder / records.NAME, *(folder / name for name in found.files)}
        if found.state == "damaged":
            self.add("broken", folder, found.problem, remedy="repair")
        elif found.state == "newer":
            self.add("broken", folder, found.problem)
        elif found.state == "old":
            self.add("note", folder, found.problem)
        elif found.state == "none" and not self.old:
            if lost or self.was_whole:
                self.add("missing", folder, f"{records.NAME} is not there, or the whole folder", remedy="repair")
            elif folder != self.run.folder and any(folder.glob("*")):
                self.add("missing", folder, f"{records.NAME} is not there: this was not finished", remedy="run")
        for name, problem in records.problems(found).items():
            told = name in (self.run.resolved.name, self.run.shared.name)  # what all the rest is mended by
            remedy: Remedy = "" if found.state == "old" else "recipe" if told else "repair"
            self.add("missing" if problem == "is not there" else "broken", folder, f"{name} {problem}", remedy=remedy)
        places = layout.image_folders(folder) if folder == self.run.images else [folder]
        old = [path for place in places for path in leftovers(place)]
        if old:
            self.add("note", folder, f"{len(old)} files of writers that were killed take up room", remedy="repair")
        return found

    def broken(self, folder: Path) -> bool:
        """Whether something about a place was found to be broken or missing."""
        name = self.name(folder)
        return any(f.severity != "note" and f.stage == name for f in self.found.findings)


# ---- what status and forecast say ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StageStatus:
    """``text`` counts what there is."""

    name: str
    state: Literal["done", "partial", "to do"]
    text: str


@dataclass(frozen=True)
class Cost:
    """What a stage would make. ``seconds`` and ``bytes`` are None where they are not known; ``text`` counts, in words."""

    text: str
    seconds: float | None = None
    bytes: int | None = None
    counts: dict[str, int] = field(default_factory=dict)


NOT_TIMED = "with --seconds-per-image nothing is timed."


# ---- a stage ---------------------------------------------------------------------------------------------------------


class Stage:
    """One step of a run. A new one says what it makes (:meth:`run`) and where (:meth:`folders`); the rest follows from its records."""

    name: str
    of: tuple[str, ...] = ("run",)  # the kinds of :attr:`figment.layout.Run.kind` that have it

    def folders(self, run: Run) -> list[Path]:
        """Where its records lie, or will."""
        raise NotImplementedError

    def check(self, ctx: Context) -> None:
        """Raise FigmentError, before anything is written, where what is there was made with other settings."""

    def run(self, ctx: Context) -> None:
        """Make what is missing. Raises FigmentError."""
        raise NotImplementedError

    def cost(self, ctx: Context) -> Cost | None:
        """What :meth:`run` would make and take, found out without writing anything; None: nothing worth a word."""
        return None

    def status(self, run: Run) -> list[StageStatus]:
        """How far it is, from the disk alone."""
        return [status_of(self.place(run, folder), folder) for folder in self.folders(run)]

    def verify(self, look: Look) -> None:
        """Whether everything is as it was written, from the disk alone."""
        for folder in self.folders(look.run):
            found = look.record(folder)
            if found.state == "finished":
                look.checked(folder, f"{len(found.files):,} files")

    def repair(self, ctx: Context, look: Look) -> Iterator[str]:
        """Make again what :meth:`verify` found to be broken or missing, and nothing else; what was done, a line each.

        Called only where something was found. By default it is all made again.
        """
        for folder in self.folders(ctx.run):
            if look.broken(folder):
                remove(folder / records.NAME)
        self.run(ctx)
        yield f"{self.name}: made again"

    def place(self, run: Run, folder: Path) -> str:
        """A folder's way from its run, to show."""
        return str(folder.relative_to(run.folder)) if folder.is_relative_to(run.folder) else self.name


def status_of(name: str, folder: Path) -> StageStatus:
    """From a record: what it counts."""
    found = records.read(folder)
    if found.state == "damaged":
        return damaged(name)
    if found.state == "none":
        return StageStatus(name, "to do", "")
    counts = found.data.get("counts") or {"kept": found.data.get("kept")}
    said = ", ".join(f"{k} {_total(v):,}" for k, v in counts.items() if v is not None)
    seconds = found.data.get("seconds")
    took = f" in {seconds:.0f} s" if isinstance(seconds, int | float) else ""
    old = " (of an older figment)" if found.state == "old" else ""
    return StageStatus(name, "done", said + took + old)


def damaged(name: str) -> StageStatus:
    """Of a place whose record cannot be trusted."""
    return StageStatus(name, "partial", f"{records.NAME} is damaged: figment verify says more")


def _total(value: Any) -> int:
    return sum(Counter(value).values()) if isinstance(value, dict) else value

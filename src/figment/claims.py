"""Whose is a folder? figment writes into one only where it was the first to, and marks it before anything else.

The mark is a file of its own, :data:`MARK`. It is made where nothing lies at a path that figment would write to; in a folder that
has it those paths are figment's, and in one that has not, whatever lies there is the user's. A folder whose records are
whole counts as marked: a copy without hidden files is still the run it was.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from figment import files, layout, records
from figment.errors import FigmentError

MARK = ".figment"
OTHER = (
    "old",
    "newer",
)  # states of records of another version, whose folders are never written to: who claims one is told so
SHOWN = 5  # names in a message


@dataclass(frozen=True)
class Claim:
    """What figment makes of a folder: the names that it writes to there, and the records that show that it did."""

    what: str
    names: re.Pattern[str]
    kinds: frozenset[str]  # of the folder's own record
    below: tuple[str, ...] = ()  # folders with records of their own, as patterns

    @property
    def mark(self) -> bytes:
        text = (
            f"The folder of {self.what}, made by figment. Without this file figment takes what lies here for yours.\n"
        )
        return text.encode()


#: A run, a study or a table.
RUN = Claim(
    "a run",
    re.compile("|".join(map(re.escape, sorted(layout.NAMES)))),
    frozenset({"run", "set", "table"}),
    ("prompts", "model", "arms/*/prompts", "arms/*/model", "images/*/prompts", "cells/*/*/scores/*", "cells/*/*/model"),
)
#: What :func:`figment.generate_images` makes.
IMAGES = Claim("generated images", re.compile(r"\d{5}|stage\.json", re.ASCII), frozenset({"images"}))

#: What ``figment judge`` writes.
JUDGED = Claim("a judged backbone", re.compile(r"judge\.(json|html)|features|training"), frozenset())
CLAIMS = (RUN, IMAGES, JUDGED)


def is_ours(folder: Path, claim: Claim = RUN) -> bool:
    """Whether figment has written into a folder, this version or an older one: by its mark, or by whole records."""
    if _is_marked(folder, claim):
        return True
    own = records.read(folder)
    if own.state == "finished" and own.data["kind"] in claim.kinds:
        return True
    below = (records.read(path) for pattern in claim.below for path in _matching(folder, pattern))
    if own.state in OTHER or any(one.state in ("finished", *OTHER) for one in below):
        return True
    return claim is RUN and layout.Run(folder).is_old


def check(folder: Path, claim: Claim = RUN) -> bool:
    """Whether a folder is figment's already. Raises FigmentError, naming them, where one that is not holds what would be in
    figment's way. An empty folder is in nobody's way, a link to one neither."""
    if is_ours(folder, claim):
        return True
    found = [path for path in _entries(folder) if _is_in_the_way(path, claim)]
    other = next((one for one in CLAIMS if one is not claim and _is_marked(folder, one)), None)
    if other is not None:
        raise FigmentError(
            f"{folder} is the folder of {other.what}, and this would be one of {claim.what}. Nothing was changed. Choose another folder with"
            " --out, one that is new or empty."
        )
    if found and not _is_marked(
        folder, claim
    ):  # else another process of ours began just now: it marks before it writes
        more = f" and {len(found) - SHOWN:,} more" if len(found) > SHOWN else ""
        raise FigmentError(
            f"{folder} holds {', '.join(path.name for path in found[:SHOWN])}{more}, which figment did not make there and would write"
            " to. Nothing was changed. Choose another folder with --out, one that is new or empty."
        )
    return bool(found)


@contextmanager
def claimed(folder: Path, claim: Claim = RUN) -> Iterator[None]:
    """Mark a folder before the first file is written into it. What fails before that leaves no mark behind. Raises FigmentError
    as :func:`check` does."""
    new = not check(folder, claim)
    if new:
        files.write_atomic(folder / MARK, claim.mark)
    with _unmarked([folder] if new else [], claim):
        yield


@contextmanager
def held(*folders: Path, root: Path, part: str = "") -> Iterator[None]:
    """Claim the folders of a run, and hold them while the block runs (see :func:`figment.files.lock`). ``root``, that of the whole
    study, is claimed and not held; if it is figment's, so is what lies below it. Raises FigmentError before anything is written
    where one of them is somebody else's."""
    own = tuple(dict.fromkeys(folders))
    check_outside(root)
    ours = is_ours(root)
    new = [
        folder
        for folder in dict.fromkeys((root, *own))
        if not (_is_marked(folder, RUN) if ours and root in (folder, *folder.parents) else check(folder))
    ]
    for folder in new:  # that of the study first: the others lie in it
        files.write_atomic(folder / MARK, RUN.mark)
    with ExitStack() as stack:
        for folder in own:
            stack.enter_context(files.lock(folder, part))
        # Other parts of a job array may have begun by the mark of this one.
        stack.enter_context(_unmarked([] if part else new, RUN))
        yield


@contextmanager
def _unmarked(folders: Sequence[Path], claim: Claim) -> Iterator[None]:
    """Take the marks away again where the block fails before anything else was written."""
    try:
        yield
    except BaseException:
        for folder in folders:
            if not any(claim.names.fullmatch(path.name) for path in _entries(folder)):
                files.remove(folder / MARK)
        raise


def check_outside(out: Path) -> None:
    """Raise FigmentError where a place lies in the folder of a run under a name that is the run's to write to."""
    place = out if files.is_remote(out) else Path(os.path.realpath(out))  # also where links go round
    for above in place.parents:
        below = place.relative_to(above).parts[0]
        if RUN.names.fullmatch(below) and is_ours(above):
            raise FigmentError(
                f"{out} lies in {above / below}, which belongs to the run in {above}. Nothing was written. Choose a folder outside of"
                " the run with --out."
            )


def _is_marked(folder: Path, claim: Claim) -> bool:
    try:
        return files.read_bytes(folder / MARK, "record") == claim.mark
    except FileNotFoundError:
        return False
    except (OSError, FigmentError):  # of somebody else: a folder, a pipe
        return False


def _matching(folder: Path, pattern: str) -> list[Path]:
    return sorted(folder.glob(pattern)) if "*" in pattern else [folder / pattern]


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:  # it is not there yet, or cannot be read, which whoever writes there says
        return []


def _is_in_the_way(path: Path, claim: Claim) -> bool:
    if path.name == MARK:
        return True
    return claim.names.fullmatch(path.name) is not None and not (path.is_dir() and not _entries(path))

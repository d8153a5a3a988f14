"""What a person said of the images of a run, one by one: ``hand/verdicts.json`` beside the images that they are about.

A verdict is on one image: its id and the hash of its bytes. So a set may grow, lose files and get them back; an image that was made
anew with other pixels under the same id is one that nobody has seen, and the verdict on the former one waits in the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from figment import layout, records
from figment.errors import FigmentError
from figment.files import lock, read_bytes
from figment.layout import Run
from figment.types import Images

NAME = "verdicts.json"
FILTER = "hand"  # what the verdicts count as, after all filters of the recipe
REASON = "rejected by hand"

Word = Literal["", "accepted", "rejected"]  # "": nobody said anything, or took it back
WORDS = get_args(Word)
UNSEEN, ACCEPTED, REJECTED = range(3)  # positions in WORDS


@dataclass(frozen=True)
class Change:
    """A person's word on one image. It holds only if the word before was ``was``: somebody else may have looked meanwhile."""

    id: str
    digest: str
    was: Word
    now: Word


@dataclass(frozen=True)
class ByHand:
    """All that was said: id -> (digest of the image, word). ``version`` is of the file, and empty where there is none."""

    said: Mapping[str, tuple[str, Word]] = field(default_factory=dict)
    version: str = ""

    def word(self, id: str, digest: str) -> Word:
        told, word = self.said.get(id, ("", WORDS[UNSEEN]))
        return word if told == digest else WORDS[UNSEEN]

    def of(self, images: Images) -> np.ndarray:
        """A word for each image, as its position in WORDS: ``uint8 (N,)``."""
        words = np.zeros(len(images), np.uint8)
        if self.said:
            for i, (id, digest) in enumerate(zip(images.ids, images.digests, strict=True)):
                words[i] = WORDS.index(self.word(id, digest))
        return words

    def rejects(self) -> bool:
        return any(word == "rejected" for _, word in self.said.values())


def place(run: Run) -> Path:
    return run.hand / NAME


def read(run: Run, before: ByHand | None = None) -> ByHand:
    """What was said so far; ``before``, if it is still that. Raises FigmentError for a file that is damaged, which is no reason to
    take rejected images back."""
    path = place(run)
    try:
        version = records.digest(read_bytes(path, "record"))
    except FileNotFoundError:
        return ByHand()
    except OSError as error:
        raise _damaged(path) from error
    if before is not None and before.version == version:
        return before
    try:
        told = dict((records.read_answer(path) or {})["verdicts"])
        said = {id: (str(digest), word) for word in WORDS[1:] for id, digest in told[word].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(path) from error
    return ByHand(said, version)


def say(run: Run, changes: Iterable[Change]) -> tuple[ByHand, list[Change]]:
    """Write down what a person said; all of it lies on the disk when this returns. Also returns the changes that do not hold.

    A change that is there already holds, so one that nobody knows the fate of may be sent again. Whoever writes at the same time, from
    another tab or process, waits. Raises FigmentError where the run is not to be written to.
    """
    layout.check_not_of_old(run.made)
    with lock(run.hand, wait=True):
        before = read(run)
        said, refused = dict(before.said), []
        for change in changes:
            there = ByHand(said).word(change.id, change.digest)
            if there not in (change.was, change.now):
                refused.append(change)
            elif change.now:
                said[change.id] = change.digest, change.now
            elif there:
                del said[change.id]
        if said != before.said:
            told = {word: {i: d for i, (d, w) in said.items() if w == word} for word in WORDS[1:]}
            records.write_answer(place(run), {"verdicts": told})
        return (read(run) if said != before.said else before), refused


def _damaged(path: Path) -> FigmentError:
    return FigmentError(
        f"{path} is not as it was written. It says which images a person looked at and rejected, and nobody else can say it again. Put"
        " a copy of it back; or move it away, and the images count as never looked at."
    )

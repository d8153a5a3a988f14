"""A run as the curation page shows it: what is known of each image, the images themselves, and real ones that look like them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from figment import claims, layout, records
from figment.context import Context
from figment.errors import FigmentError
from figment.images_in import by_hand
from figment.images_in.by_hand import ByHand, Change
from figment.images_in.verdicts import read_filtered
from figment.layout import Run, Study, subfolders
from figment.neighbours import nearest_few
from figment.saving import SUFFIXES, Saving
from figment.types import Images
from figment.verify import recipe_of
from figment.words import printable

#: Where real neighbours come from. Never the test images: who chooses by them measures too well.
SPLITS = ("train", "val", "unlabelled")
FEW = 6  # real neighbours that are shown
SIDE = 192  # pixels of the shorter side that images are reduced to in the grid
SMALL = 2**16  # bytes: an image of so many is sent as it is stored, undecoded
SCREEN = 1_024  # pixels of a real image in full
#: The first bytes of a file, and what HTTP calls it.
TYPES = dict(zip(SUFFIXES, ("image/png", "image/jpeg", "image/webp"), strict=True))


@dataclass(frozen=True)
class File:
    """An image as a browser takes it."""

    data: bytes
    type: str

    @classmethod
    def of(cls, data: bytes) -> File:
        """Raises LookupError for what figment never wrote: the file was damaged."""
        kind = next((kind for start, kind in TYPES.items() if data.startswith(start)), None)
        if kind is None:
            raise LookupError("no image")
        return cls(data, kind)


class Album:
    """The N images of a run that were made. Thread-safe: a browser asks for many things at once.

    Raises FigmentError for what is no run, or has no images yet.
    """

    def __init__(self, folder: Path):
        self.run = run_of(folder)
        self._verdicts = read_filtered(self.run.folder)
        self.images = self._verdicts.images
        self._place = {id: i for i, id in enumerate(self.images.ids)}
        self._said = by_hand.read(self.run)
        self._reading, self._looking = Lock(), Lock()  # files are opened; a model looks

    def __len__(self) -> int:
        return len(self.images)

    # ---- what is known -----------------------------------------------------------------------------------------------

    def columns(self) -> dict[str, Any]:
        """What never changes while the page is open, ready for JSON: a list of N for each thing that is known."""
        verdicts, images = self._verdicts, self.images
        prompts, prompt = _coded(images.prompts or [""] * len(self))
        reasons, reason = _coded(verdicts.reasons.tolist())
        return {
            "run": printable(self.run.folder.absolute().name),
            "key": records.fingerprint(str(self.run.hand.absolute())),  # of what a browser keeps for the page
            "classes": [printable(name) for name in images.shards.class_names],
            "filters": verdicts.filters,
            "id": images.ids,
            "digest": images.digests,
            "label": images.labels.tolist(),
            "prompts": [printable(text) for text in prompts],
            "prompt": prompt,
            "reasons": [printable(text) for text in reasons],
            "reason": reason,
            "by": verdicts.rejected_by.tolist(),
            "scores": {name: _rounded(verdicts.scores[name]) for name in sorted(verdicts.scores)},
        }

    # ---- what a person says ------------------------------------------------------------------------------------------

    def said(self) -> dict[str, Any]:
        """The words as they lie on the disk now: whoever else looks at the run may have said more."""
        self._said = by_hand.read(self.run, self._said)
        return self._plain(self._said)

    def say(self, changes: Sequence[Change]) -> dict[str, Any]:
        """Write them down; what lies on the disk then, and ``refused``: the ids of those that do not hold any more."""
        known = [change for change in changes if self._is_of(change)]
        self._said, refused = by_hand.say(self.run, known)
        lost = {change.id for change in changes} - {change.id for change in known}
        return {**self._plain(self._said), "refused": sorted(lost | {change.id for change in refused})}

    def _is_of(self, change: Change) -> bool:
        at = self._place.get(change.id)
        return at is not None and self.images.digests[at] == change.digest

    def _plain(self, said: ByHand) -> dict[str, Any]:
        places = ((self._place.get(id), digest, word) for id, (digest, word) in said.said.items())
        held = [(at, word) for at, digest, word in places if at is not None and self.images.digests[at] == digest]
        return {
            "version": said.version,
            "words": {w: sorted(at for at, word in held if word == w) for w in by_hand.WORDS[1:]},
        }

    def counts(self) -> dict[str, int]:
        """How many images the run keeps, and how many of them it would without a person's word."""
        kept = self._verdicts.rejected_by < 0
        rejected = by_hand.read(self.run, self._said).of(self.images) == by_hand.REJECTED
        return {"kept by the filters": int(kept.sum()), "rejected by hand": int((kept & rejected).sum())}

    # ---- images ------------------------------------------------------------------------------------------------------

    def image(self, at: int) -> File:
        """As it is stored."""
        with self._reading:
            return File.of(self.images.data(at))

    def thumbnail(self, at: int) -> File:
        file = self.image(at)
        if len(file.data) <= SMALL:
            return file
        with self._reading:
            (pixels,) = self.images.load([at])
        return File.of(Saving("jpeg", SIDE).encode(pixels))

    # ---- real images -------------------------------------------------------------------------------------------------

    @cached_property
    def _context(self) -> Context:
        return Context(recipe_of(self.run), self.run)

    @cached_property
    def _real(self) -> tuple[list[tuple[str, Images]], np.ndarray]:
        """Split and images of all real ones that may be looked at, and their features, ``float32 (R, D)``, in one list."""
        found = [(split, images) for split in SPLITS if (images := self._context.real(split)) is not None]
        if not found:
            raise FigmentError(
                "The run has no real images to compare with. Set task.real.train, val or unlabelled. Test images are not shown: who"
                " chooses by them measures too well."
            )
        features = self._context.features()
        return found, np.concatenate([features(images, f"encode real {split}") for split, images in found])

    def neighbours(self, at: int) -> list[dict[str, Any]]:
        """The nearest real images, nearest first, as the recipe's encoder sees them. Raises FigmentError where there are none."""
        with self._looking:
            found, features = self._real
            own = self._context.features()(self.images.take([at]))[0]
            cosines, order = nearest_few(own, features, FEW)
            return [
                self._neighbour(found, place, cosine) for place, cosine in zip(order.tolist(), cosines, strict=True)
            ]

    def _neighbour(self, found: list[tuple[str, Images]], place: int, cosine: float) -> dict[str, Any]:
        for split, images in found:
            if place < len(images):
                label = int(images.labels[place])
                names = self._context.task.class_names
                return {
                    "split": split,
                    "at": place,
                    "id": printable(str(images.ids[place])),
                    "class": printable(names[label]) if 0 <= label < len(names) else "",
                    "cosine": round(float(cosine), 4),
                }
            place -= len(images)
        raise IndexError(place)

    def real(self, split: str, at: int) -> File:
        """A real image, whatever its file is. Raises LookupError for one that there is not."""
        with self._looking:
            images = dict(self._real[0])[split]
            if not 0 <= at < len(images):
                raise IndexError(at)
            (pixels,) = images.load([at])
        return File.of(Saving(size=SCREEN).encode(pixels))


def run_of(folder: Path) -> Run:
    """The run whose images are to be looked at. Raises FigmentError for a table, a folder of images alone, and what is no run."""
    run = Run(folder)
    if run.kind == "table":
        one = next((p for c in subfolders(Study(folder).cells) for p in subfolders(c)), folder)
        raise FigmentError(f"{folder} is a table of runs. Look at one of its runs, such as {one}.")
    layout.runs_of(folder)
    if not run.recipe.is_file() or not claims.is_ours(run.made.folder):
        raise FigmentError(
            f"{folder} is not the folder of a run: what is said of its images would be kept nowhere. Give the folder that figment run or"
            " figment generate wrote to."
        )
    if not layout.shard_files(run.images):
        raise FigmentError(f"{folder} has no images yet. Make them: figment run {shlex.quote(str(folder))}")
    return run


def _coded(texts: Sequence[str]) -> tuple[list[str], list[int]]:
    """Each text once, and for each place which it is: many images have the same."""
    known: dict[str, int] = {}
    places = [known.setdefault(text, len(known)) for text in texts]
    return list(known), places


def _rounded(column: np.ndarray) -> list[float | None]:
    """Four digits are what a page shows; None where there is no score."""
    return [float(f"{value:.4g}") if np.isfinite(value) else None for value in column.tolist()]

"""What is exported: the images of a run that its filters kept, and all that is known of each."""

from __future__ import annotations

import hashlib
import json
import math
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from figment import plain_yaml, records
from figment.errors import FigmentError
from figment.exports.credentials import Credentials, manifest
from figment.images_in import ShardImages, open_shards
from figment.images_in.by_hand import FILTER as BY_HAND
from figment.images_in.provenance import xmp
from figment.images_in.verdicts import read_verdicts
from figment.layout import Run, Study, subfolders
from figment.saving import suffix, with_xmp
from figment.words import one_line, without_folders

EXPORT_VERSION = 4
SHARD_BYTES = 128 * 2**20  # of images: about what is in memory at a time
SHARD_IMAGES = 1000


@dataclass(frozen=True)
class Source:
    """The N images of one export, in their order in the run. Attempts that failed are not among them."""

    images: ShardImages
    kept: np.ndarray  # bool (N,)
    reasons: np.ndarray  # object (N,) of str, empty where kept
    scores: Mapping[str, np.ndarray]  # float64 (N,), NaN where an image has none
    left_out: int  # images that the filters rejected
    stage: Mapping[str, Any]  # images/stage.json
    credentials: Credentials | None = None  # what the files are signed with

    def __len__(self) -> int:
        return len(self.images)

    @property
    def class_names(self) -> list[str]:
        return self.images.shards.class_names

    @cached_property
    def fingerprint(self) -> str:
        """Of everything that is written."""
        known = hashlib.sha256()
        for record in self.records():  # one after another: a million of them are not held at once
            known.update(json.dumps(record).encode())
        signed = [] if self.credentials is None else [self.credentials.fingerprint]
        return records.fingerprint([EXPORT_VERSION, self.class_names, known.hexdigest(), *signed])

    def records(self) -> Iterator[dict[str, Any]]:
        """What is known of each image: the same fields for all, ready for JSON. A score that was not taken is None."""
        columns = {name: self.images.column(name) for name in ("prompt", "id", "seed", "group", "init", "digest")}
        if columns["init"] is None:  # images of format 2 and before
            columns["init"] = pa.repeat("", len(self))
        columns |= self.images.attributes
        batches = pa.table(columns).to_batches(max_chunksize=SHARD_IMAGES)
        for i, row in enumerate(row for batch in batches for row in batch.to_pylist()):
            label = int(self.images.labels[i])
            yield {
                "label": label,
                "class_name": self.class_names[label] if label >= 0 else "",
                **row,
                "kept": bool(self.kept[i]),
                "reason": self.reasons[i],
                **{f"score_{name}": _number(column[i]) for name, column in self.scores.items()},
            }

    def data(self, index: int) -> bytes:
        """The file of one image, which says in XMP that it was generated, and signed where there are credentials. Raises FigmentError
        where it is not what was made."""
        data = self.images.data(index)
        if records.digest(data) != self._digests[index].as_py():
            folder = self.images.shards.files[0].parent.parent
            raise FigmentError(
                f"{self.images.ids[index]} has been damaged since it was made. See what else: figment verify {shlex.quote(str(folder))}"
            )
        data = with_xmp(data, xmp(self._trained))
        return data if self.credentials is None else self.credentials.sign(data, self._manifest)

    @cached_property
    def suffix(self) -> str:
        """What the names of the images' files end in: ``.png``, ``.jpg`` or ``.webp``."""
        return suffix(self.data(0))

    @cached_property
    def _trained(self) -> bool:
        made_by = self.stage.get("settings", {}).get("generate", {})
        return made_by.get("kind") != "procedural"

    @cached_property
    def _manifest(self) -> dict[str, Any]:
        model = self.stage.get("generator", {}).get("model") or "a model that was not recorded"
        return manifest(one_line(without_folders(str(model)))[:1000], trained=self._trained)

    @cached_property
    def _digests(self) -> pa.ChunkedArray:
        return self.images.column("digest")

    def shards(self) -> list[range]:
        """The images in portions that are written one at a time."""
        portions, start, size = [], 0, 0
        for i, length in enumerate(self.images.shards.lengths[self.images.rows].tolist()):
            if i - start == SHARD_IMAGES or (i > start and size + length > SHARD_BYTES):
                portions.append(range(start, i))
                start, size = i, 0
            size += length
        return [*portions, range(start, len(self))]


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def open_source(folder: Path, rejected: bool = False, credentials: Credentials | None = None) -> Source:
    """The images of a run folder that its filters kept; with ``rejected`` the others too, and signed with ``credentials``.

    A folder of images that belongs to no run has no verdicts: all its images count as kept. Raises FigmentError where the
    images or the filters are not finished, and where nothing is left.
    """
    if folder.name == "images" and Run(folder.parent).recipe.is_file():
        folder = folder.parent
    run = Run(folder)
    if run.kind == "table":
        raise FigmentError(
            f"{folder} is a table of runs, each with images of its own choice. Export one of its runs, such as"
            f" {next((p for c in subfolders(Study(folder).cells) for p in subfolders(c)), folder)}."
        )
    is_run = run.recipe.is_file() or run.images.is_dir()
    decoded = run.images if is_run else folder
    if records.read(decoded).state not in ("finished", "old"):
        raise FigmentError(
            f"{folder} holds no finished images. Give the folder of a run, such as runs/demo. To see how far a run is: figment status {folder}"
        )
    if is_run:
        said = read_verdicts(folder)
        if not rejected:
            _check_filtered(folder, [name for name in said.filters if name != BY_HAND], len(said.images))
        images, kept, reasons, scores = said.images, said.rejected_by < 0, said.reasons, said.scores
    else:
        images, _ = open_shards(decoded)
        kept, reasons, scores = np.ones(len(images), bool), np.full(len(images), "", object), {}
    chosen = np.arange(len(images)) if rejected else np.flatnonzero(kept)
    if not len(chosen):
        raise FigmentError(f"{folder} holds no image that the filters kept. The rejected ones are exported with --all.")
    return Source(
        images.take(chosen),
        kept[chosen],
        reasons[chosen],
        {name: scores[name][chosen] for name in sorted(scores)},
        len(images) - len(chosen),
        records.finished(decoded),
        credentials,
    )


def _check_filtered(folder: Path, filters: list[str], images: int) -> None:
    """Raise FigmentError where it is not known which images are kept: a filter has not run, or not on all of them."""
    run = Run(folder)
    recipe = run.recipe
    wanted = plain_yaml.read(recipe)["filters"] if recipe.is_file() else filters
    seen = images
    if filters:  # the first sees all there are; the others what those before them kept
        seen = records.finished(run.scores / f"0-{filters[0]}")["counts"]["seen"]
    if len(wanted) != len(filters) or seen != images:
        raise FigmentError(
            f"The filters of the run in {folder} have not judged all its images, so it is not known which are kept."
            f" Let them: figment run {folder}. Or export all that were made, with --all."
        )

"""What the filters of a run said of its images, as columns: to select by verdicts and scores, a million at a time."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from figment import layout, records
from figment.errors import FigmentError, nearest
from figment.files import as_path
from figment.images_in import by_hand
from figment.images_in.shards import ShardImages, open_run_images
from figment.layout import Run
from figment.words import natural

STEP = re.compile(r"\d+-[^/]+", re.ASCII)  # the folder of a filter's verdicts
NO_SCORES = ("id", "label", "keep", "reason")  # the columns of a verdict that are not scores

#: Lowest and highest score that is kept, both inclusive; None: no bound.
Bounds = tuple[float | None, float | None]


@dataclass(frozen=True)
class Verdicts:
    """The verdicts of a run's filters on all of its images. Filters see what those before them kept."""

    images: ShardImages  # N of them
    filters: list[str]  # in their order
    rejected_by: np.ndarray  # int64 (N,), index into filters; -1: kept
    reasons: np.ndarray  # object (N,) of str, empty where kept
    scores: dict[str, np.ndarray]  # float64 (N,), NaN where an image has none

    def kept(
        self,
        bounds: Mapping[str, Bounds] | None = None,
        best: tuple[str, int] | None = None,
        filters: Sequence[str] | None = None,
    ) -> np.ndarray:
        """``bool (N,)``; see :func:`open_kept`."""
        count = [name in (self.filters if filters is None else filters) for name in self.filters]
        for name in filters or ():
            if name != by_hand.FILTER:  # which is there of every run, whether anything was rejected or not
                _check_name("filter", name, self.filters)
        keep = ~np.append(np.array(count, bool), False)[self.rejected_by]
        for name, (low, high) in (bounds or {}).items():
            score = self._score(name)
            keep &= ~np.isnan(score)
            keep &= True if low is None else score >= low
            keep &= True if high is None else score <= high
        if best is not None:
            name, k = best
            keep[keep] = _best_of_class(self._score(name)[keep], self.images.labels[keep], k)
        return keep

    def _score(self, name: str) -> np.ndarray:
        _check_name("score", name, self.scores)
        return self.scores[name]


def open_kept(
    run: Path | str,
    *,
    bounds: Mapping[str, Bounds] | None = None,
    best: tuple[str, int] | None = None,
    filters: Sequence[str] | None = None,
) -> ShardImages:
    """The images of a run that its filters kept, read where they are.

    ``bounds={"clip_p": (0.3, None)}`` keeps those whose score lies within, ``best=("clip_p", 100)`` then the 100 of each class
    with the highest; an image without that score goes. ``filters`` names those whose verdicts count, by default all: with
    ``filters=["blank"]`` the bounds may be looser than the filter ``clip`` was. Labels are indices into
    ``.shards.class_names``.

    Raises FigmentError where the run has no images, or no such score or filter.
    """
    verdicts = read_verdicts(as_path(run))
    return verdicts.images.take(np.flatnonzero(verdicts.kept(bounds, best, filters)))


def read_verdicts(folder: Path, images: ShardImages | None = None) -> Verdicts:
    """Read ``images``, unless they are given, and ``scores`` of a run folder, finished or not; what was rejected by hand since counts
    as a last filter, ``hand``."""
    verdicts, said = read_filtered(folder, images), by_hand.read(Run(folder))
    if not said.rejects():
        return verdicts
    out = (said.of(verdicts.images) == by_hand.REJECTED) & (verdicts.rejected_by < 0)
    return replace(
        verdicts,
        filters=[*verdicts.filters, by_hand.FILTER],
        rejected_by=np.where(out, len(verdicts.filters), verdicts.rejected_by),
        reasons=np.where(out, by_hand.REASON, verdicts.reasons),
    )


def read_filtered(folder: Path, images: ShardImages | None = None) -> Verdicts:
    """The same without what was said by hand."""
    run = Run(folder)
    images = open_run_images(run) if images is None else images
    rejected_by = np.full(len(images), -1)
    reasons = np.full(len(images), "", object)
    scores: dict[str, np.ndarray] = {}
    steps = steps_of(run)
    ids = images.column("id") if steps else None
    for f, step in enumerate(steps):
        table = _read_step(run, step)
        at = pc.index_in(table["id"], value_set=ids).to_numpy(zero_copy_only=False) if len(table) else np.zeros(0)
        known = ~np.isnan(at)
        at = at[known].astype(np.int64)
        rejected = ~table["keep"].to_numpy()[known]
        rejected_by[at[rejected]] = f
        reasons[at] = _strings(table["reason"])[known]
        for name in table.column_names:
            if name not in NO_SCORES:
                own = table[name].to_numpy()[known]
                has = ~np.isnan(own)
                scores.setdefault(name, np.full(len(images), np.nan))[at[has]] = own[has]
    return Verdicts(images, [step.partition("-")[2] for step in steps], rejected_by, reasons, scores)


def steps_of(run: Run) -> list[str]:
    """The folders of verdicts, in the order of the filters; of a finished run its own only, not what filters since taken out left."""
    told = records.read(run.scores)
    if told.state == "finished":
        return [name for name in told.data.get("steps", []) if STEP.fullmatch(name)]
    old = records.read(run.model)  # version 0.1 had it there
    if old.state == "old" and isinstance(old.data.get("scores"), list):
        return list(old.data["scores"])
    there = [folder.name for folder in layout.subfolders(run.scores) if STEP.fullmatch(folder.name)]
    return sorted((name for name in there if records.read(run.scores / name).state != "none"), key=natural)


def _read_step(run: Run, step: str) -> pa.Table:
    """One filter's verdicts. Raises FigmentError where they are on other images than the run has now."""
    folder = run.scores / step
    of, now = records.finished(folder)["inputs"].get("images"), records.read(run.images).data.get("fingerprint")
    if now is not None and of != now:
        raise FigmentError(
            f"The verdicts in {folder} are on other images than those in {run.images}. Run the recipe again:"
            f" figment run {run.recipe} --out {run.folder}"
        )
    told = [name for name in records.read(folder).files if name.endswith(".parquet")]
    names = sorted(told or [path.name for path in folder.glob("*.parquet")])
    return pa.concat_tables([pq.read_table(pa.BufferReader(records.vouched(folder, name))) for name in names])


def _strings(column: pa.ChunkedArray) -> np.ndarray:
    """``object (n,)``, equal strings being one object: there are few reasons and many images."""
    encoded = column.combine_chunks().dictionary_encode()
    encoded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
    words = np.array([*encoded.dictionary.to_pylist(), ""], object)
    return words[encoded.indices.fill_null(len(words) - 1).to_numpy()]


def _best_of_class(score: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
    """``bool (n,)``: the k highest of each label; the first of equal ones."""
    score = np.where(np.isnan(score), -np.inf, score)
    order = np.lexsort((-score, labels))
    _, sizes = np.unique(labels, return_counts=True)
    rank = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    best = np.zeros(len(order), bool)
    best[order[rank < k]] = True
    return best & (score > -np.inf)


def _check_name(kind: str, name: str, known: Sequence[str] | Mapping[str, object]) -> None:
    if name not in known:
        raise FigmentError(
            f"This run has no {kind} {name!r}. It has: {', '.join(sorted(known)) or 'none'}.{nearest(name, known)}"
        )

"""Images to verdicts: ``scores/<n>-<filter>/``, one row for each image that reached the filter."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from figment import machine, records, shards
from figment.errors import FigmentError
from figment.files import read_bytes
from figment.filters.selection import Selection, Step
from figment.images_in import ShardImages
from figment.images_in.verdicts import steps_of
from figment.integrity import check_file
from figment.layout import Run
from figment.recipe.unfingerprinted import identity
from figment.records import Record
from figment.stages.images.verify import Seen, hashes, note_images
from figment.stages.stage import Look, Stage, StageStatus, status_of

if TYPE_CHECKING:
    from figment.context import Context

log = logging.getLogger(__name__)


class Scores(Stage):
    """The record in ``scores`` says which filters there are, in order; each has a folder with a record of its own."""

    name = "scores"

    def folders(self, run: Run) -> list[Path]:
        return [run.scores, *(run.scores / name for name in steps_of(run))]

    def run(self, ctx: Context) -> None:
        started = machine.Meter()
        steps = ctx.selection.steps[: len(ctx.filters)]  # what was rejected by hand lies in a file of its own
        names = [f"{i}-{step.filter}" for i, step in enumerate(steps)]
        shown = records.fingerprint(list(ctx.images.digests))
        inputs = {"images": records.finished(ctx.run.images)["fingerprint"], "content": shown}
        own = [identity(settings) for settings in ctx.recipe.filters]
        for settings, step, name in zip(own, steps, names, strict=True):
            self._write(ctx, Record(ctx.run.scores / name, "scores", settings, inputs), step)
        whole = Record(ctx.run.scores, "selection", {"filters": own}, inputs)
        kept = int(ctx.selection.keep.sum())
        self._say(ctx, ctx.images, ctx.selection, kept)
        before = records.read(ctx.run.scores)
        counts = {"seen": len(ctx.images), "kept": kept}
        same = before.state == "finished" and before.data["fingerprint"] == whole.fingerprint
        if not (same and before.data.get("steps") == names and before.data.get("counts") == counts):
            whole.finish({}, steps=names, counts=counts, rejected=ctx.selection.counts(), **started.record())

    def _write(self, ctx: Context, record: Record, step: Step) -> None:
        """One filter's verdicts, unless they lie there already."""
        ids = [ctx.images.ids[j] for j in step.index]
        table = shards.score_table(ids, ctx.images.labels[step.index], step.verdicts, ctx.task.class_names)
        data = shards.parquet(shards.with_identity(table, record))
        before = records.read(record.folder)
        told = before.files.get(shards.ROWS)
        path = record.folder / shards.ROWS
        if (
            told
            and before.data["fingerprint"] == record.fingerprint
            and told.is_of(data)
            and path.is_file()
            and told.is_of(read_bytes(path))
        ):
            return
        record.forget()
        counts = {"seen": len(ids), "kept": sum(v.keep for v in step.verdicts)}
        record.finish({shards.ROWS: record.write(shards.ROWS, data, len(table))}, counts=counts)

    def _say(self, ctx: Context, images: ShardImages, selection: Selection, kept: int) -> None:
        names = ctx.task.class_names
        log.info(
            f"filter: {kept:,} of {len(images):,} kept"
            + "".join(f"; {n:,} {reason}" for reason, n in selection.counts().items())
        )
        if not kept:
            raise FigmentError(
                f"The filters rejected every image: {selection.counts()}. Look at {ctx.run.images}, or loosen the filters."
            )
        classes = enumerate(names if ctx.recipe.prompts.has_classes else ())
        empty = [name for i, name in classes if not (images.labels[selection.keep] == i).any()]
        if empty:
            log.warning(f"no image was kept of: {', '.join(n[:40] for n in empty)}")

    # ---- from the disk alone -----------------------------------------------------------------------------------------

    def status(self, run: Run) -> list[StageStatus]:
        steps = [folder for folder in self.folders(run) if folder != run.scores]
        if records.read(run.scores).state == "none" and not steps:
            return [StageStatus(self.name, "to do", "")] if not run.is_old else []
        return [status_of(self.place(run, folder), folder) for folder in steps]

    def verify(self, look: Look) -> None:
        """Verdicts against the images they are about."""
        kept = self._verify(look)
        note_images(look, look.run.images, kept)

    def _verify(self, look: Look) -> np.ndarray | None:
        """The ids that every filter kept, ``uint64 (n,)``, if all can be read."""
        own = records.read(look.run.scores)
        old = look.old and own.state == "none"
        if not old:
            own = look.record(look.run.scores)
        if own.state != "finished":
            for folder in self.folders(look.run)[1:]:
                look.record(folder)
            return None
        seen: Seen | None = look.memory.get("images")
        reached = None if seen is None else seen.all_ids()
        for folder in self.folders(look.run)[1:]:
            reached = _verify_step(look, folder, reached, whole=seen is not None and seen.whole)
            if reached is None:
                return None
        return reached if own.data.get("steps") else None


def _verify_step(look: Look, folder: Path, reached: np.ndarray | None, whole: bool) -> np.ndarray | None:
    """What one filter kept. ``reached`` are the images that came to it, where it is known."""
    found = look.record(folder)
    if found.state != "finished" or look.broken(folder):
        return None
    data = read_bytes(folder / shards.ROWS)
    file = check_file(data, found.data["fingerprint"], shards.SCORE_COLUMNS, None, more=("", pa.float64()))
    for text in file.problems:
        look.add("broken", folder, f"{shards.ROWS} {text}", remedy="repair")
    if file.table is None:
        return None
    now = records.read(look.run.images).data.get("fingerprint")
    if now and found.data["inputs"].get("images") != now:
        look.add("broken", folder, "these verdicts are on other images", remedy="repair")
        return None
    ids, keep = hashes(file.table["id"].to_pylist()), np.asarray(file.table["keep"].to_pylist(), bool)
    if whole and reached is not None and not np.isin(ids, reached).all():
        text = f"there are {len(ids):,} verdicts, {int(np.isin(ids, reached).sum()):,} of them on the images that reached this filter"
        look.add("broken", folder, text, remedy="repair")
        return None
    look.checked(folder, f"{len(ids):,} verdicts, {int(keep.sum()):,} kept")
    return ids[keep]

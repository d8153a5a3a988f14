"""Images to a model: ``model/``, which can be used without figment."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from figment import machine, records
from figment.evaluate.leaks import shortcut_sentence, source_shortcut
from figment.files import remove, write_atomic
from figment.generate.fill import shots_fingerprint
from figment.images_in.captions import shown
from figment.layout import Run
from figment.recipe.unfingerprinted import identity
from figment.records import Record, Written
from figment.stages.stage import Stage
from figment.types import Model

if TYPE_CHECKING:
    from figment.context import Context

log = logging.getLogger(__name__)


class ModelStage(Stage):
    """Of the trainings with different seeds, the first is the one that is kept."""

    name = "model"

    def folders(self, run: Run) -> list[Path]:
        return [run.model]

    def record(self, ctx: Context) -> Record:
        settings = {"train": identity(ctx.recipe.train), "seeds": ctx.recipe.training_seeds}
        inputs = {"learner": ctx.learner.fingerprint, "kept": shown(ctx.kept, ctx.learner.reads_captions)}
        if ctx.shots is not None:
            inputs["shots"] = shots_fingerprint(ctx.shots)
        return Record(ctx.run.model, "model", settings, inputs)

    def run(self, ctx: Context) -> None:
        record = self.record(ctx)
        record.check_not_of_old()
        if record.is_finished():
            return
        started = machine.Meter()
        _say(ctx)
        first = ctx.models[0]
        for name in records.read(record.folder).files:  # of the model that was there before
            remove(record.folder / name)
        record.forget()
        files = saved(first, record)
        history = {key: [h.get(key) for h in first.history] for key in ("loss", "val_accuracy")}
        counts = {"kept": len(ctx.kept), "files": len(files)}
        facts = {"learner": ctx.learner.name, "facts": dict(first.facts), "model": first.fingerprint}
        record.finish(files, counts=counts, history=history, **facts, **started.record())


def _say(ctx: Context) -> None:
    select, shots, train = ctx.recipe.train.select, ctx.shots, ctx.recipe.train
    if select == "test_best":
        log.warning(
            "train.select: test_best - the epoch is chosen on the TEST images, as some published numbers were. The"
            " accuracy of the synthetic set is too good by that."
        )
    if shots is not None and ctx.recipe.prompts.has_classes and ctx.recipe.evaluate.leaks is not False:
        names = ctx.task.class_names
        found = source_shortcut(*(np.bincount(images.labels, minlength=len(names)) for images in (ctx.kept, shots)))
        if found.is_one:
            log.warning(shortcut_sentence(found, names[found.label]))
    with_shots = "" if shots is None else f" and {len(shots):,} real ones"
    log.info(
        f"train on synthetic: {len(ctx.kept):,} images{with_shots}, {train.seeds} seed{'s' if train.seeds > 1 else ''}"
    )


def saved(model: Model, record: Record) -> dict[str, Written]:
    """The files of a model, each whole or not at all, local or remote."""
    with tempfile.TemporaryDirectory() as temporary:
        model.save(Path(temporary))
        files = {}
        for path in sorted(p for p in Path(temporary).rglob("*") if p.is_file() and not p.name.startswith(".")):
            name, data = path.relative_to(temporary).as_posix(), path.read_bytes()
            write_atomic(record.folder / name, data)
            files[name] = Written.of(data)
    return files

"""Words to prompts: ``prompts/``, one row a prompt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from figment import files, machine, records, shards
from figment.errors import FigmentError
from figment.integrity import check_file, check_plan
from figment.layout import Run
from figment.prompts.check import check_prompts
from figment.prompts.templates import Templates
from figment.records import Record
from figment.stages.plans import plan, prompts_record, sound_images
from figment.stages.stage import Cost, Look, Stage
from figment.types import Prompt

if TYPE_CHECKING:
    from figment.context import Context
    from figment.recipe import Recipe

REPEATABLE = ("templates", "attributes", "caption_set", "of_images")  # writers that write the same twice
STAND_INS = 100  # prompts of each class that a forecast makes up, for its trial batch


class Prompts(Stage):
    name = "prompts"
    of = ("run", "set")

    def folders(self, run: Run) -> list[Path]:
        return [run.prompts] if run.made == run else []

    def check(self, ctx: Context) -> None:
        check_not_stale(prompts_record(ctx))

    def run(self, ctx: Context) -> None:
        record = prompts_record(ctx)
        if not record.is_finished():
            with files.lock(record.folder, wait=True):  # parts of a job array start together; one of them writes
                if not record.is_finished():
                    self._write(ctx, record)
        ctx.prompts = shards.prompts_in(record.folder)

    def _write(self, ctx: Context, record: Record, prompts: list[Prompt] | None = None) -> None:
        started = machine.Meter()
        if prompts is None:
            prompts = written(ctx)
        record.forget()
        own = shards.write_rows(record, shards.prompt_table(prompts, ctx.task.class_names))
        record.finish(own, counts={"prompts": len(prompts)}, **started.record())

    def cost(self, ctx: Context) -> Cost:
        ctx.prompts, n = stand_ins(ctx)
        return Cost(f"{n:,} prompts", counts={"prompts": n})

    # ---- is it right? ------------------------------------------------------------------------------------------------

    def verify(self, look: Look) -> None:
        for folder in self.folders(look.run):
            found = look.record(folder, lost=any(look.run.images.glob("*/*")))
            if found.state != "finished" or look.broken(folder):
                continue
            data = files.read_bytes(folder / shards.ROWS)
            file = check_file(data, found.data["fingerprint"], shards.PROMPT_COLUMNS, None, shards.ATTRIBUTES)
            for text in file.problems:
                look.add("broken", folder, f"{shards.ROWS} {text}", remedy="repair")
            if file.table is None:
                continue
            ids = file.table["id"].to_pylist()
            if len(set(ids)) < len(ids):
                look.add("broken", folder, f"holds {len(ids) - len(set(ids))} ids twice", remedy="repair")
            look.memory["prompts"] = shards.read_prompts(file.table)
            look.checked(folder, f"{len(ids):,} prompts")

    # ---- mending -----------------------------------------------------------------------------------------------------

    def repair(self, ctx: Context, look: Look) -> Iterator[str]:
        record = prompts_record(ctx)
        before = records.read(record.folder)
        kind = ctx.recipe.prompts.kind
        repeatable = kind in REPEATABLE
        same = repeatable and _fit(ctx, written(ctx))  # an earlier version may have written other words
        prompts = None if same else self._of_images(ctx)
        why = f"this version's {kind} writes others" if repeatable else f"{kind} may not write the same twice"
        how = "wrote them anew" if prompts is None else f"took them from the images, since {why}"
        if prompts is None:
            prompts = written(ctx)
            if not _fit(ctx, prompts):
                raise FigmentError(
                    f"The prompts in {record.folder} are damaged and cannot be made again: {kind} now writes others, and the images do not"
                    " hold all of them. Put the folder back from a copy of yours, or run the recipe in another folder."
                    " The images that are there can still be read."
                )
        self._write(ctx, record, prompts)
        unchanged = before.files == records.read(record.folder).files
        yield f"prompts: {how}" + ("; they are the same as before, byte for byte" if unchanged else "")

    def _of_images(self, ctx: Context) -> list[Prompt] | None:
        """The prompts that the images were made from; None where these do not hold all that were drawn."""
        prompts: dict[str, Prompt] = {}
        for _, table in sound_images(ctx.run.images):
            columns = [table[name].to_pylist() for name in ("prompt_id", "prompt", "label", "group")]
            for id, text, label, group, attributes in zip(*columns, shards.attributes_in(table), strict=True):
                prompts.setdefault(id, Prompt(id, text, label, group, attributes=attributes))
        all_of = plan(ctx, list(prompts.values()))
        ordered = [prompt for one in all_of.classes for prompt in one]
        complete = len(all_of.classes) == ctx.recipe.n_labels
        return ordered if complete and _fit(ctx, ordered) else None


def _fit(ctx: Context, prompts: list[Prompt]) -> bool:
    """Whether every shard of images that can be read is what these prompts lead to."""
    own = plan(ctx, prompts)
    return all(i < own.n_shards and not check_plan(table, own.shard(i)) for i, table in sound_images(ctx.run.images))


def written(ctx: Context) -> list[Prompt]:
    """By the recipe's writer."""
    n = ctx.recipe.prompts.n_prompts(ctx.recipe.generate.images_per_class)
    prompts = ctx.writer(ctx.task, n, np.random.default_rng([ctx.seed, 1]))
    check_prompts(prompts, ctx.task.class_names, ctx.recipe.prompts.has_classes)
    return prompts


def stand_ins(ctx: Context) -> tuple[list[Prompt], int]:
    """The recipe's prompts, and how many there are. Where a model would write them, a few that look like them: a forecast asks no model."""
    settings = ctx.recipe.prompts
    if settings.kind in REPEATABLE or ":" in settings.kind:
        prompts = written(ctx)
        return prompts, len(prompts)
    n = settings.n_prompts(ctx.recipe.generate.images_per_class)
    few = min(n, STAND_INS)
    texts = [f"a photo of {{}} in a scene that is described in about so many words, {i}" for i in range(few)]
    prompts = Templates(texts)(ctx.task, few, np.random.default_rng([ctx.seed, 1]))
    if not settings.has_classes:
        prompts = [replace(prompt, label=-1) for prompt in prompts if prompt.label == 0]
    return prompts, n * ctx.recipe.n_labels


def stands_in(recipe: Recipe, prompts: Sequence[Prompt]) -> bool:
    """Whether these prompts are a forecast's own, of which there are fewer than a writer will write."""
    return recipe.prompts.kind not in REPEATABLE and len(prompts) < recipe.n_labels * recipe.prompts.n_prompts(
        recipe.generate.images_per_class
    )


def check_not_stale(record: Record) -> None:
    """Raise FigmentError, naming the fields that changed, where a folder was finished with other settings."""
    record.check_not_of_old()
    found = records.read(record.folder)
    if found.state == "finished" and found.data["fingerprint"] != record.fingerprint:
        changes = records.what_changed(found.record.identity(), record.identity())
        raise FigmentError(
            f"{record.folder} was made with other settings: {changes}. What is there is never mixed with what is new. "
            f"Write to another folder with --out, put the old setting back, or move {record.folder} away yourself."
        )

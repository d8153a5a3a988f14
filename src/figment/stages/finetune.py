"""Real images to a generator that has seen them: ``finetune/<fingerprint>/``, LoRAs or a denoiser as diffusers reads them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from figment import checkpoint_bytes, layout, records
from figment.errors import FigmentError
from figment.files import remove
from figment.layout import Run
from figment.report.text import duration
from figment.stages.stage import NOT_TIMED, Cost, Look, Stage, StageStatus, status_of

if TYPE_CHECKING:
    from figment.context import Context


def steps_left(ctx: Context) -> int | None:
    """Of the recipe's fine-tuning, 0 where it is done or none is asked for, without a model or real images where these are not here; None:
    their number would tell, and is not known. Raises FigmentError for what cannot be trained."""
    settings = getattr(ctx.recipe.generate, "finetune", None)
    if settings is None:
        return 0
    if "train" not in ctx.absent and _has_generator(ctx):
        if ctx.finetuning is None or ctx.finetuning.is_complete():
            return 0
        ctx.finetuning.check()
        return ctx.finetuning.total_steps
    counts = _images_of_each_class(ctx)
    if counts is None and settings.steps is None:
        return None
    return settings.steps_on(counts or [1] * len(ctx.task.class_names))


def _has_generator(ctx: Context) -> bool:
    if ctx.seconds_per_image is not None:
        return False
    try:
        return ctx.untuned is not None
    except FigmentError:  # the images need it too, and say why it is not there
        return False


def _images_of_each_class(ctx: Context) -> list[int] | None:
    """To tune on, as far as that is known."""
    few, train = ctx.recipe.few_shot, ctx.given.get("train")
    if train is not None:
        images = train if few is None else ctx.draw(train)
        return np.bincount(np.maximum(images.labels, 0), minlength=len(ctx.task.class_names)).tolist()
    return None if few is None or few.each is None else [few.each] * len(ctx.task.class_names)


def seconds_a_step(ctx: Context) -> float:
    """Timed on two. Raises FigmentError where nothing is to be timed, or can be."""
    if ctx.seconds_per_image is not None:
        raise FigmentError(NOT_TIMED)
    if "train" in ctx.absent:
        raise FigmentError("the real images are not there.")
    assert ctx.finetuning is not None
    return ctx.finetuning.seconds_a_step


class Finetune(Stage):
    name = "finetune"
    of = ("run", "table")

    def folders(self, run: Run) -> list[Path]:
        """One for each set of real images and settings: arms of a study may differ in them."""
        if run.root != run.folder:
            return []
        return [folder for folder in layout.subfolders(run.finetune) if records.IS_FINGERPRINT.fullmatch(folder.name)]

    def run(self, ctx: Context) -> None:
        if ctx.finetuning is not None:
            ctx.finetuning.train(on=ctx.on)

    def cost(self, ctx: Context) -> Cost | None:
        """Counted on the real images as they are: looking for broken ones would take as long as encoding them."""
        steps = steps_left(ctx)
        if steps is None:
            return Cost(
                "how many steps of fine-tuning the generator there are is not known: its real images are not there"
            )
        if not steps:
            return None
        text, counts = f"{steps:,} steps of fine-tuning the generator on real images", {"steps": steps}
        try:
            seconds = steps * seconds_a_step(ctx)
        except FigmentError as error:
            return Cost(f"{text}; their time is not known: {error}", counts=counts)
        assert ctx.finetuning is not None
        more = ctx.finetuning.judged_images
        judged = f"; besides, {more:,} images are generated to choose among the weights" if more else ""
        return Cost(
            f"{text}: about {duration(seconds)} on this machine (measured on a step){judged}", seconds, counts=counts
        )

    def status(self, run: Run) -> list[StageStatus]:
        found = []
        for folder in self.folders(run):
            name = self.place(run, folder)
            if records.read(folder).state == "none":
                found.append(StageStatus(name, "partial", _how_far(folder)))
            else:
                found.append(status_of(name, folder))
        return found

    def verify(self, look: Look) -> None:
        super().verify(look)
        run, recipe = look.run, look.recipe
        for folder in self.folders(run):
            for path in _checkpoints(folder):
                look.known.add(path)
                if problem := checkpoint_bytes.problem(path):
                    text = f"{path.relative_to(folder)} is damaged ({problem}): the training cannot go on from it"
                    look.add("broken", folder, text, remedy="repair")
        asked = recipe is not None and recipe.generate.finetunes and run.kind == "run" and run.root == run.folder
        if asked and look.was_whole and not look.old and not self.folders(run):
            look.add("missing", run.finetune, "what the generator was fine-tuned to is not there", remedy="repair")

    def repair(self, ctx: Context, look: Look) -> Iterator[str]:
        """Takes away what is damaged; what this run's recipe asks for is trained again, a LoRA of another arm by that arm."""
        for folder in self.folders(ctx.run):
            if not look.broken(folder):
                continue
            found = records.read(folder)
            for path in _checkpoints(folder):
                if checkpoint_bytes.problem(path):
                    remove(path)
                    yield f"finetune: took away a damaged checkpoint, {path.relative_to(ctx.run.finetune)}"
            if found.state == "none":  # not finished: the rest of its files are looked at by who goes on with it
                continue
            for name in records.problems(found):
                remove(folder / name)
            remove(folder / records.NAME)
            if found.state == "damaged":  # then nothing tells which of its files are right
                names = (
                    layout.LORA,
                    f"[0-9][0-9][0-9][0-9][0-9]/{layout.LORA}",
                    *(f"{part}/*" for part in layout.DENOISERS),
                )
                for path in (path for name in names for path in folder.glob(name)):
                    remove(path)
            yield f"finetune: took away what was damaged in {folder.name}"
        if ctx.run.kind == "table":
            yield f"finetune: the cells that need it train it again: figment run {ctx.run.folder}"
        elif ctx.finetuning is not None and not ctx.finetuning.is_complete():
            self.run(ctx)
            yield "finetune: trained again what was lost"


def _checkpoints(folder: Path) -> list[Path]:
    """Of a training that is not finished: each one's last, and the one before."""
    name = checkpoint_bytes.NAME
    places = [folder, *folder.glob("[0-9][0-9][0-9][0-9][0-9]"), *(folder / part for part in layout.DENOISERS)]
    files = [place / one for place in places for one in (name, checkpoint_bytes.before(Path(name)).name)]
    return [path for path in files if path.is_file()]


def _how_far(folder: Path) -> str:
    """What an unfinished one has come to. It has no record yet, so its files tell what it is to be."""
    if any(
        (folder / part).is_dir() for part in layout.DENOISERS
    ):  # which a training of all of the denoiser makes first
        return "denoiser not finished"
    loras = len(list(folder.glob("**/pytorch_lora_*.safetensors")))
    return f"{loras} LoRAs finished" if loras else "not finished"

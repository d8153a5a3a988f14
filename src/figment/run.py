"""One recipe to one folder: a loop over the stages; what is already done is not done again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from figment import claims, files, layout
from figment.context import Context
from figment.engines import Engine
from figment.errors import FigmentError
from figment.heartbeat import CHECK, heartbeat
from figment.layout import Run, Study
from figment.machine import launched
from figment.recipe import Recipe
from figment.report.results import latest_results
from figment.report.tracked import send
from figment.stages import OF_IMAGES, STAGES, Stage
from figment.stages.results import publish
from figment.tracking import needs_tracker
from figment.types import Generator, Result


@dataclass(frozen=True)
class Outcome:
    """What came of a run: its folder, its measured numbers by name, and the answer in one word.

    ``results`` holds what ``docs/measures.md`` lists, as far as the recipe asks for it: ``top1/synthetic``,
    ``gain/synthetic`` ... Without real test images it has no accuracies.
    """

    folder: Path
    results: dict[str, Result]
    among: str = ""  # the word on it as one of several arms, which may be less than it would have alone

    @property
    def verdict(self) -> str:
        """A word of `figment.evaluate.verdict.Word`; "not measured" without real test images, "not judged" where the recipe says
        ``evaluate.evidence: false``. ``results["worth"].details`` has the sentence and the numbers behind it."""
        if self.among:
            return self.among
        worth = self.results.get("worth")
        if worth is not None:
            return str(worth.details["verdict"])
        return "not judged" if "top1/synthetic" in self.results else "not measured"


def run_recipe(
    recipe: Recipe,
    out: Path | str,
    *,
    generator: Generator | None = None,
    engine: Engine | None = None,
    made: Path | None = None,
    root: Path | None = None,
    reported: bool = True,
    before_images: Callable[[Context], None] | None = None,
    allow_plugins: bool = False,
) -> Outcome:
    """Do what is missing of a recipe in the folder ``out`` and write its report.

    Call it again after an interruption and it goes on; a larger ``images_per_class`` adds to the images that are there.
    ``out`` may be remote (``s3://...``). ``generator`` replaces the recipe's own; ``engine`` says where images are made.
    ``made`` is the folder of a run whose prompts and images this one uses, ``root`` that of the study whose caches it uses;
    both are its own by default. ``before_images`` is called when nothing is left that could be refused and the first image is about to
    be made. ``allow_plugins`` lets code run that the recipe names (``kind: package.module:Name``); without
    it such a recipe is refused. Raises FigmentError, before anything is spent where possible.
    """
    run = Run(files.as_path(out), made, root)
    check_is_for_a_run(recipe, run.folder)
    with claims.held(run.folder, run.made.folder, root=run.root):
        ctx = Context(recipe, run, generator=generator, engine=engine, reported=reported, allow_plugins=allow_plugins)
        _run(ctx, STAGES, before_images)
    outcome = Outcome(run.folder, latest_results(run.folder))
    if root is None:  # else a study has a last word on it
        send(recipe.track, recipe.name, outcome.folder, outcome.results, outcome.verdict)
    return outcome


def make_images(
    recipe: Recipe,
    out: Path | str,
    *,
    generator: Generator | None = None,
    engine: Engine | None = None,
    part: tuple[int, int] | None = None,
    first: int | None = None,
    allow_plugins: bool = False,
) -> Path:
    """Only the prompts and images of a recipe, or the ``part`` ``(i, n)`` of the images, as a job array makes them, or the ``first``
    so many of each class.

    Parts may be made at the same time, on machines that share ``out``; :func:`run_recipe` then goes on from there. Processes that
    ``torchrun`` or ``accelerate launch`` started fine-tune the generator together, and each makes its part.
    ``allow_plugins`` as there. Returns the folder of the images.
    """
    run, on = Run(files.as_path(out)), None
    check_is_for_a_run(recipe, run.folder)
    if part is None and first is None and launched() is not None:
        device = getattr(recipe.generate, "device", "auto")
        from figment.learners.processes import processes  # loads torch

        on = processes(None if device == "auto" else device)
        part = on.rank, on.world_size
    with claims.held(run.folder, root=run.root, part="" if part is None else f"{part[0]}-of-{part[1]}"):
        ctx = Context(
            recipe, run, generator=generator, engine=engine, part=part, first=first, allow_plugins=allow_plugins, on=on
        )
        _run(ctx, tuple(stage for stage in STAGES if stage.name in OF_IMAGES))
    return run.images


def _run(ctx: Context, stages: tuple[Stage, ...], before_images: Callable[[Context], None] | None = None) -> None:
    needs_tracker(ctx.recipe.track)
    with heartbeat(ctx.run.heartbeat) as alive:
        alive.at(CHECK)
        if len(stages) == len(STAGES):
            ctx.check()
        for stage in stages:
            stage.check(ctx)
        # A recipe that is refused must not take the place of the one that made the images.
        publish(ctx)
        for stage in stages:
            alive.at(stage.name)
            if stage.name == "images" and before_images is not None:
                before_images(ctx)
            stage.run(ctx)


def check_is_for_a_run(recipe: Recipe, out: Path) -> None:
    """Raise FigmentError for a recipe that is many runs, and for a folder that holds many, or is somebody else's."""
    if recipe.table is not None:
        raise FigmentError(
            "The recipe has a table, which is many runs: figment run, or figment.run_table, makes all of it. For one run of it"
            " take the table out: --set table=null."
        )
    layout.check_not_of_old(Run(out))
    claims.check(out)
    if Study(out).is_table:
        raise FigmentError(
            f"{out} holds a table of runs, and this recipe is one run. Choose another folder with --out."
        )

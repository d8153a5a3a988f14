"""Makes again exactly what is missing or broken in a run's folder; everything that is right stays as it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from figment import claims, layout, records
from figment.context import Context
from figment.engines import Engine
from figment.errors import FigmentError
from figment.files import as_path, leftovers, lock, remove
from figment.layout import Run
from figment.stages import stages_of
from figment.stages.stage import Look, Verification
from figment.types import Generator
from figment.verify import recipe_of


def repair(
    folder: Path | str,
    *,
    generator: Generator | None = None,
    engine: Engine | None = None,
    allow_plugins: bool = False,
) -> list[str]:
    """Mend a run and its arms, or a table and its cells; what was done, a line each, and nothing where everything was right.

    Images that their digests prove to be right are kept, whatever happened to the file around them. The others, and missing
    shards, are made again, by the recipe's generator (or ``generator``) on ``engine``, in the batches in which they were made
    the first time. Rows that failed are left to the next run. Files that are not of the run stay where they are.
    Verdicts, models and numbers that are lost are made again too. ``allow_plugins`` lets code run that the folder's recipe
    names, which may have come with the folder. Raises FigmentError where the folder has no recipe.
    """
    folder = as_path(folder)
    if layout.is_images_folder(folder):
        raise FigmentError(
            f"{folder} holds images without the recipe they were made with, so they cannot be made again. Give the folder of the run,"
            " which has a resolved.yaml; for images made from Python, call figment.generate_images again after moving away"
            " the shards that figment verify names."
        )
    runs, said = layout.runs_of(folder), []
    if not claims.is_ours(folder):
        raise FigmentError(
            f"{folder} is no folder that figment wrote to, so nothing in it is mended. Nothing was changed."
        )
    runs = [run for run in runs if claims.is_ours(run.folder)]  # beside the arms may lie folders of the user's
    for run in runs:
        if run.is_old:
            raise FigmentError(
                f"{run.folder} was written by an older figment. It can be read, and it is never changed: mend it"
                " with the figment that wrote it, or run its recipe again in another folder."
            )
        layout.check_not_of_old(run)
        _check_told(run)
    for run in runs:
        with lock(run.folder):
            own = "" if run.folder == folder else f"{run.folder.relative_to(folder)}: "
            ctx = Context(recipe_of(run), run, generator=generator, engine=engine, allow_plugins=allow_plugins)
            said += [own + line for line in _mend(ctx)]
    return said


def _check_told(run: Run) -> None:
    """Raise FigmentError where what says how the run was made is not as it was written: nothing is made by it then."""
    told = {run.resolved.name, run.shared.name}
    for name, problem in records.problems(records.read(run.folder), told).items():
        raise FigmentError(
            f"{run.folder / name} {problem}. It says how all the rest was made, so nothing is mended by it. Run the recipe that you"
            " ran first again, with the same --out: that writes it anew, and makes nothing that is there."
        )


def _mend(ctx: Context) -> Iterator[str]:
    """One run: each stage is looked at, and mended before the next one is, which is made from it."""
    run = ctx.run
    yield from _leftovers(run)
    look = Look(run, ctx.recipe, Verification(run.folder))
    for stage in stages_of(run):
        before = len(look.found.findings)
        stage.verify(look)
        own = [f for f in look.found.findings[before:] if f.severity != "note"]
        if any(f.remedy in ("repair", "run") for f in own):  # a stage that was never begun is no finding
            yield from stage.repair(ctx, look)
            stage.verify(Look(run, ctx.recipe, Verification(run.folder), memory=look.memory))


def _leftovers(run: Run) -> Iterator[str]:
    folders = [
        run.folder,
        run.prompts,
        *layout.image_folders(run.images),
        run.model,
        *run.scores.glob("*"),
        run.hand,
        *run.features.glob("*"),
        run.trainings,
    ]
    old = [path for folder in folders for path in leftovers(folder)]
    for path in old:
        remove(path)
    if old:
        yield f"removed {len(old)} files that killed writers left behind"

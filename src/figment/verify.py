"""Is everything in a run's folder what was written, complete, and what the recipe asks for? Reads, and changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from figment import layout, plain_yaml, records
from figment.errors import FigmentError
from figment.files import as_path
from figment.layout import SCRATCH, Run, Study
from figment.recipe import Recipe, validate
from figment.recipe.old_names import renewed
from figment.stages import stages_of
from figment.stages.images.verify import note_images, verify_images
from figment.stages.prompts import Prompts
from figment.stages.stage import Finding, Look, Verification

__all__ = ["Finding", "Verification", "recipe_of", "verify"]

SHOWN = 5  # unknown files that are named


def verify(folder: Path | str, *, fast: bool = False) -> Verification:
    """Check a run's folder with its arms, a table's with its cells, or a folder of images alone, local or remote.

    Every file of every record is read whole and compared with its checksum, every row of images with the recipe's plan,
    every image is decoded; ``fast`` decodes only the images of files whose checksum is not known or not right. What no
    record vouches for is named. Memory is that of one shard. Raises FigmentError where the folder holds nothing of ours.
    """
    folder = as_path(folder)
    found = Verification(folder)
    if layout.is_images_folder(folder):
        run = Run(folder.parent) if folder.name == "images" else Run(folder)
        other = records.read(folder)
        if other.state == "finished" and other.data["kind"] != "images":  # an export, a LoRA, a model ...
            Look(run, None, found, fast).record(folder)
            found.checked["."] = f"{len(other.files):,} files of kind {other.data['kind']}"
            return found
        look = Look(run, _recipe_beside(run), found, fast)
        if look.recipe is not None:
            prompts_of(look)
        verify_images(look, folder)
        note_images(look, folder, None)
        return found
    for run in layout.runs_of(folder):
        look = look_at(run, found, fast)
        if not look.old:
            _unknown(look)
    return found


def look_at(run: Run, found: Verification, fast: bool = False) -> Look:
    """All stages of one run."""
    look = Look(run, _recipe(run, found), found, fast)
    look.known |= {run.recipe, run.resolved, run.shared, run.shots, run.split, run.report, run.data_files}
    if _is_astray(look):
        look.known |= set(_files(run))
        return look
    if run.made != run and not look.old and not any(run.made.images.glob("*")):
        text = f"the images that it uses, in {look.name(run.made.images)}, are not there"
        look.add("missing", run.folder, text, remedy="run")
    for stage in stages_of(run):
        stage.verify(look)
    return look


def _is_astray(look: Look) -> bool:
    """Whether what says where the images and caches are is damaged: then nothing can be said of them."""
    run = look.run
    for problem in records.problems(records.read(run.folder), {run.shared.name}).values():
        look.add("missing" if problem == "is not there" else "broken", run.shared, problem, remedy="recipe")
        return True
    try:
        _ = run.made, run.root
    except FigmentError as error:
        look.add("broken", run.shared, str(error).replace(f"{run.shared} ", "", 1), remedy="recipe")
        return True
    return False


def prompts_of(look: Look) -> None:
    """What the images are to be checked against; what is wrong with the prompts themselves is not told here."""
    aside = Look(look.run, look.recipe, Verification(look.run.folder))
    Prompts().verify(aside)
    look.memory |= {k: v for k, v in aside.memory.items() if k == "prompts"}


def _recipe(run: Run, found: Verification) -> Recipe | None:
    try:
        return recipe_of(run)
    except FigmentError as error:
        look = Look(run, None, found)
        text = str(error).replace(f"{run.recipe} ", "", 1)
        there = run.recipe.is_file()
        look.add("broken" if there else "missing", run.recipe, text, remedy="" if look.old else "recipe")
        return None


def _recipe_beside(run: Run) -> Recipe | None:
    return recipe_of(run) if run.recipe.is_file() else None


def recipe_of(run: Run) -> Recipe:
    """The recipe of a run, local or remote. Raises FigmentError where it is missing or damaged."""
    path = run.recipe
    try:
        data = plain_yaml.read(path)
    except (OSError, UnicodeDecodeError, FigmentError) as error:
        said = " ".join(str(error).split()).replace(f"{path} is ", "it is ")
        reason = "it is not there" if isinstance(error, FileNotFoundError) else said[:200].rstrip(".")
        raise FigmentError(
            f"{path} cannot be read: {reason}. It says what the run should hold. Put it back: figment run with the first recipe"
            f" and --out {run.folder} writes it again."
        ) from error
    return validate(renewed(data), str(path))


def _unknown(look: Look) -> None:
    """Name what no record vouches for. It is left alone, by every verb."""
    run = look.run
    strange = [
        p for p in _files(run) if p not in look.known and not SCRATCH.search(p.relative_to(run.folder).as_posix())
    ]
    if strange:
        names = ", ".join(p.relative_to(run.folder).as_posix() for p in strange[:SHOWN])
        more = f" and {len(strange) - SHOWN:,} more" if len(strange) > SHOWN else ""
        text = f"{len(strange):,} files are unknown: no record vouches for {names}{more}; they are left alone"
        look.add("note", run.folder, text)


def _files(run: Run) -> Iterator[Path]:
    """Every file of a run, without those of other runs below it."""
    others = {other.folder for other in Study(run.folder).runs()} - {run.folder}
    open_folders = [run.folder]
    while open_folders:
        for path in sorted(open_folders.pop().glob("*")):
            if path.is_dir():
                if path not in others:
                    open_folders.append(path)
            else:
                yield path

"""What is a set of images from elsewhere worth? Judged as a run's own, beside real ones and without, with others next to it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from figment import files, plain_yaml, records
from figment.engines import Engine
from figment.errors import FigmentError
from figment.evaluate.holm import among
from figment.evaluate.kind import Difference, difference
from figment.evaluate.worth import Pair, answer, pairs
from figment.images_in import open_images
from figment.images_in.labels import OtherClasses
from figment.images_in.open import class_names_in
from figment.images_in.provenance import Stored
from figment.images_in.real import open_real
from figment.images_in.sizes import Sizes, sizes_of
from figment.images_in.whole import splits_in
from figment.layout import Run, folder_name
from figment.recipe import Recipe, validate
from figment.recipe.load import with_absolute_paths
from figment.report.results import Answers, answers_of
from figment.report.worth import OWN, Judged, WorthPage, write
from figment.run import Outcome
from figment.studies.arms import run_arms
from figment.task import load_task, real_folder
from figment.types import Result
from figment.words import printable

log = logging.getLogger(__name__)

ALONE = "synthetic alone"  # the arm beside the recipe's own run, which has the real training images too
NO_ENCODER = (
    "Both sides are seen by one encoder, and none is named. Name one with --encoder: starter/clip is embedded, small, and knows small pictures of"
    " clothes best; openai/clip-vit-base-patch32, or any other CLIP of the Hub or in a folder, is for photographs."
)
STEPS, BATCH = 1_000, 128  # of each training of a network, on whatever images
SIDES = (32, 224)  # of what a network sees, in pixels


@dataclass(frozen=True)
class Asked:
    """Sets of images, name -> the recipe that judges it, and what is to be known of them before anything is spent."""

    recipes: Mapping[str, Recipe]
    notes: Mapping[str, Sequence[str]]
    places: frozenset[str]  # of all images, which are never written to


def ask(
    real: str,
    synthetic: Sequence[str],
    encoder: str | None,
    *,
    network: str | None = None,
    task: str | None = None,
    test_share: float | None = None,
    changes: Sequence[str] = (),
) -> Asked:
    """What would be run, every set looked at. Raises FigmentError for what cannot be judged.

    Args:
        real: a data set with its splits, or a place of test images alone; see `figment.images_in.whole.splits_in`.
        synthetic: places of labelled images, in any form that real ones may have.
        encoder: that sees both sides: a CLIP.
        network: an architecture of timm, or small_cnn, that learns from pixels, in the place of a classifier on the encoder's features.
        task: one of the built-in tasks, for its class names; None = those of ``real``.
        test_share: of photographs that nobody has split, the share to test on, as ``task.real.test_share`` deals them.
        changes: ``field=value``, of the recipes.
    """
    if encoder is None:
        raise FigmentError(NO_ENCODER)
    places = splits_in(real)
    if test_share is None and "test" not in places:
        dealt = " Or deal what there is: --test-share .3" if len(places) == 1 else ""
        raise FigmentError(
            f"--real {real} has no test images, and only they can say anything: beside {', '.join(places)} give a folder test, or rows or"
            f" files that say so.{dealt}"
        )
    _check_not_real(synthetic, real, places)
    own = {**_task(task, real, places), "real": _shared(real, places, test_share)}
    given = open_real(validate({"task": own}, f"--real {real}").task)
    sizes = sizes_of(given["test"])
    recipes, notes = {}, {}
    for name, where in zip(_names(synthetic), synthetic, strict=True):
        made = _open(where, own, real)
        _check_not_same(where, made, given)
        notes[name] = _notes(name, made, given, sizes, own["class_names"])
        each = int(np.bincount(made.labels).max())
        data = _recipe(name, where, own, encoder, network, each, sizes, alone="train" not in given)
        recipes[name] = with_absolute_paths(_changed(validate(data, name), changes), Path.cwd())
    return Asked(recipes, notes, frozenset(map(_place, (real, *places.values(), *synthetic))))


def _shared(real: str, places: Mapping[str, str], test_share: float | None) -> dict[str, Any]:
    """``task.real``."""
    if test_share is None:
        return dict(places)
    if len(places) > 1:
        raise FigmentError(
            f"--real {real} is split already ({', '.join(places)}), and --test-share deals photographs that nobody has split: leave it out."
        )
    (whole,) = places.values()
    return {"folder": whole, "test_share": test_share}


def _recipe(
    name: str,
    where: str,
    task: dict[str, Any],
    encoder: str,
    network: str | None,
    each: int,
    sizes: Sizes | None,
    *,
    alone: bool,
) -> dict[str, Any]:
    train: dict[str, Any] = {"kind": "images_only", "encoder": encoder}
    if network is not None:
        side = int(np.clip(-(-(sizes.usual if sizes else SIDES[1]) // 32) * 32, *SIDES))
        train = {"kind": "network", "architecture": network, "image_size": side, "steps": STEPS, "batch_size": BATCH}
    evaluate: dict[str, Any] = {"leaks": "report", "real_all": False}
    data = {
        "name": name,
        "task": task,
        "generate": {"kind": "folder", "path": where, "images_per_class": each},
        "filters": [],
        "encoder": encoder,
        "train": train,
        "evaluate": evaluate,
    }
    if alone:
        evaluate["exchange_rate"] = False
        return data
    evaluate |= {"baselines": ["augmented"], "measures": ["memorisation"]}
    arm: dict[str, Any] = {"few_shot": None, "evaluate.baselines": [], "evaluate.measures": []}
    return {**data, "few_shot": {"shots": "all"}, "arms": {f"{name}, {ALONE}": arm}}


def _task(task: str | None, real: str, places: Mapping[str, str]) -> dict[str, Any]:
    if task is not None:
        return load_task(task).model_dump(mode="json", exclude={"real"})
    found = class_names_in(real_folder(next(iter(places.values()))))
    words = [name.replace("_", " ") for name in found]
    return {"name": real, "class_names": words if len({w.lower() for w in words}) == len(words) else found}


def _changed(recipe: Recipe, changes: Sequence[str]) -> Recipe:
    own = {}
    for change in changes:
        field, equals, value = change.partition("=")
        if not equals:
            raise FigmentError(f"--set takes field=value, such as train.seeds=1; {change!r} has no '='.")
        own[field.strip()] = plain_yaml.parse(value, f"--set {change[:200]!r}: the value")
    return recipe.changed(own) if own else recipe


# ---- is there anything to judge? -------------------------------------------------------------------------------------


def _names(synthetic: Sequence[str]) -> list[str]:
    """The last part of each place, or more where two end alike."""
    for parts in range(1, 10):
        names = ["/".join(Path(where.rstrip("/")).parts[-parts:]) for where in synthetic]
        if len(set(names)) == len(names):
            return names
    raise FigmentError(f"A set is named twice: {', '.join(synthetic)}. Name each --synthetic once.")


def _place(where: str) -> str:
    """The same for the same place, however it is written."""
    place = real_folder(where)
    return str(place if isinstance(place, str) or not place.exists() else place.resolve())


def _check_not_real(synthetic: Sequence[str], real: str, places: Mapping[str, str]) -> None:
    taken = {_place(where): "--real" for where in (real, *places.values())}
    for where in synthetic:
        if what := taken.get(_place(where)):
            raise FigmentError(
                f"--synthetic {where} is what {what} names already: the same images on both sides. Give a set that is not compared with"
                " itself."
            )
        taken[_place(where)] = "another --synthetic"
    for where in (real, *synthetic):
        place = real_folder(where)
        if isinstance(place, Path) and place.is_dir() and not any(place.iterdir()):
            raise FigmentError(
                f"{where} is an empty folder. Give one with images: a sub-folder a class, or any other form of docs/data.md."
            )


def _open(where: str, task: Mapping[str, Any], real: str) -> Stored:
    try:
        return open_images(real_folder(where), task["class_names"], task.get("own_names", ()))
    except OtherClasses as error:
        raise FigmentError(f"{error} The classes asked for are those of --real {real}.") from error


def _check_not_same(where: str, made: Stored, given: Mapping[str, Stored]) -> None:
    own = {f"real {split} set": sorted(images.digests) for split, images in given.items()}
    own["real images"] = sorted(digest for digests in own.values() for digest in digests)  # of all splits
    for what, digests in own.items():
        if len(made) == len(digests) and sorted(made.digests) == digests:
            raise FigmentError(
                f"--synthetic {where} holds the very images of the {what}, file by file: the same images on both sides. Give a set"
                " that is not compared with itself."
            )


def _notes(
    name: str, made: Stored, given: Mapping[str, Stored], sizes: Sizes | None, class_names: Sequence[str]
) -> list[str]:
    """What to bear in mind: numbers of images, sizes that differ, photographs that are not there."""
    counts = np.bincount(made.labels, minlength=len(class_names))
    each = f"{counts.min():,}" if counts.min() == counts.max() else f"{counts.min():,} to {counts.max():,}"
    said = [f"{name}: {len(made):,} images, {each} a class."]
    own = sizes_of(made)
    if own is not None and sizes is not None and own.usual != sizes.usual:
        said.append(
            f"{name}: the shorter side of its images is {own}, that of the test images {sizes}. Sharpness alone tells them apart."
        )
        log.warning(said[-1])
    if "train" not in given:
        said.append(
            f"{name}: there are no real training images, so it is judged alone, without an exchange rate. With folders train and test below"
            " --real, or with --test-share .3 for photographs that nobody has split, it is judged beside them too."
        )
        log.warning(said[-1])
    return said


# ---- the runs, and what they say -------------------------------------------------------------------------------------


def run_worth(asked: Asked, out: Path | str, engine: Engine | None = None) -> WorthPage:
    """Run every set's recipe in a folder of its own below ``out``, and write ``worth.html``, ``worth.md`` and ``worth.json``.

    Real images are encoded once for all. What is done already is not done again. Verdicts hold for all sets at once (Holm).
    """
    out = files.as_path(out)
    if _place(str(out)) in asked.places:
        raise FigmentError(f"--out {out} is a place of images, which are never written to. Give a folder of its own.")
    runs: dict[str, _Runs] = {}
    for number, (name, recipe) in enumerate(asked.recipes.items()):
        *arms, own = run_arms(recipe, out / folder_name(number, name), engine, root=out).values()
        runs[name] = _Runs(arms[0], own) if arms else _Runs(own)
    sides = {"beside the real images": {name: one.beside for name, one in runs.items()}}
    sides["alone"] = {name: one.alone for name, one in runs.items()}
    compared = {what: _pairs(own) for what, own in sides.items() if len(own) > 1 and all(own.values())}
    notes = [note for name, own in asked.notes.items() for note in (*own, *_left_out(name, runs[name].alone.folder))]
    page = WorthPage(_judged(runs), compared, notes)
    write(page, out)
    return page


@dataclass(frozen=True)
class _Runs:
    """Of one set: of it alone, and with the real training images, where there are any."""

    alone: Outcome
    beside: Outcome | None = None


def _left_out(name: str, folder: Path) -> list[str]:
    """What of a set could not be read."""
    counts = records.read(Run(folder).images).data["counts"]
    failed = sum(counts["failed"].values())
    if not failed:
        return []
    shown = printable(next(iter(counts["failed"])))[:200]
    said = f"{name}: {failed:,} of its {counts['attempted']:,} images cannot be read and are left out, such as: {shown}"
    log.warning(said)
    return [said]


def _right(outcome: Outcome, metric: str = OWN) -> Answers:
    return answers_of(outcome.folder, metric)


def _pairs(outcomes: Mapping[str, Outcome | None]) -> list[Pair]:
    found = {name: _right(outcome) for name, outcome in outcomes.items() if outcome is not None}
    rights = {name: own.right for name, own in found.items() if own.right is not None}
    return pairs(rights, next(iter(found.values())).groups)


def _judged(runs: Mapping[str, _Runs]) -> list[Judged]:
    """The answer on each set, from verdicts that hold for all of them at once."""
    every = [
        (name, outcome) for name, own in runs.items() for outcome in (own.alone, own.beside) if outcome is not None
    ]
    words = among([outcome.results["worth"] for _, outcome in every])
    word_of = {outcome.folder: word for (_, outcome), word in zip(every, words, strict=True)}
    judged = []
    for name, own in runs.items():
        beside = {} if own.beside is None else own.beside.results
        word = "" if own.beside is None else word_of[own.beside.folder]
        told = {"alone": _sentence(own.alone.results), "beside": _sentence(beside)}
        over = None if own.beside is None else _over_augmented(own.beside)
        said = answer(word, word_of[own.alone.folder], told, beside or own.alone.results, over)
        judged.append(Judged(name, said, beside, own.alone.results, over))
    return judged


def _over_augmented(beside: Outcome) -> Difference | None:
    own, augmented = _right(beside), _right(beside, "top1/augmented")
    if own.right is None or augmented.right is None:
        return None
    return difference(own.right - augmented.right, groups=own.groups)


def _sentence(results: Mapping[str, Result]) -> str:
    said = str(results["worth"].details["sentence"]) if results else ""
    return said[:1].upper() + said[1:]

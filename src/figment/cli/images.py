"""The commands that make images alone: ``pilot`` and ``generate``."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from figment import limits
from figment.cli.options import (
    Address,
    AllowPlugins,
    EngineName,
    Gpus,
    Out,
    RecipePath,
    Set,
    Variant,
    Workers,
    default_out,
    make_engine,
)
from figment.errors import FigmentError
from figment.progress import console
from figment.words import printable

QUESTIONS = {
    "classes": "Does the generator know the classes?",
    "domain": "Does it know the domain?",
    "room": "Is there anything left to learn?",
    "test images": "What can the test show?",
}
COLOURS = {"known": "green", "room": "green", "partly known": "yellow", "unknown": "red", "at the ceiling": "red"}


def pilot(
    recipe: RecipePath,
    out: Out = None,
    set: Set = None,
    variant: Variant = None,
    images_per_class: Annotated[
        int | None,
        typer.Option(
            "--images-per-class",
            min=1,
            max=limits.IMAGES_A_CLASS,
            help="images to make of each class; default: 24, fewer where there are many classes",
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            "--split",
            metavar="NAME",
            help="the real images to ask: train, val, unlabelled or test; default: train, else unlabelled",
        ),
    ] = None,
    engine: EngineName = "local",
    workers: Workers = None,
    address: Address = None,
    gpus: Gpus = None,
    allow_plugins: AllowPlugins = False,
) -> None:
    """Make the first few images, and say whether the rest is worth making. figment run goes on from them."""
    from figment.recipe import load_recipe
    from figment.studies.pilot import run_pilot

    loaded = load_recipe(recipe, set or [], variant)
    found = run_pilot(
        loaded,
        out or default_out(recipe, variant),
        images_per_class=images_per_class,
        split=split,
        engine=make_engine(engine, workers, address, gpus),
        allow_plugins=allow_plugins,
    )
    for one in found.answers:
        console.print(Text.assemble("\n", QUESTIONS[one.question], " ", (one.word, COLOURS.get(one.word, ""))))
        console.print(f"  {printable(one.sentence)}", soft_wrap=True, markup=False)
    console.print(f"\nIn short: {printable(found.summary)}", soft_wrap=True, markup=False)
    console.print(f"The images are the first of the run in {found.folder}, which goes on from them.", soft_wrap=True)


def generate(
    recipe: RecipePath,
    out: Out = None,
    set: Set = None,
    variant: Variant = None,
    part: Annotated[
        str | None,
        typer.Option("--part", metavar="I/N", help="make only part I of N, counted from 0, for job arrays"),
    ] = None,
    engine: EngineName = "local",
    workers: Workers = None,
    address: Address = None,
    gpus: Gpus = None,
    allow_plugins: AllowPlugins = False,
) -> None:
    """Make the images of a recipe and nothing else. figment run goes on from there."""
    from figment.learners.processes import leave
    from figment.machine import launched
    from figment.recipe import load_recipe
    from figment.run import make_images

    if part is not None and launched() is not None:
        raise FigmentError("Each process that a launcher starts makes a part of its own: leave --part out.")
    loaded = load_recipe(recipe, set or [], variant)
    folder = make_images(
        loaded,
        out or default_out(recipe, variant),
        engine=make_engine(engine, workers, address, gpus),
        part=None if part is None else _part(part),
        allow_plugins=allow_plugins,
    )
    console.print(f"Images: {folder}", soft_wrap=True)
    leave()


def _part(text: str) -> tuple[int, int]:
    own, slash, of = text.partition("/")
    if not (slash and own.isdecimal() and of.isdecimal() and int(own) < int(of)):
        raise FigmentError(f"--part takes I/N with I from 0 to N - 1, such as 3/16; this is {text!r}.")
    return int(own), int(of)

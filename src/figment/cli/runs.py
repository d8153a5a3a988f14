"""The commands that run a recipe: ``demo`` and ``run``."""

from __future__ import annotations

import math
import shlex
import sys
import time
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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
    path_of,
)
from figment.cli.show import print_results, print_table
from figment.errors import FigmentError
from figment.progress import console

if TYPE_CHECKING:
    from figment.engines import Engine
    from figment.recipe import Recipe


def demo(
    context: typer.Context,
    out: Annotated[
        Path | None,
        typer.Option("--out", parser=path_of, metavar="DIR", help="folder of the run; default: runs/demo-LOOK"),
    ] = None,
    look: Annotated[
        str,
        typer.Option(
            "--look",
            metavar="NAME",
            help="how the real garments are seen: a domain that the models know little of, such as sketch or night, or catalogue, which they know best",
        ),
    ] = "sketch",
) -> None:
    """Run the whole path on the embedded starter models: two to four minutes on two CPU cores, no network.

    What words, a filter and 16 photographs a class do on a domain of which the models have seen little.
    """
    from figment.recipe import load_recipe
    from figment.starter import task_of

    recipe = load_recipe(Path(str(resources.files("figment") / "starter" / "demo.yaml")), [f"task={task_of(look)}"])
    console.print(
        "The starter is a scale model trained on Fashion-MNIST: it shows the method, not what large models reach.\n"
    )
    _run(recipe, out or Path("runs") / f"demo-{look}", context.obj)


def run(
    context: typer.Context,
    recipe: RecipePath,
    out: Out = None,
    set: Set = None,
    variant: Variant = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what it would make and cost, and stop")] = False,
    effect: Annotated[
        float | None,
        typer.Option(metavar="POINTS", help="with --dry-run: how many test images a gain of so many points takes"),
    ] = None,
    seconds_per_image: Annotated[
        float | None,
        typer.Option(
            "--seconds-per-image",
            metavar="S",
            help="with --dry-run: what generating an image of this recipe takes on the machine you plan for; no model is opened, nothing timed",
        ),
    ] = None,
    engine: EngineName = "local",
    workers: Workers = None,
    address: Address = None,
    gpus: Gpus = None,
    allow_plugins: AllowPlugins = False,
) -> None:
    """Run a recipe. The same command again finishes what was interrupted."""
    from figment.recipe import load_recipe

    if effect is not None and not dry_run:
        raise FigmentError("--effect plans, and so goes with --dry-run.")
    _check_seconds(seconds_per_image, dry_run)
    loaded = load_recipe(recipe, set or [], variant)
    folder = out or default_out(recipe, variant)
    if not dry_run:
        _check_is_alone()
    if loaded.table is not None:
        if dry_run:
            _print_table_forecast(loaded, folder, allow_plugins, seconds_per_image)
        else:
            _run_table(loaded, folder, make_engine(engine, workers, address, gpus), allow_plugins)
    elif dry_run:
        _print_forecast(loaded, folder, effect, allow_plugins, seconds_per_image)
    else:
        _run(loaded, folder, context.obj, make_engine(engine, workers, address, gpus), allow_plugins)


def _check_seconds(seconds: float | None, dry_run: bool) -> None:
    """Raise FigmentError for what is no time, or plans nothing."""
    if seconds is None:
        return
    if not dry_run:
        raise FigmentError("--seconds-per-image plans, and so goes with --dry-run.")
    if not 0 < seconds < math.inf:
        raise FigmentError(
            f"--seconds-per-image is {seconds:g}. Give the seconds that an image takes, above 0, such as .8."
        )


def _check_is_alone() -> None:
    """Raise FigmentError where a launcher started many processes to do what one does."""
    from figment.machine import launched

    others = launched()
    if others is not None:
        raise FigmentError(
            f"figment run is one process, and a launcher (torchrun, accelerate launch) started {others[1]}. With them make the images:"
            " torchrun --nproc_per_node 4 -m figment.cli generate RECIPE. They fine-tune the generator together, and each makes its part;"
            " figment run then goes on from there, alone."
        )


def _run(recipe: Recipe, folder: Path, began: float, engine: Engine | None = None, allow_plugins: bool = False) -> None:
    from figment.studies.arms import run_arms

    run_arms(recipe, folder, engine, allow_plugins=allow_plugins)
    console.print()
    print_results(folder)
    console.print(f"Took {time.monotonic() - began:.0f} s.")


def _print_table_forecast(recipe: Recipe, folder: Path, allow_plugins: bool, seconds: float | None) -> None:
    from figment.studies.table_forecast import forecast_table

    said = forecast_table(recipe, folder, allow_plugins=allow_plugins, seconds_per_image=seconds)
    console.print(said.text, soft_wrap=True, markup=False)
    console.print("Nothing was written.")


def _run_table(recipe: Recipe, folder: Path, engine: Engine, allow_plugins: bool) -> None:
    from figment.studies.table import run_table

    command = shlex.join(["figment", *sys.argv[1:]])
    page = run_table(recipe, folder, engine, command, allow_plugins=allow_plugins)
    print_table(page, folder)
    console.print(f"Took {page.seconds:.0f} s.")


def _print_forecast(
    recipe: Recipe, folder: Path, effect: float | None, allow_plugins: bool, seconds: float | None
) -> None:
    from figment.report.costs import not_there
    from figment.report.planned import planned
    from figment.studies.arms import forecast_arms

    plan = planned(folder)
    takes = [] if effect is None else [plan.takes(effect / 100)]  # a wrong number is told before anything is timed
    if effect is not None and recipe.prices is not None and (n := plan.images(effect / 100)) is not None:
        takes.append(f"So many test images: {recipe.prices.labelling(n)}.")
    forecasts = forecast_arms(recipe, folder, allow_plugins=allow_plugins, seconds_per_image=seconds)
    if absent := not_there([*dict.fromkeys(place for own in forecasts.values() for place in own.absent)]):
        console.print(absent, soft_wrap=True, markup=False)
    for name, own in forecasts.items():
        console.print(name, style="bold")
        for line in own.text:
            console.print(f"  {line}", soft_wrap=True)
    for line in takes:
        console.print(line, soft_wrap=True)
    console.print("Nothing was written.")

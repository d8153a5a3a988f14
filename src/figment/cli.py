"""The command line: parse, call, print."""

from __future__ import annotations

import os
import sys
import time
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from figment.errors import FigmentError, nearest
from figment.progress import console

if TYPE_CHECKING:
    from figment.engines import Engine
    from figment.recipe import Recipe

app = typer.Typer(
    help="Can generated pictures stand in for the photographs you do not have? Class names in; labelled images, a tested classifier and an honest report out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _folder(text: str) -> Path:
    from figment.files import as_path

    return as_path(text)


Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        parser=_folder,
        metavar="DIR",
        help="folder of the run, local or such as s3://bucket/run; default: runs/<name of the recipe file>",
    ),
]
RecipePath = Annotated[
    Path, typer.Argument(parser=_folder, metavar="RECIPE", help="a YAML recipe, or the folder of an earlier run")
]
Folder = Annotated[Path, typer.Argument(parser=_folder, metavar="DIR", help="folder of a run")]
EngineName = Annotated[str, typer.Option("--engine", help="where images are made: local or ray")]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers", min=1, help="processes that make images, one a GPU; default: one, or all of a Ray cluster"
    ),
]
Address = Annotated[
    str | None, typer.Option("--address", help="of a Ray cluster; default: the one this machine is in, else a new one")
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="FIELD=VALUE",
        help="change a field of the recipe, such as generate.guidance_scale=3; may be repeated",
    ),
]


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", parser=_folder, metavar="DIR", help="folder of the run")] = Path(
        "runs/demo"
    ),
) -> None:
    """Run the whole path on the embedded starter models: a few minutes on two CPU cores, no network."""
    from figment.recipe import load_recipe

    console.print(
        "The starter is a scale model trained on Fashion-MNIST: it shows the method, not what large models reach.\n"
    )
    _run(load_recipe(Path(str(resources.files("figment") / "starter" / "demo.yaml"))), out)


@app.command()
def init(path: Annotated[Path, typer.Argument(help="the recipe to write")] = Path("recipe.yaml")) -> None:
    """Write a commented recipe to start from."""
    from figment import files

    if path.exists():
        raise FigmentError(f"{path} exists already and is left as it is. Choose another name: figment init other.yaml")
    template = (resources.files("figment") / "init_template.yaml").read_text(encoding="utf-8")
    name = "".join(c if c.isalnum() else "-" for c in path.stem) or "recipe"
    files.write_atomic(path, template.replace("{file}", str(path)).replace("{name}", name).encode())
    console.print(f"Wrote {path}. Put in your class names, then: figment run {path}")


@app.command()
def run(
    recipe: RecipePath,
    out: Out = None,
    set: Set = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what it would make and cost, and stop")] = False,
    engine: EngineName = "local",
    workers: Workers = None,
    address: Address = None,
) -> None:
    """Run a recipe. The same command again finishes what was interrupted."""
    from figment.recipe import load_recipe

    loaded = load_recipe(recipe, set or [])
    folder = out or _default_out(recipe)
    if dry_run:
        _print_forecast(loaded, folder)
    else:
        _run(loaded, folder, make_engine(engine, workers, address))


@app.command()
def generate(
    recipe: RecipePath,
    out: Out = None,
    set: Set = None,
    part: Annotated[
        str | None,
        typer.Option("--part", metavar="I/N", help="make only part I of N, counted from 0, for job arrays"),
    ] = None,
    engine: EngineName = "local",
    workers: Workers = None,
    address: Address = None,
) -> None:
    """Make the images of a recipe and nothing else. figment run goes on from there."""
    from figment.recipe import load_recipe
    from figment.run import make_images

    loaded = load_recipe(recipe, set or [])
    folder = make_images(
        loaded,
        out or _default_out(recipe),
        engine=make_engine(engine, workers, address),
        part=None if part is None else _part(part),
    )
    console.print(f"Images: {folder}", soft_wrap=True)


def make_engine(name: str, workers: int | None, address: str | None) -> Engine:
    """The engine behind the options. Raises FigmentError."""
    from figment.engines import Local

    if name == "local":
        if address:
            raise FigmentError("--address is that of a Ray cluster; give --engine ray with it, or leave it out.")
        return Local(workers or 1)
    if name == "ray":
        from figment.engines.ray import Ray

        return Ray(workers, address)
    raise FigmentError(f"There is no engine {name!r}.{nearest(name, ['local', 'ray'])} Allowed: local, ray.")


def _part(text: str) -> tuple[int, int]:
    own, slash, of = text.partition("/")
    if not (slash and own.isdecimal() and of.isdecimal() and int(own) < int(of)):
        raise FigmentError(f"--part takes I/N with I from 0 to N - 1, such as 3/16; this is {text!r}.")
    return int(own), int(of)


@app.command()
def status(folder: Folder) -> None:
    """Say how far a run is."""
    from figment.status import stages_of

    table = Table("stage", "state", "what", box=None, pad_edge=False)
    for stage in stages_of(folder):
        table.add_row(stage.name, stage.state, stage.text)
    console.print(table)


@app.command()
def report(folder: Folder) -> None:
    """Write report.html again and print the results."""
    from figment.report.folder import report_of
    from figment.report.page import write

    write(report_of(folder), folder / "report.html")
    _print_results(folder)


@app.command()
def doctor() -> None:
    """Say what this machine can do and what is missing."""
    from figment.doctor import examine

    table = Table.grid(padding=(0, 2))
    findings = examine()
    for finding in findings:
        colour = {"ok": "green", "note": "yellow", "missing": "red"}[finding.state]
        table.add_row(finding.subject, Text(finding.state, style=colour), finding.text)
    console.print(table)
    if any(f.state == "missing" for f in findings):
        raise typer.Exit(1)


def _default_out(recipe: Path) -> Path:
    """``runs/<recipe>``; the recipe of an earlier run goes on in that run's folder."""
    if recipe.is_dir():
        return recipe
    if recipe.name == "recipe.yaml" and (recipe.parent / "prompts").is_dir():
        return recipe.parent
    return Path("runs") / recipe.stem


def _run(recipe: Recipe, folder: Path, engine: Engine | None = None) -> None:
    from figment.studies.arms import run_arms

    started = time.monotonic()
    run_arms(recipe, folder, engine)
    console.print()
    _print_results(folder)
    console.print(f"Took {time.monotonic() - started:.0f} s.")


def _print_results(folder: Path) -> None:
    """The table of arms, the verdict, and where the rest is."""
    from figment.report.folder import report_of
    from figment.report.text import interval, points_interval

    page = report_of(folder)
    if page.arms:
        table = Table(title=f"{page.arms[0].result.n:,} real test pictures, 95 % intervals", title_justify="left")
        table.add_column("classifier", overflow="fold")
        table.add_column("top-1", justify="right", no_wrap=True)
        table.add_column("gain in points", justify="right", no_wrap=True)
        for arm in page.arms:
            gain = "" if arm.difference is None else points_interval(arm.difference).replace(" points", "")
            table.add_row(arm.name, interval(arm.result), gain)
        console.print(table)
    console.print(f"\nVerdict: {page.verdict.word}. {page.verdict.sentence}")
    for line in (page.verdict.exchange, page.missing.get("exchange", ""), page.missing.get("arms", "")):
        if line:
            console.print(line)
    console.print(
        f"\nReport: {folder / 'report.html'}\nImages: {folder / 'images'}  (datasets.load_dataset opens it)",
        soft_wrap=True,
    )


def _print_forecast(recipe: Recipe, folder: Path) -> None:
    from figment.forecast import forecast
    from figment.studies.arms import arm_runs

    for name, (arm, arm_folder) in {**arm_runs(recipe, folder), recipe.name: (recipe, folder)}.items():
        f = forecast(arm, arm_folder)
        console.print(f"{name}", style="bold")
        console.print(
            f"  {f.prompts:,} prompts, {f.images:,} images in {f.shards:,} shards; {f.done:,} are there already"
        )
        if f.seconds is None or f.bytes is None:
            console.print(f"  time and disk are not known: {f.note}")
        else:
            console.print(
                f"  about {_duration(f.seconds)} of generation on this machine (measured on a trial batch), {f.bytes / 2**20:,.0f} MiB of disk"
                + ("" if f.free_bytes is None else f"; {f.free_bytes / 2**30:,.0f} GiB are free")
            )
    console.print("Nothing was written.")


def _duration(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} minutes"
        if seconds < 7200
        else f"{seconds / 3600:.1f} hours"
    )


def main() -> None:
    """Entry point: a user's mistake prints one paragraph and exits with 2; an interrupted run can be gone on with."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        app()
    except FigmentError as error:
        console.print(f"Error: {error}", style="red", soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        console.print("\nInterrupted. What was finished is safe; the same command goes on from there.")
        sys.exit(130)


if __name__ == "__main__":
    main()

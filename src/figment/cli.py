"""The command line: parse, call, print."""

from __future__ import annotations

import io
import logging
import os
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from figment import limits
from figment.errors import FigmentError, nearest
from figment.progress import ConsoleHandler, console, silence
from figment.words import one_line, printable

if TYPE_CHECKING:
    from figment.checking.check import Checked
    from figment.doctor import Finding
    from figment.engines import Engine
    from figment.recipe import Recipe
    from figment.report.table import TablePage

MOST_FINDINGS = 40  # shown by verify; of compare, pairs
MOST_CLASSES = 20  # shown one by one
QUESTIONS = {
    "classes": "Does the generator know the classes?",
    "domain": "Does it know the domain?",
    "room": "Is there anything left to learn?",
    "test images": "What can the test show?",
}
COLOURS = {"known": "green", "room": "green", "partly known": "yellow", "unknown": "red", "at the ceiling": "red"}

app = typer.Typer(
    help="Can generated images stand in for the photographs you do not have? Class names in; labelled images, a tested classifier and an honest report out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _say_version(wanted: bool) -> None:
    if wanted:
        from importlib import metadata

        console.print(f"figment {metadata.version('figment-vision')}", highlight=False)
        raise typer.Exit()


@app.callback()
def _begin(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="say the version and stop")
    ] = False,
) -> None:
    context.obj = time.monotonic()  # what a command imports is a part of the time that it says it took


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
        "--workers",
        min=1,
        max=1_024,
        help="processes that make images, one a GPU; default: one, or all of a Ray cluster",
    ),
]
Address = Annotated[
    str | None, typer.Option("--address", help="of a Ray cluster; default: the one this machine is in, else a new one")
]
Gpus = Annotated[
    float | None,
    typer.Option(
        "--gpus", min=0, max=16, help="that each Ray worker asks for; default: one, of a cluster that has any"
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="FIELD=VALUE",
        help="change a field of the recipe, such as generate.guidance_scale=3; may be repeated",
    ),
]

AllowPlugins = Annotated[
    bool,
    typer.Option("--allow-plugins", help="let code run that the recipe names (kind: package.module:Name)"),
]

Variant = Annotated[
    str | None, typer.Option("--variant", metavar="NAME", help="one of the recipe's variants, such as starter")
]


@app.command()
def demo(
    context: typer.Context,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", parser=_folder, metavar="DIR", help="folder of the run; default: runs/demo, or runs/demo-LOOK"
        ),
    ] = None,
    look: Annotated[
        str | None,
        typer.Option(
            "--look",
            metavar="NAME",
            help="on a domain that the generator knows little of, such as sketch or night: what words, a filter and 16 photographs a class do",
        ),
    ] = None,
) -> None:
    """Run the whole path on the embedded starter models: a few minutes on two CPU cores, no network."""
    from figment.recipe import load_recipe
    from figment.starter import check_has_gap

    starter = Path(str(resources.files("figment") / "starter"))
    if look is None:
        recipe = load_recipe(starter / "demo.yaml")
    else:
        check_has_gap(look)
        recipe = load_recipe(starter / "look.yaml", [f"task=fashion-{look}"])
    console.print(
        "The starter is a scale model trained on Fashion-MNIST: it shows the method, not what large models reach.\n"
    )
    _run(recipe, out or Path("runs") / ("demo" if look is None else f"demo-{look}"), context.obj)


@app.command()
def init(path: Annotated[Path, typer.Argument(help="the recipe to write")] = Path("recipe.yaml")) -> None:
    """Write a commented recipe to start from."""
    from figment import files
    from figment.evaluate.kind import smallest_visible

    with files.explained(path):
        if os.path.lexists(path):
            raise FigmentError(
                f"{path} exists already and is left as it is. Choose another name: figment init other.yaml"
            )
    template = (resources.files("figment") / "init_template.yaml").read_text(encoding="utf-8")
    name = "".join(c if c.isalnum() else "-" for c in path.stem) or "recipe"
    shown = shlex.quote(one_line(str(path)))
    files.write_atomic(path, template.replace("{file}", shown).replace("{name}", name).encode())
    console.print(f"Wrote {path}. Put in your class names, then: figment run {shlex.quote(str(path))}")
    seen = ", ".join(f"{100 * smallest_visible(n):.1f} with {n:,}" for n in (50, 200, 1_000, 5_000))
    console.print(
        f"Real test images decide what can be shown. The smallest gain that shows in four of five studies, in points: {seen}."
        f" For another one: figment run {shlex.quote(str(path))} --dry-run --effect 2",
        soft_wrap=True,
    )


@app.command()
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
    loaded = load_recipe(recipe, set or [], variant)
    folder = out or _default_out(recipe, variant)
    if not dry_run:
        _check_is_alone()
    if loaded.table is not None:
        _run_table(loaded, folder, make_engine(engine, workers, address, gpus), dry_run, allow_plugins)
    elif dry_run:
        _print_forecast(loaded, folder, effect, allow_plugins)
    else:
        _run(loaded, folder, context.obj, make_engine(engine, workers, address, gpus), allow_plugins)


@app.command()
def check(
    real: Annotated[
        list[str],
        typer.Argument(
            metavar="REAL...",
            help="photographs: train=DIR test=DIR, a folder that holds both, one place that nobody has split, or a recipe",
        ),
    ],
    test_share: Annotated[
        float | None,
        typer.Option(min=0.01, max=0.99, help="of one place that nobody has split: what is tested on; default: 0.3"),
    ] = None,
    val_share: Annotated[float | None, typer.Option(min=0.01, max=0.99, help="the same for validation images")] = None,
    split_seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="another one deals it in another way")] = 0,
    encoder: Annotated[
        str | None, typer.Option(metavar="CLIP", help="ask it which images and class names it cannot tell apart")
    ] = None,
    min_images: Annotated[int, typer.Option(min=1, help="fail below so many images of a class in a split")] = 1,
    min_side: Annotated[int, typer.Option(min=1, help="pixels of the shorter side below which an image is tiny")] = 32,
    max_tiny: Annotated[
        float, typer.Option(min=0, max=1, help="fail above this share of tiny images in a split")
    ] = 0.1,
    max_unreadable: Annotated[
        float, typer.Option(min=0, max=1, help="fail above this share of unreadable files")
    ] = 0.1,
    max_repeated: Annotated[
        float | None, typer.Option(min=0, max=1, help="fail above this share of images that are there twice in a split")
    ] = None,
    max_imbalance: Annotated[
        float | None,
        typer.Option(min=1, help="fail above so many images of the largest class for each of the smallest"),
    ] = None,
    effect: Annotated[
        float | None,
        typer.Option(metavar="POINTS", help="fail where the test images cannot show a gain of so many points"),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", parser=_folder, metavar="FILE", help="write all of it there, and the split")
    ] = None,
) -> None:
    """Look at real images before anything is spent. Fails (exit code 1) where a study would, or a limit is crossed."""
    from figment import files
    from figment.checking.check import check as check_real
    from figment.checking.findings import Limits

    limits = Limits(
        min_images=min_images,
        min_side=min_side,
        max_tiny=max_tiny,
        max_unreadable=max_unreadable,
        max_repeated=max_repeated,
        max_imbalance=max_imbalance,
        effect=None if effect is None else effect / 100,
    )
    found = check_real(real, limits, test_share=test_share, val_share=val_share, split_seed=split_seed, encoder=encoder)
    _print_checked(found)
    if json_file is not None:
        files.write_json(json_file, found.told())
    if not found.ok:
        raise typer.Exit(1)


def _print_checked(found: Checked) -> None:
    """Images of each class, what was found, and how a recipe names photographs that figment splits."""
    import yaml

    splits = list(found.counts)
    table = Table("class", *splits, box=None, pad_edge=False)
    names = list(next(iter(found.counts.values()), {}))
    for name in names[:MOST_CLASSES]:
        table.add_row(Text(one_line(name)[:60]), *(f"{found.counts[split][name]:,}" for split in splits))
    if len(names) > MOST_CLASSES:
        table.add_row(f"... and {len(names) - MOST_CLASSES:,} more", *("" for _ in splits))
    table.add_row("all", *(f"{sum(found.counts[split].values()):,}" for split in splits), style="bold")
    console.print(table)
    lines = Table.grid(padding=(0, 2))
    colours = {"ok": "green", "note": "yellow", "wrong": "red"}
    for finding in sorted(found.findings, key=lambda finding: list(colours)[::-1].index(finding.state)):
        lines.add_row(finding.subject, Text(finding.state, style=colours[finding.state]), Text(printable(finding.text)))
    console.print()
    console.print(lines)
    if found.real is not None:
        told = yaml.safe_dump(found.real, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10_000)
        console.print(
            f"\nIn a recipe, this very split:\n  task: {{real: {told.strip()}}}", soft_wrap=True, markup=False
        )


@app.command()
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
        out or _default_out(recipe, variant),
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
    loaded = load_recipe(recipe, set or [])
    folder = make_images(
        loaded,
        out or _default_out(recipe),
        engine=make_engine(engine, workers, address, gpus),
        part=None if part is None else _part(part),
        allow_plugins=allow_plugins,
    )
    console.print(f"Images: {folder}", soft_wrap=True)
    leave()


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


def make_engine(name: str, workers: int | None, address: str | None, gpus: float | None = None) -> Engine:
    """The engine behind the options. Raises FigmentError."""
    from figment.engines import Local

    if name == "local":
        for option, given in (("--address is that", address), ("--gpus is said to the workers", gpus)):
            if given is not None:
                raise FigmentError(f"{option} of a Ray cluster; give --engine ray with it, or leave it out.")
        return Local(workers or 1)
    if name == "ray":
        from figment.engines.ray import Ray

        if gpus is not None and gpus > 1 and gpus != int(gpus):
            raise FigmentError(
                f"--gpus is {gpus:g}: Ray shares one GPU or gives whole ones. Give a share below 1, or a whole number."
            )
        return Ray(workers, address, gpus)
    raise FigmentError(f"There is no engine {name!r}.{nearest(name, ['local', 'ray'])} Allowed: local, ray.")


def _part(text: str) -> tuple[int, int]:
    own, slash, of = text.partition("/")
    if not (slash and own.isdecimal() and of.isdecimal() and int(own) < int(of)):
        raise FigmentError(f"--part takes I/N with I from 0 to N - 1, such as 3/16; this is {text!r}.")
    return int(own), int(of)


@app.command()
def status(folder: Folder) -> None:
    """Show how far a run is, and whether it is running."""
    from figment.status import status as status_of

    table = Table("stage", "state", "what", box=None, pad_edge=False)
    for stage in status_of(folder):
        table.add_row(Text(printable(stage.name)), stage.state, Text(printable(stage.text)))
    console.print(table)


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(parser=_folder, metavar="DIR", help="folder of a run, or of images alone")],
    fast: Annotated[
        bool, typer.Option("--fast", help="decode no image whose file has the right checksum: as fast as the disk")
    ] = False,
) -> None:
    """Check every file of a run: checksums, columns, images, counts, duplicates, balance. Changes nothing."""
    from figment.verify import verify as verify_folder

    found = verify_folder(folder, fast=fast)
    table = Table("stage", "", "what", box=None, pad_edge=False)
    for stage, text in found.checked.items():
        table.add_row(stage, Text("looked at", style="green"), Text(printable(text)))
    colours = {"broken": "red", "missing": "red", "note": "yellow"}
    for finding in sorted(found.findings, key=lambda f: list(colours).index(f.severity))[:MOST_FINDINGS]:
        state = Text(finding.severity, style=colours[finding.severity])
        table.add_row(Text(printable(finding.stage)), state, Text(printable(finding.text)))
    console.print(table)
    if len(found.findings) > MOST_FINDINGS:
        console.print(f"... and {len(found.findings) - MOST_FINDINGS:,} more like these")
    console.print(found.advice, soft_wrap=True)
    if not found.ok:
        raise typer.Exit(1)


@app.command()
def repair(
    folder: Folder,
    engine: EngineName = "local",
    workers: Workers = None,
    address: Address = None,
    gpus: Gpus = None,
    allow_plugins: AllowPlugins = False,
) -> None:
    """Make again exactly what is missing or broken in a run; everything that is right stays as it is."""
    from figment.repair import repair as repair_folder

    done = repair_folder(folder, engine=make_engine(engine, workers, address, gpus), allow_plugins=allow_plugins)
    for line in done:
        console.print(printable(line), soft_wrap=True)
    console.print("Repaired." if done else "Nothing is broken or missing.")


@app.command()
def look(
    folder: Folder,
    port: Annotated[
        int | None, typer.Option("--port", min=1, max=65_535, help="of 127.0.0.1; default: one of the run's own")
    ] = None,
) -> None:
    """Look at a run's images in a browser, and reject some by hand. The page is served to this machine alone."""
    from figment.look.album import Album
    from figment.look.server import LookServer

    album = Album(folder)
    server = LookServer(album, port)
    console.print(f"{len(album):,} images: {server.url}", soft_wrap=True, markup=False, highlight=False)
    console.print("Whoever has this address can judge the images. Ctrl-C ends it; every word is saved as it is said.")
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        counts = ", ".join(f"{n:,} {what}" for what, n in album.counts().items())
        console.print(f"\n{counts}. To train on what is left: figment run {shlex.quote(str(folder))}", soft_wrap=True)
    finally:
        server.server_close()


@app.command()
def report(folder: Folder) -> None:
    """Write report.html again and print the results."""
    from figment.layout import Run
    from figment.stages.report import write_report
    from figment.studies.table import read_table, write_page

    if Run(folder).kind == "table":
        own = read_table(folder)
        write_page(own, folder)
        _print_table(own, folder)
        return
    write_report(Run(folder))
    _print_results(folder)


@app.command()
def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(parser=_folder, metavar="RUN...", help="folders of finished runs; an arm or a cell is one too"),
    ],
    metric: Annotated[str, typer.Option(metavar="NAME", help="which accuracy")] = "top1/synthetic",
    against: Annotated[
        Path | None,
        typer.Option(
            parser=_folder, metavar="RUN", help="compare each with this one alone: fewer pairs, more of them sure"
        ),
    ] = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", parser=_folder, metavar="FILE", help="write a line a pair there")
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", parser=_folder, metavar="FILE", help="write a page there")
    ] = None,
) -> None:
    """Say which of several runs are better, image by image on the same test images, allowing for how many they are."""
    from figment.report import comparison, table

    found = comparison.compare(runs, metric, against)
    shown = Table("run", "accuracy", "test images", "intervals allow for", box=None, pad_edge=False)
    for name, *cells in comparison.rows(found):
        shown.add_row(Text(one_line(name)), *cells)
    console.print(shown)
    console.print()
    for pair in found.pairs[:MOST_FINDINGS]:
        console.print(printable(comparison.sentence(found, pair)), soft_wrap=True, markup=False)
    if len(found.pairs) > MOST_FINDINGS:
        console.print(f"... and {len(found.pairs) - MOST_FINDINGS:,} more pairs (--csv writes all)")
    console.print(f"\n{comparison.summary(found)}.", soft_wrap=True)
    if csv is not None:
        comparison.write_csv(found, csv)
    if html is not None:
        table.write(comparison.page(found), html)


@app.command()
def export(
    folder: Folder,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="FORMAT",
            help="of images: imagefolder, webdataset, csv, parquet or hub; of the model: onnx, safetensors, timm or transformers",
        ),
    ],
    out: Annotated[
        str, typer.Option("--out", metavar="WHERE", help="a new folder; for hub the data set's name, owner/name")
    ],
    all: Annotated[bool, typer.Option("--all", help="also the images that the filters rejected")] = False,
    public: Annotated[bool, typer.Option("--public", help="on the hub, for everybody to see")] = False,
) -> None:
    """Write the kept images of a run, or its trained model, in another format. The same command again finishes what was interrupted."""
    from figment.exports.export import export as export_images
    from figment.exports.models.export import formats as of_models

    if to in of_models():
        if all or public:
            raise FigmentError(
                f"--to {to} writes the trained model, and --all and --public are of images. Leave them out."
            )
        _export_model(folder, to, out)
        return
    done = export_images(folder, to, out, rejected=all, public=public)
    table = Table("class", "images", box=None, pad_edge=False)
    for name, n in list(done.counts.items())[:20]:
        table.add_row(Text(one_line(name)[:60]), f"{n:,}")
    if len(done.counts) > 20:
        table.add_row(f"... and {len(done.counts) - 20:,} more classes", "")
    console.print(table)
    rest = f"; {done.left_out:,} rejected ones left out (--all includes them)" if done.left_out else ""
    console.print(f"{sum(done.counts.values()):,} images{rest}")
    console.print(f"{'Exported to' if done.written else 'All of it was there already:'} {done.where}", soft_wrap=True)


def _export_model(folder: Path, to: str, out: str) -> None:
    from figment.exports.models.export import export_model

    done = export_model(folder, to, out)
    agreement = done.agreement
    console.print(
        f"A classifier of {len(done.class_names):,} classes, compared with figment's own predictions on {agreement.images:,} images:"
        f" no probability differs by more than {max(agreement.same_pixels, agreement.resized):.1g}.",
        soft_wrap=True,
    )
    console.print(f"{'Exported to' if done.written else 'All of it was there already:'} {done.where}", soft_wrap=True)
    console.print(f"How it is opened without figment: {done.where.rstrip('/')}/README.md", soft_wrap=True)


@app.command()
def predict(
    folder: Folder,
    images: Annotated[
        list[str],
        typer.Argument(metavar="IMAGE...", help="files, folders, or patterns in quotes, such as 'photos/*.jpg'"),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", parser=_folder, metavar="FILE", help="a new .csv or .jsonl; default: shown, and kept nowhere"
        ),
    ] = None,
    top_k: Annotated[int, typer.Option("--top-k", min=1, help="the likeliest classes, so many of them")] = 1,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="with --out: those of all classes too")
    ] = False,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="images in memory at a time")] = 64,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")] = "auto",
) -> None:
    """Classify images with the model of a run. Those that cannot be read are named, and stop nothing."""
    from figment.images_in.unreadable import named
    from figment.predict import Predictor, best, images_of, writing

    if probabilities and out is None:
        raise FigmentError(
            "--probabilities are many columns: give them a file, --out predictions.csv or predictions.jsonl."
        )
    paths = images_of(images)
    predictor = Predictor(folder, device)
    names = predictor.class_names
    errors = {}
    with ExitStack() as stack:
        write = None if out is None else stack.enter_context(writing(out, names, top_k, probabilities))
        for one in predictor(paths, batch_size):
            if one.error:
                errors[one.image] = one.error
            if write is not None:
                write(one)
            elif not one.error:
                said = ", ".join(f"{one_line(name)} {100 * p:.1f} %" for name, p in best(one, names, top_k))
                console.print(f"{printable(one.image)}: {said}", soft_wrap=True)
        if len(errors) == len(paths):
            raise FigmentError(f"Not one of the {len(paths):,} images can be read: {named(errors)}.")
    if errors:
        console.print(
            f"{len(errors):,} of the {len(paths):,} images cannot be read: {named(errors)}",
            style="yellow",
            soft_wrap=True,
        )
    if out is not None:
        console.print(f"Predictions: {out}", soft_wrap=True)


@app.command()
def judge(
    backbone: Annotated[
        str,
        typer.Argument(
            metavar="BACKBONE",
            help="a run's folder, a folder or Hub id of timm's or of a CLIP; with --weights an architecture of timm's",
        ),
    ],
    on: Annotated[
        list[str],
        typer.Option(
            "--on",
            metavar="[EVALUATION=]WHERE",
            help="what to judge it by, and the data set: linear,knn=photos, detection=VOCdevkit; may be repeated",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", parser=_folder, metavar="DIR", help="folder of judge.json; default: runs/judge-<backbone>"
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option("--weights", metavar="FILE", help="the weights of an architecture: .safetensors, .pth"),
    ] = None,
    set: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="FIELD=VALUE", help="a setting of an evaluation, such as few_shot.ways=3; may be repeated"
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="of all chance")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")] = "auto",
    dtype: Annotated[str, typer.Option(help="of frozen features; auto: float16 on a GPU, else float32")] = "auto",
) -> None:
    """Say what a backbone is good for: linear probe, neighbours, few shots, detection, segmentation and more."""
    from figment.judging.backbone import open_backbone
    from figment.judging.judge import FILE, judge_backbone

    folder = out or _judged_folder(backbone, weights)
    judged = judge_backbone(open_backbone(backbone, weights, device, dtype), on, folder, set or [], seed)
    table = Table(box=None, pad_edge=False)
    for heading in ("evaluation", "on", "", "", "tested", "took"):
        table.add_column(heading, no_wrap=heading != "on", overflow="fold")
    for one in judged:
        for i, (name, value) in enumerate(one.numbers.values.items()):
            shown = f"{100 * value:.1f} %"
            if (ci := one.numbers.ci.get(name)) is not None:
                shown += f" ({100 * ci[0]:.1f} to {100 * ci[1]:.1f})"
            first = (one.evaluation, one.on, f"{one.numbers.n:,}", f"{one.seconds:.0f} s") if i == 0 else ("",) * 4
            table.add_row(first[0], Text(printable(first[1])), name, shown, *first[2:])
    console.print(table)
    console.print(f"\nIn brackets: 95 % intervals. All of it: {folder / FILE}", soft_wrap=True)


def _judged_folder(backbone: str, weights: Path | None) -> Path:
    """Another one for other weights of the same architecture."""
    named = backbone if weights is None else f"{backbone} {weights.with_suffix('')}"
    return Path("runs") / f"judge-{_slug(named) or 'backbone'}"


def _slug(name: str) -> str:
    return "-".join("".join(c if c.isalnum() else " " for c in name).split())[-60:]


@app.command()
def worth(
    context: typer.Context,
    synthetic: Annotated[
        list[str],
        typer.Option(
            "--synthetic", metavar="WHERE", help="labelled images, made by whatever made them; may be repeated"
        ),
    ],
    real: Annotated[
        str,
        typer.Option(
            "--real", metavar="WHERE", help="real images with their splits, such as photos/ with train/ and test/"
        ),
    ],
    encoder: Annotated[
        str | None,
        typer.Option("--encoder", metavar="CLIP", help="what sees both sides: starter/clip, a folder, a Hub id"),
    ] = None,
    network: Annotated[
        str | None,
        typer.Option("--network", metavar="NAME", help="learn from pixels with this network of timm, or small_cnn"),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option("--task", metavar="NAME", help="a built-in task whose classes these are; see figment tasks"),
    ] = None,
    test_share: Annotated[
        float | None,
        typer.Option(
            "--test-share",
            metavar="SHARE",
            help="split --real, which nobody has: test on this share, as figment check does",
        ),
    ] = None,
    out: Out = None,
    set: Set = None,
) -> None:
    """Say what a set of images from elsewhere is worth: beside real ones, alone, against placebos, in photographs."""
    from figment.report.worth import as_table
    from figment.studies.worth import ask, run_worth

    asked = ask(real, synthetic, encoder, network=network, task=task, test_share=test_share, changes=set or [])
    folder = out or Path("runs") / f"worth-{_slug('-'.join(asked.recipes))}"
    found = run_worth(asked, folder)
    _print_table(as_table(found), folder, "worth.html")
    for line in found.said:
        console.print(printable(line), soft_wrap=True, markup=False)
    console.print(f"Took {time.monotonic() - context.obj:.0f} s.")


@app.command()
def tasks() -> None:
    """List the built-in tasks: how many classes, and the sentence that names one."""
    from figment.task import builtin_names, load_task

    table = Table("task", "classes", "sentence", box=None, pad_edge=False)
    for name in builtin_names():
        task = load_task(name)
        table.add_row(name, f"{len(task.class_names):,}", task.templates[0])
    console.print(table)
    console.print(
        "\nUse one by its name, task: pets, and say where its images are: --set task.real.test=DIR", soft_wrap=True
    )


@app.command()
def doctor(
    recipe: Annotated[
        Path | None,
        typer.Argument(
            parser=_folder,
            metavar="[RECIPE]",
            help="a YAML recipe, or the folder of an earlier run: say what it would fetch, with sizes and licences",
        ),
    ] = None,
    set: Set = None,
    variant: Variant = None,
) -> None:
    """Say what this machine can do and what is missing; of a RECIPE, what it would fetch."""
    from figment.doctor import examine

    if recipe is None:
        findings = examine()
        table = Table.grid(padding=(0, 2))
        for finding in findings:
            table.add_row(finding.subject, _state(finding), Text(printable(finding.text)))
        console.print(table)
    else:
        from figment.fetches import examine_recipe
        from figment.recipe import load_recipe

        findings = examine_recipe(load_recipe(recipe, set or [], variant))
        for finding in findings:  # in whole lines: names and addresses are long, and to be copied
            console.print(Text.assemble(_state(finding), " ", printable(finding.subject)), soft_wrap=True)
            console.print(f"  {printable(finding.text)}", soft_wrap=True, markup=False, highlight=False)
    if any(f.state == "missing" for f in findings):
        raise typer.Exit(1)


def _state(finding: Finding) -> Text:
    return Text(finding.state, style={"ok": "green", "note": "yellow", "missing": "red"}[finding.state])


def _default_out(recipe: Path, variant: str | None = None) -> Path:
    """``runs/<recipe>``; the recipe of an earlier run goes on in that run's folder."""
    from figment.claims import is_ours

    if recipe.is_dir():
        return recipe
    if recipe.name in ("recipe.yaml", "resolved.yaml") and is_ours(recipe.parent):
        return recipe.parent
    return Path("runs") / (recipe.stem if variant is None else f"{recipe.stem}-{variant}")


def _run(recipe: Recipe, folder: Path, began: float, engine: Engine | None = None, allow_plugins: bool = False) -> None:
    from figment.studies.arms import run_arms

    run_arms(recipe, folder, engine, allow_plugins=allow_plugins)
    console.print()
    _print_results(folder)
    console.print(f"Took {time.monotonic() - began:.0f} s.")


def _run_table(recipe: Recipe, folder: Path, engine: Engine, dry_run: bool, allow_plugins: bool) -> None:
    from figment.studies.table import forecast_table, run_table

    if dry_run:
        said = forecast_table(recipe, folder, allow_plugins=allow_plugins)
        console.print(said, soft_wrap=True, markup=False)
        console.print("Nothing was written.")
        return
    command = shlex.join(["figment", *sys.argv[1:]])
    page = run_table(recipe, folder, engine, command, allow_plugins=allow_plugins)
    _print_table(page, folder)
    console.print(f"Took {page.seconds:.0f} s.")


def _print_table(page: TablePage, folder: Path, report: str = "report.html") -> None:
    """The rows and columns, the printed ones below, and what became of the orderings."""
    from figment.layout import Study
    from figment.report.table import conclusion
    from figment.report.text import NOTHING

    table = Table(title=Text(f"\n{one_line(page.title)}"), title_justify="left")
    for name in ("", *page.columns):
        table.add_column(Text(printable(name)), justify="right" if name else "left", overflow="fold")
    for row in page.rows:
        cells = [(column, page.cells.get((row, column))) for column in page.columns]
        shown = [
            NOTHING if cell is None else f"{page.value(c, cell.value)} ({page.interval(c, cell.ci)})"
            for c, cell in cells
        ]
        table.add_row(Text(printable(row)), *shown)
    for printed in page.printed:
        shown = [f"{printed.values[c]:g}" if c in printed.values else "–" for c in page.columns]
        table.add_row(Text(f"printed: {printable(printed.row)}"), *shown, style="dim")
    console.print(table)
    for note in dict.fromkeys(cell.note for cell in page.cells.values() if cell.note):
        console.print(note, soft_wrap=True, markup=False)
    if page.answer is not None:
        for line in (page.answer.headline, *page.answer.sentences):
            console.print(printable(line), soft_wrap=True, markup=False)
    if page.answer is None or page.orderings:
        console.print(conclusion(page), soft_wrap=True, markup=False)
    if (best := Study(folder).best).is_file():
        console.print(f"\nThe best settings, to be run as they are: figment run {best}", soft_wrap=True)
    console.print(f"\nReport: {folder / report}", soft_wrap=True)


def _print_results(folder: Path) -> None:
    """The table of arms, the verdict, and where the rest is."""
    from figment.report.folder import report_of
    from figment.report.text import interval, percent, points_interval, test_images

    page = report_of(folder)
    if page.arms:
        table = Table(title=f"{test_images(page.arms[0].result)}, 95 % intervals", title_justify="left")
        table.add_column("classifier", overflow="fold")
        table.add_column("top-1", justify="right", no_wrap=True)
        if page.baseline:
            table.add_column("gain in points", justify="right", no_wrap=True)
        judged = any(arm.verdict for arm in page.arms)
        if judged:
            table.add_column("verdict", overflow="fold")
        for arm in page.arms:
            gain = "" if arm.difference is None else points_interval(arm.difference).replace(" points", "")
            cells = [(gain, page.baseline), (arm.verdict, judged)]
            table.add_row(arm.name, interval(arm.result), *(cell for cell, there in cells if there))
        console.print(table)
        means = [f"{arm.name} {percent(arm.over_classes)}" for arm in page.arms if arm.over_classes is not None]
        if means:
            console.print(f"mean over classes: {', '.join(means)}", soft_wrap=True)
    for number in (n for n in page.also if not n.quiet):
        console.print(f"{number.title}: {number.value}", soft_wrap=True)
    own = page.verdict
    if own.lesson:
        console.print(f"\nWhat to learn: {own.lesson}", soft_wrap=True)
    console.print(f"\nVerdict: {own.word}. {own.sentence[:1].upper()}{own.sentence[1:]}")
    ledger = " | ".join(f"{what} {share}" for what, share in own.ledger)
    levers = [f"Try next: {lever}" for lever in own.next]
    missing = [page.missing.get(part, "") for part in ("exchange", "arms")]
    for line in (ledger, *own.notes, *levers, own.exchange, own.cost, *missing):
        if line:
            console.print(line)
    console.print(
        f"\nReport: {folder / 'report.html'}\nImages: {folder / 'images'}  (datasets.load_dataset opens it)",
        soft_wrap=True,
    )


def _print_forecast(recipe: Recipe, folder: Path, effect: float | None, allow_plugins: bool) -> None:
    from figment.report.planned import planned
    from figment.studies.arms import forecast_arms

    plan = planned(folder)
    takes = [] if effect is None else [plan.takes(effect / 100)]  # a wrong number is told before anything is timed
    if effect is not None and recipe.prices is not None and (n := plan.images(effect / 100)) is not None:
        takes.append(f"So many test images: {recipe.prices.labelling(n)}.")
    for name, own in forecast_arms(recipe, folder, allow_plugins=allow_plugins).items():
        console.print(name, style="bold")
        for line in own.text:
            console.print(f"  {line}", soft_wrap=True)
    for line in takes:
        console.print(line, soft_wrap=True)
    console.print("Nothing was written.")


def main() -> None:
    """Entry point: a user's mistake prints one paragraph and exits with 2; an interrupted run can be gone on with."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not every terminal has every character of a class name
            stream.reconfigure(errors="backslashreplace")
    try:
        with _logged():
            _call_app()
    except OSError as error:  # the system's refusal of something nobody foresaw, such as a full disk behind stdout
        where = "" if error.filename is None else f" ({printable(str(error.filename))[:300]})"
        with suppress(OSError):
            print(f"Error: {error.strerror or error}{where}. What was finished is safe.", file=sys.stderr, flush=True)
        if not where:  # what could not be printed is still in the buffer, and would be tried once more
            silence(sys.stdout)
        sys.exit(2)


@contextmanager
def _logged() -> Iterator[None]:
    """The terminal shows what the library logs."""
    logger, handler = logging.getLogger("figment"), ConsoleHandler(logging.INFO)
    if any(isinstance(other, ConsoleHandler) for other in logger.handlers):
        yield  # whoever calls the command line from Python shows it already
        return
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(min(logging.INFO, level or logging.INFO))
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def _call_app() -> None:
    try:
        app()
    except FigmentError as error:
        console.print(f"Error: {printable(str(error))}", style="red", soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        console.print("\nInterrupted. What was finished is safe; the same command goes on from there.")
        sys.exit(130)


if __name__ == "__main__":
    main()

"""The commands to begin with: ``init``, ``check``, ``doctor`` and ``tasks``."""

from __future__ import annotations

import os
import shlex
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from figment.cli.options import Set, Variant, path_of
from figment.errors import FigmentError
from figment.progress import console
from figment.words import one_line, printable

if TYPE_CHECKING:
    from figment.checking.check import Checked
    from figment.doctor import Finding

MOST_CLASSES = 20  # shown one by one

Real = Annotated[
    list[str],
    typer.Argument(
        metavar="REAL...",
        help="photographs: train=DIR test=DIR, a folder that holds both, one place that nobody has split, or a recipe",
    ),
]
JsonFile = Annotated[
    Path | None, typer.Option("--json", parser=path_of, metavar="FILE", help="write all of it there, and the split")
]


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


def check(
    real: Real,
    variant: Variant = None,
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
    json_file: JsonFile = None,
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
    found = check_real(
        real,
        limits,
        variant=variant,
        test_share=test_share,
        val_share=val_share,
        split_seed=split_seed,
        encoder=encoder,
    )
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


def doctor(
    recipe: Annotated[
        Path | None,
        typer.Argument(
            parser=path_of,
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

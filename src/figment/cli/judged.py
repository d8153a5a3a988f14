"""The commands that judge: runs beside one another (``compare``), a backbone (``judge``), images from elsewhere (``worth``)."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from figment.cli.options import Out, Set, path_of
from figment.cli.show import print_table
from figment.progress import console
from figment.words import one_line, printable

MOST_PAIRS = 40  # shown


def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(parser=path_of, metavar="RUN...", help="folders of finished runs; an arm or a cell is one too"),
    ],
    metric: Annotated[str, typer.Option(metavar="NAME", help="which accuracy")] = "top1/synthetic",
    against: Annotated[
        Path | None,
        typer.Option(
            parser=path_of, metavar="RUN", help="compare each with this one alone: fewer pairs, more of them sure"
        ),
    ] = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", parser=path_of, metavar="FILE", help="write a line a pair there")
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", parser=path_of, metavar="FILE", help="write a page there")
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
    for pair in found.pairs[:MOST_PAIRS]:
        console.print(printable(comparison.sentence(found, pair)), soft_wrap=True, markup=False)
    if len(found.pairs) > MOST_PAIRS:
        console.print(f"... and {len(found.pairs) - MOST_PAIRS:,} more pairs (--csv writes all)")
    console.print(f"\n{comparison.summary(found)}.", soft_wrap=True)
    if csv is not None:
        comparison.write_csv(found, csv)
    if html is not None:
        table.write(comparison.page(found), html)


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
            "--out",
            parser=path_of,
            metavar="DIR",
            help="folder of judge.html and judge.json, which keep what was judged before; default: runs/judge-<backbone>",
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
    from figment.judging.judge import judge_backbone
    from figment.judging.record import PAGE

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
    console.print(f"\nIn brackets: 95 % intervals. All that was judged so far: {folder / PAGE}", soft_wrap=True)


def _judged_folder(backbone: str, weights: Path | None) -> Path:
    """Another one for other weights of the same architecture."""
    named = backbone if weights is None else f"{backbone} {weights.with_suffix('')}"
    return Path("runs") / f"judge-{_slug(named) or 'backbone'}"


def _slug(name: str) -> str:
    return "-".join("".join(c if c.isalnum() else " " for c in name).split())[-60:]


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
    print_table(as_table(found), folder, "worth.html")
    for line in found.said:
        console.print(printable(line), soft_wrap=True, markup=False)
    console.print(f"Took {time.monotonic() - context.obj:.0f} s.")

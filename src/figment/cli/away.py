"""The commands that take a run elsewhere: ``export`` and ``predict``."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from figment.cli.options import Folder, path_of
from figment.errors import FigmentError
from figment.progress import console
from figment.words import one_line, printable

if TYPE_CHECKING:
    from figment.exports.models.export import ExportedModel


def export(
    folder: Folder,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="FORMAT",
            help="of images: imagefolder, webdataset, csv, parquet, coco or ultralytics; of the model: onnx, safetensors, timm or transformers",
        ),
    ],
    out: Annotated[str | None, typer.Option("--out", metavar="WHERE", help="a new folder")] = None,
    push: Annotated[
        str | None,
        typer.Option(
            "--push",
            metavar="OWNER/NAME",
            help="a new repository on the Hugging Face Hub, in the place of --out: the model, or images as --to parquet",
        ),
    ] = None,
    all: Annotated[bool, typer.Option("--all", help="also the images that the filters rejected")] = False,
    public: Annotated[bool, typer.Option("--public", help="what is pushed, for everybody to see")] = False,
    sign: Annotated[
        tuple[str, str] | None,
        typer.Option(
            "--sign", metavar="CERT.pem KEY.pem", help="content credentials (C2PA) in every image, by this certificate"
        ),
    ] = None,
) -> None:
    """Write the kept images of a run, or its trained model, in another format. The same command again finishes what was interrupted."""
    from figment.exports.export import export as export_images
    from figment.exports.models.export import export_model
    from figment.exports.models.export import formats as of_models

    if to in of_models():
        if all or sign is not None:
            raise FigmentError(
                f"--to {to} writes the trained model, and --all and --sign are of images. Leave them out."
            )
        _print_model(export_model(folder, to, out, push=push, public=public), pushed=push is not None)
        return
    done = export_images(folder, to, out, push=push, rejected=all, public=public, sign=sign)
    table = Table("class", "images", box=None, pad_edge=False)
    for name, n in list(done.counts.items())[:20]:
        table.add_row(Text(one_line(name)[:60]), f"{n:,}")
    if len(done.counts) > 20:
        table.add_row(f"... and {len(done.counts) - 20:,} more classes", "")
    console.print(table)
    rest = f"; {done.left_out:,} rejected ones left out (--all includes them)" if done.left_out else ""
    console.print(f"{sum(done.counts.values()):,} images{rest}")
    console.print(f"{'Exported to' if done.written else 'All of it was there already:'} {done.where}", soft_wrap=True)


def _print_model(done: ExportedModel, pushed: bool) -> None:
    agreement = done.agreement
    console.print(
        f"A classifier of {len(done.class_names):,} classes, compared with figment's own predictions on {agreement.images:,} images:"
        f" no probability differs by more than {max(agreement.same_pixels, agreement.resized):.1g}.",
        soft_wrap=True,
    )
    console.print(f"{'Exported to' if done.written else 'All of it was there already:'} {done.where}", soft_wrap=True)
    card = done.where if pushed else f"{done.where.rstrip('/')}/README.md"
    console.print(f"How it is opened without figment: {card}", soft_wrap=True)


def predict(
    folder: Folder,
    images: Annotated[
        list[str],
        typer.Argument(metavar="IMAGE...", help="files, folders, or patterns in quotes, such as 'photos/*.jpg'"),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", parser=path_of, metavar="FILE", help="a new .csv or .jsonl; default: shown, and kept nowhere"
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
            which = "The one image cannot" if len(paths) == 1 else f"Not one of the {len(paths):,} images can"
            raise FigmentError(f"{which} be read: {named(errors)}.")
    if errors:
        console.print(
            f"{len(errors):,} of the {len(paths):,} images cannot be read: {named(errors)}",
            style="yellow",
            soft_wrap=True,
        )
    if out is not None:
        console.print(f"Predictions: {out}", soft_wrap=True)

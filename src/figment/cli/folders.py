"""The commands on the folder of a run: ``status``, ``verify``, ``repair``, ``look`` and ``report``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from figment.cli.options import Address, AllowPlugins, EngineName, Folder, Gpus, Workers, make_engine, path_of
from figment.cli.show import print_results, print_table
from figment.progress import console
from figment.words import printable

MOST_FINDINGS = 40  # shown


def status(folder: Folder) -> None:
    """Show how far a run is, and whether it is running."""
    from figment.status import status as status_of

    table = Table("stage", "state", "what", box=None, pad_edge=False)
    for stage in status_of(folder):
        table.add_row(Text(printable(stage.name)), stage.state, Text(printable(stage.text)))
    console.print(table)


def verify(
    folder: Annotated[Path, typer.Argument(parser=path_of, metavar="DIR", help="folder of a run, or of images alone")],
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


def report(folder: Folder) -> None:
    """Write report.html again and print the results."""
    from figment.layout import Run
    from figment.stages.report import write_report
    from figment.studies.table import read_table, write_page

    if Run(folder).kind == "table":
        own = read_table(folder)
        write_page(own, folder)
        print_table(own, folder)
        return
    write_report(Run(folder))
    print_results(folder)

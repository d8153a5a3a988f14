"""The command line: parse, call, print. A file holds a few commands of a kind; what they need is imported where it is needed."""

from __future__ import annotations

import io
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Annotated

import typer

from figment.cli.away import export, predict
from figment.cli.begin import check, doctor, init, tasks
from figment.cli.folders import look, repair, report, status, verify
from figment.cli.images import generate, pilot
from figment.cli.judged import compare, judge, worth
from figment.cli.runs import demo, run
from figment.errors import FigmentError
from figment.progress import ConsoleHandler, console, silence
from figment.words import printable

#: In the order in which ``figment --help`` lists them.
COMMANDS: tuple[Callable[..., None], ...] = (
    demo,
    init,
    run,
    check,
    pilot,
    generate,
    status,
    verify,
    repair,
    look,
    report,
    compare,
    export,
    predict,
    judge,
    worth,
    tasks,
    doctor,
)

app = typer.Typer(
    help="Can generated images stand in for the photographs you do not have? Class names in; labelled images, a tested classifier and an honest report out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in COMMANDS:
    app.command()(command)


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

"""Progress of a long loop: a live bar with rate and time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from figment.words import printable


class _PlainConsole(Console):
    """Prints names from outside as text: neither markup nor a terminal's control sequences."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text), **options)

    def on_broken_pipe(self) -> None:
        """Whoever read along has gone, as ``head`` does. Nothing more is printed, and the work goes on to its report."""
        self.quiet = True
        silence(sys.stdout)


def silence(stream: TextIO) -> None:
    """What is printed from now on goes nowhere, as does what is still in the stream's buffer."""
    with suppress(OSError, ValueError):  # some streams are no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


#: Class names and paths are printed, so nothing printed is read as markup.
console = _PlainConsole(highlight=False, markup=False, emoji=False)


class ConsoleHandler(logging.Handler):
    """Shows what the library logs as the command line shows the rest: indented below what is being done, warnings in yellow."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            heading = getattr(record, "heading", False)  # of what the lines after it are about
            style = "bold" if heading else "yellow" if record.levelno >= logging.WARNING else None
            console.print(("" if heading else "  ") + record.getMessage(), style=style, soft_wrap=True)
        except Exception:
            self.handleError(record)


class _Rate(ProgressColumn):
    """Units a second, such as ``41.3 images/s``."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f} {task.fields['unit']}/s", style="cyan")


class Advance:
    """Call it with the number of units just done."""

    def __init__(self, description: str, total: int, unit: str, bar: Progress | None):
        self.description, self.total, self.unit, self.bar = description, total, unit, bar
        self.done, self.started, self.last_line = 0, time.monotonic(), time.monotonic()
        self.row = None if bar is None else bar.add_task(description, total=total, unit=unit)

    def __call__(self, n: int = 1) -> None:
        self.done += n
        if self.bar is not None and self.row is not None:
            self.bar.advance(self.row, n)
        elif time.monotonic() - self.last_line > 15 and self.done < self.total:
            self.last_line = time.monotonic()
            rate = self.done / (self.last_line - self.started)
            left = (self.total - self.done) / max(rate, 1e-9)
            console.print(
                f"  {self.description}: {self.done:,} of {self.total:,}, {rate:.1f} {self.unit}/s, {left:.0f} s left"
            )


@contextmanager
def progress(description: str, total: int, unit: str = "images") -> Iterator[Advance]:
    """``with progress("generate", 2000) as advance: ... advance(64)``."""
    if console.is_terminal:
        columns = (
            TextColumn("  {task.description:<18}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console, transient=True) as bar:
            advance = Advance(description, total, unit, bar)
            yield advance
    else:
        advance = Advance(description, total, unit, None)
        yield advance
    seconds = time.monotonic() - advance.started
    if advance.done:
        rate = advance.done / max(seconds, 1e-9)
        console.print(f"  {description}: {advance.done:,} {unit} in {seconds:.1f} s ({rate:.1f} {unit}/s)")

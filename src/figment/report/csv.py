"""The measured numbers of a run as a table for spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from figment import files, measures
from figment.types import Result
from figment.words import spreadsheet

COLUMNS = ("metric", "title", "value", "low", "high", "n", "unit", "seeds")


def write_results(results: Mapping[str, Result], path: Path) -> None:
    """A line for each result, with its 95 % interval from ``low`` to ``high``.

    Values are those of ``results.jsonl``: shares and their differences are not in per cent; ``inf`` is more than was measured.
    Texts that a spreadsheet would take for a formula begin with an apostrophe.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for result in results.values():
        shown = measures.known(result.metric)
        seeds = " ".join(map(str, result.seeds))
        words = [spreadsheet(result.metric), spreadsheet(shown.title)]
        writer.writerow([*words, result.value, *result.ci, result.n, spreadsheet(shown.unit), spreadsheet(seeds)])
    files.write_atomic(path, text.getvalue().encode())

"""Finished runs beside one another: which are better on the same test images, allowing for how many are compared."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Literal

import numpy as np

from figment import files, measures, records
from figment.errors import FigmentError, nearest
from figment.evaluate.holm import holm
from figment.evaluate.kind import Difference, difference
from figment.layout import Run
from figment.report.answers import OWN
from figment.report.results import Answers, answers_of, latest_results
from figment.report.table import Cell, TablePage
from figment.report.text import interval, points, signed
from figment.types import Result
from figment.words import spreadsheet

LEVEL = 0.05  # two-sided, of all pairs together
Word = Literal["better", "worse", "no evidence", "not compared"]
COLUMNS = (
    "run",
    "than",
    "metric",
    "value",
    "value_than",
    "difference",
    "low",
    "high",
    "p",
    "verdict",
    "n",
    "allows_for",
)


@dataclass(frozen=True)
class Compared:
    """One run: its result, and what of each test image is right, float (n,). ``test`` is the same for the same images in the same order.
    ``orders``, int (n,) each, by keys of which runs on the same images share one, whatever order they had; none where older runs do not tell.
    ``spread``: the standard error of what else than the test images it might have been, and of how many draws that is; ``allows_for`` says what."""

    name: str
    result: Result
    test: str
    orders: Mapping[str, np.ndarray]
    right: np.ndarray
    groups: np.ndarray | None
    spread: tuple[tuple[float, int], ...]
    allows_for: str


@dataclass(frozen=True)
class Pair:
    """``own`` against ``than``, positions of runs. ``difference`` is positive where ``own`` is better, and None where they were not tested
    on the same images; ``p`` is two-sided."""

    own: int
    than: int
    difference: Difference | None = None
    p: float = math.nan
    word: Word = "not compared"


@dataclass(frozen=True)
class Comparison:
    """The runs by accuracy, the best first, and the pairs, those that differ most surely first."""

    metric: str
    runs: list[Compared]
    pairs: list[Pair]

    @property
    def n_tested(self) -> int:
        """Pairs that were compared."""
        return sum(pair.difference is not None for pair in self.pairs)


def compare(folders: Sequence[Path], metric: str = OWN, against: Path | None = None) -> Comparison:
    """Compare an accuracy of finished runs in pairs: all of them, or each with the run in ``against``.

    On the same test images, in whatever order and whatever order of classes, image by image (`figment.evaluate.kind.difference`), groups and all. Where runs have a verdict, their
    intervals hold for other generated sets of the same recipes, else for other training seeds where there are several. A pair is
    decided where its p holds among all pairs that were compared (Holm 1979).

    Raises FigmentError for fewer than two runs, runs without that accuracy, and where no two have the same test images.
    """
    folders = list(dict.fromkeys([*folders, *([] if against is None else [against])]))
    if len(folders) < 2:
        raise FigmentError("figment compare wants two runs or more: figment compare runs/a runs/b")
    names = _names(folders)
    base = None if against is None else names[folders.index(against)]
    runs = sorted((_run(*one, metric) for one in zip(folders, names, strict=True)), key=lambda run: -run.result.value)
    pairs = [Pair(i, j) for i, j in combinations(range(len(runs)), 2)]
    if base is not None:
        at = next(i for i, run in enumerate(runs) if run.name == base)
        pairs = [Pair(i, at) for i in range(len(runs)) if i != at]
    judged = _judged(runs, pairs)
    tested = {(pair.own, pair.than) for pair in judged}
    refused = [pair for pair in pairs if (pair.own, pair.than) not in tested]
    if not judged:
        told = ", ".join(f"{run.name} on {run.result.n:,}" for run in runs[:4])
        raise FigmentError(
            f"No two of these runs were tested on the same images ({told}), so none can be compared image by image. Run one of the"
            " recipes again with the test images of the other: --set task.real.test=DIR"
        )
    return Comparison(metric, runs, sorted(judged, key=lambda pair: pair.p) + refused)


def _judged(runs: Sequence[Compared], pairs: Sequence[Pair]) -> list[Pair]:
    """Those of the pairs that were tested on the same images, with what comes of them."""
    found = []
    for pair in pairs:
        own, than = runs[pair.own], runs[pair.than]
        if own.test == than.test:
            mine = theirs = np.arange(len(own.right))
        elif shared := own.orders.keys() & than.orders.keys():
            mine, theirs = next((own.orders[key], than.orders[key]) for key in sorted(shared))
        else:
            continue
        of_groups = ((own.groups, mine), (than.groups, theirs))
        groups = next((numbers[order] for numbers, order in of_groups if numbers is not None), None)
        d = difference(own.right[mine] - than.right[theirs], sets=[*own.spread, *than.spread], groups=groups)
        found.append(Pair(pair.own, pair.than, d, min(1.0, 2 * min(d.p, 1 - d.p))))
    holds = holm([pair.p for pair in found], LEVEL)
    words: list[Word] = [
        "no evidence" if not sure or pair.difference is None else "better" if pair.difference.centre > 0 else "worse"
        for pair, sure in zip(found, holds, strict=True)
    ]
    return [Pair(pair.own, pair.than, pair.difference, pair.p, word) for pair, word in zip(found, words, strict=True)]


def _run(folder: Path, name: str, metric: str) -> Compared:
    """Read one run. Raises FigmentError where it is not finished, or has no such accuracy."""
    results = latest_results(folder)
    if not results:
        raise FigmentError(
            f"{folder} holds no results. Give the folder of a finished run, or of an arm; figment status {folder} says how far it is."
        )
    there = [known for known in results if known.startswith(("top1/", "top5/"))]
    if metric not in there:
        raise FigmentError(
            f"{folder} has no accuracy {metric[:60]!r}.{nearest(metric, there)} It has: {', '.join(there) or 'none'}."
        )
    answers, result = answers_of(folder, metric), results[metric]
    if answers.right is None:
        raise FigmentError(
            f"{folder} keeps no predictions of {metric}, so they cannot be compared image by image. Choose another --metric."
        )
    orders = dict(_orders(answers, list(result.details.get("classes", ()))))
    spread, allows_for = _spread(results, metric)
    return Compared(name, result, _test_of(folder), orders, answers.right, answers.groups, spread, allows_for)


def _orders(answers: Answers, class_names: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
    """The test images in the order of their content and labels, twice: by the numbers of the classes, and by their names, whose order may
    be another in another run."""
    if answers.images is None or answers.labels is None:
        return
    ways = [np.char.mod(" is %d", answers.labels)]
    if class_names:
        ways.append(np.array([f" is called {name}" for name in class_names])[answers.labels])
    for of_class in ways:
        images = np.char.add(answers.images, of_class)
        order = np.argsort(images, kind="stable")
        yield records.fingerprint(images[order].tolist()), order


def _test_of(folder: Path) -> str:
    """What is the same for runs that were tested on the same images in the same order: by their content, and by their labels."""
    told = records.read(folder).data.get("inputs", {}).get("test")
    if told:
        return str(told)
    rows = files.open_parquet(Run(folder).predictions).read(columns=["id", "label"])  # of an older version
    return records.fingerprint([rows["id"].to_pylist(), rows["label"].to_pylist()])


def _spread(results: dict[str, Result], metric: str) -> tuple[tuple[tuple[float, int], ...], str]:
    """What is known of other sets of the run's recipe, or else of other training seeds."""
    worth = results.get("worth")
    if metric == OWN and worth is not None and (draws := worth.details.get("resamples") or 0) > 1:
        first = next(iter(worth.details["differences"].values()))
        return ((float(first["set_se"]), int(draws)),), "other generated sets"
    seeds = results[metric].details.get("per_seed", [])
    if len(seeds) > 1:
        return ((float(np.std(seeds, ddof=1)) / math.sqrt(len(seeds)), len(seeds)),), "other training seeds"
    return (), "this very classifier"


def _names(folders: Sequence[Path]) -> list[str]:
    """The last part of each folder's path, or all of it where that is not enough."""
    last = [folder.name for folder in folders]
    counts = Counter(last)
    return [name if counts[name] == 1 else str(folder) for name, folder in zip(last, folders, strict=True)]


# ---- shown -----------------------------------------------------------------------------------------------------------


def sentence(comparison: Comparison, pair: Pair) -> str:
    """One pair in words."""
    own, than, d = comparison.runs[pair.own].name, comparison.runs[pair.than].name, pair.difference
    if d is None:
        return f"{own} and {than} were tested on other images, and are not compared"
    said = {"better": "is better than", "worse": "is worse than", "no evidence": "and", "not compared": ""}[pair.word]
    end = ": no evidence of a difference" if pair.word == "no evidence" else ""
    return f"{own} {said} {than}{end}, {points(d.value)} ({signed(d.ci[0])} to {signed(d.ci[1])}; p {pair.p:.2g})"


def summary(comparison: Comparison) -> str:
    """How many pairs were compared and what was decided."""
    n, decided = comparison.n_tested, sum(pair.word in ("better", "worse") for pair in comparison.pairs)
    left = len(comparison.pairs) - n
    text = f"{n:,} pair{'s' * (n != 1)} compared image by image, of which {decided:,} differ{'s' * (decided == 1)} for sure"
    text += (
        f" among so many (Holm, at {100 * LEVEL:g} % in all); intervals are of 95 %, each for itself" if n > 1 else ""
    )
    return text + (f". {left:,} not compared: the test images are others" if left else "")


def write_csv(comparison: Comparison, path: Path) -> None:
    """A line a pair; shares are not in per cent. Texts that a spreadsheet would take for a formula begin with an apostrophe."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for pair in comparison.pairs:
        own, than, d = comparison.runs[pair.own], comparison.runs[pair.than], pair.difference
        numbers = ("", "", "", "") if d is None else (d.value, *d.ci, pair.p)
        words = [spreadsheet(word) for word in (own.name, than.name, comparison.metric)]
        allowed = "; ".join(dict.fromkeys([own.allows_for, than.allows_for]))
        writer.writerow([*words, own.result.value, than.result.value, *numbers, pair.word, own.result.n, allowed])
    files.write_atomic(path, text.getvalue().encode())


def page(comparison: Comparison) -> TablePage:
    """The same as one page of HTML: `figment.report.table.write`."""
    title = measures.known(comparison.metric).title
    results = {(run.name, title): run.result for run in comparison.runs}
    return TablePage(
        title="Runs compared",
        caption=f"{summary(comparison)}.",
        row_header="run",
        rows=[run.name for run in comparison.runs],
        columns=[title],
        cells={key: Cell(r.value, r.ci, tuple(r.details.get("per_seed", ())), r.n) for key, r in results.items()},
        notes=[f"{sentence(comparison, pair)}." for pair in comparison.pairs],
    )


def rows(comparison: Comparison) -> Iterator[tuple[str, ...]]:
    """Of each run: its name, its accuracy, on how many images, and what the interval of a difference allows for."""
    for run in comparison.runs:
        yield run.name, interval(run.result), f"{run.result.n:,}", run.allows_for

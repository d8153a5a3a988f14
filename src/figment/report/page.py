"""What the report page shows, and the page itself.

Fill a ``Report`` and ``write`` it. Every part but the title may be missing: its section then disappears, or says why in one line
if ``Report.missing`` has a reason under the part's name. Class names, prompts, reasons and paths are data from outside: the
template escapes them all, and long ones are cut on display.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import jinja2
import numpy as np
from markupsafe import Markup
from PIL import Image

from figment import files, png, words
from figment.report import charts, text
from figment.types import Result

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_CLASS_ROWS = 40  # of the charts with one row a class
MAX_PAIRS = 15

# field of Report: name in the page's list of contents, in the order of the page
SECTIONS = {
    "question": "Question",
    "arms": "Results",
    "curve": "Worth",
    "also": "Also measured",
    "caveats": "Caveats",
    "comparison": "Classes",
    "kept": "Kept",
    "rejected": "Rejected",
    "counts": "Counts",
    "history": "Training",
    "command": "Reproduce",
    "settings": "Settings",
    "provenance": "Provenance",
}


@dataclass(frozen=True)
class Conclusion:
    """The answer. ``difference`` is what the word rests on (accuracy gained over the baseline, a share of one, with its interval);
    ``exchange`` is the sentence with the exchange rate. Without one, ``Report.missing["exchange"]`` may say why."""

    word: str  # of figment.evaluate.verdict.Word, or "not measured", "not judged"
    sentence: str
    difference: Result | None = None
    exchange: str = ""
    against: str = "zero-shot"  # what the difference is measured against
    ledger: Sequence[tuple[str, str]] = ()  # (what, its accuracy as written), from guessing to all real images
    notes: Sequence[str] = ()  # what to bear in mind with the word, a sentence or two each
    next: Sequence[str] = ()  # what to try next
    cost: str = ""  # what generating cost, and labelling would
    lesson: str = ""  # what the study teaches whose run this is, in two sentences


NOT_MEASURED = Conclusion("not measured", "no real test images")


@dataclass(frozen=True)
class Arm:
    """One way of making a classifier, and how well it does. ``what`` describes it in a few words; ``difference`` is its paired
    difference to the baseline arm, None for the baseline itself. ``result.details["per_seed"]``, if there, is drawn as faint dots.
    ``over_classes`` is the mean over classes, where it is not the accuracy itself. ``verdict`` is the word on a recipe's classifier, and
    ``placebo`` the accuracy of the same images with shuffled labels, that it has to beat."""

    name: str
    what: str
    result: Result
    difference: Result | None = None
    over_classes: float | None = None
    verdict: str = ""
    placebo: float | None = None


@dataclass(frozen=True)
class Number:
    """A measured number that is no arm: its name, its value with unit and interval, ``n``, what it is of, and what it says."""

    title: str
    value: str
    n: int
    what: str = ""
    explains: str = ""
    quiet: bool = False  # nothing was found, which the page says and a terminal need not


@dataclass(frozen=True)
class Curve:
    """What the synthetic images are worth in real ones.

    ``real`` holds the accuracy of real images alone at each number of them a class (mean and interval over draws, the draws in
    ``details["per_seed"]``); ``synthetic`` the accuracy to match; ``worth`` the number a class at which they meet, None when they
    do not meet in the measured range; an end of ``worth_ci`` may be 0 or ``math.inf``.
    """

    real: Mapping[int, Result]
    synthetic: Result | None = None
    worth: float | None = None
    worth_ci: tuple[float, float] | None = None


@dataclass(frozen=True)
class Comparison:
    """Two arms class by class, or only where one goes wrong: ``before`` None. Uses their ``per_class`` and ``details["per_class_ci"]`` ({name: [low, high]}), and for the confusion
    matrix ``after.result.details["confusion"]`` (counts, ``[true][predicted]`` in the order of ``class_names``)."""

    before: Arm | None
    after: Arm
    class_names: Sequence[str]


@dataclass(frozen=True)
class Tile:
    """An image of the grids: PNG bytes (see ``thumbnail``), its class and prompt, and a filter's reason and scores if rejected."""

    png: bytes
    label: str
    caption: str = ""
    reason: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Counts:
    """Where the attempted images went: ``attempted`` = ``failed`` + the rejected ones + ``kept``.

    ``rejected`` has (filter, reason, count) rows; ``kept_by_class`` may be empty.
    """

    attempted: int
    failed: int
    rejected: Sequence[tuple[str, str, int]]
    kept: int
    kept_by_class: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Model:
    """A model that had a part in the run: its role (generator, classifier...), name or folder, licence and fingerprint."""

    role: str
    name: str
    licence: str
    fingerprint: str = ""


@dataclass(frozen=True)
class Report:
    """Everything the page shows, in its order.

    Images travel inside the page, so give a few a class: a row holds 11 small ones or 6 of 128 pixels, these about 30 kB each.
    """

    title: str
    verdict: Conclusion = NOT_MEASURED
    question: Sequence[
        tuple[str, str]
    ] = ()  # (label, text): classes, prompts, generator, number of images, filters, test images...
    arms: Sequence[Arm] = ()
    baseline: str = (
        "zero-shot"  # what the arms' differences are measured against; empty where there is nothing to compare with
    )
    curve: Curve | None = None
    also: Sequence[Number] = ()
    caveats: Sequence[str] = ()  # what the numbers do not say, a sentence or two each
    comparison: Comparison | None = None
    kept: Sequence[Tile] = ()
    rejected: Sequence[Tile] = ()
    counts: Counts | None = None
    history: Mapping[str, Sequence[float]] = field(default_factory=dict)  # line name -> loss of each epoch
    command: str = ""  # what to type to make this run again
    python: str = ""  # the same in Python
    settings: str = ""  # the resolved recipe, YAML
    provenance: Sequence[tuple[str, str]] = ()  # (label, text): versions, device, seconds, peak memory, fingerprints
    models: Sequence[Model] = ()
    missing: Mapping[str, str] = field(
        default_factory=dict
    )  # name of a field above, or "exchange" -> a sentence: why it is not there

    def __post_init__(self) -> None:
        unknown = set(self.missing) - set(SECTIONS) - {"exchange"}
        if unknown:
            raise ValueError(f"Report.missing has no part named {sorted(unknown)}; parts are {[*SECTIONS, 'exchange']}")


@dataclass(frozen=True)
class ClassRow:
    """A row of the class-by-class table; accuracies are shares of one."""

    name: str
    before: charts.Mark
    after: charts.Mark
    n: int | None = None  # test images

    @property
    def gain(self) -> float:
        return self.after.value - self.before.value


def thumbnail(image: np.ndarray, max_side: int = 128) -> bytes:
    """PNG bytes of ``uint8 (H, W, 3)``, scaled down so that no side is longer than ``max_side`` pixels; never scaled up."""
    small = Image.fromarray(image)
    small.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    return png.encode(np.asarray(small))


def render(report: Report) -> str:
    """The page as HTML: no script, and nothing loaded from elsewhere."""
    rows = class_rows(report.comparison) if report.comparison else []
    confusion = _confusion(report.comparison) if report.comparison else []
    return (
        templates()
        .get_template("template.html.j2")
        .render(
            report=report,
            sections={name: title for name, title in SECTIONS.items() if _has(report, name)},
            class_rows=rows
            if len(rows) <= MAX_CLASS_ROWS
            else rows[: MAX_CLASS_ROWS // 2] + rows[-MAX_CLASS_ROWS // 2 :],
            n_classes=len(rows),
            confusion=confusion,
            confused=confused_pairs(confusion),
            shelves=_by_label(report.kept),
        )
    )


@cache  # they are compiled when they are first used, which takes longer than to fill them in
def templates() -> jinja2.Environment:
    """The templates of this folder. Every value they show is escaped, and freed of what no page may be sent."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: words.printable(value) if type(value) is str else value,
    )
    environment.filters |= {
        "short": text.shorten,
        "percent": text.percent,
        "signed": text.signed,
        "interval": text.interval,
    }
    environment.filters |= {"thousands": "{:,}".format}
    environment.globals |= {"charts": charts, "text": text, "image": _image, "max_class_rows": MAX_CLASS_ROWS}
    return environment


def write(report: Report, path: Path) -> None:
    """Render to ``path``; a page that was there stays whole until the new one is."""
    files.write_atomic(path, render(report).encode())


def class_rows(comparison: Comparison) -> list[ClassRow]:
    """One row for each class that both arms measured, the largest gain first."""
    if comparison.before is None:
        return []
    before, after = comparison.before.result, comparison.after.result
    names = [name for name in after.per_class if name in before.per_class]
    counts = {name: told["n"] for name, told in after.details.get("classes", {}).items()}
    rows = [
        ClassRow(name, _class_mark(before, name, "before", 33), _class_mark(after, name, "after", 67), counts.get(name))
        for name in names
    ]
    return sorted(rows, key=lambda row: -row.gain)


def confused_pairs(confusion: Sequence[Sequence[float]], most: int = MAX_PAIRS) -> list[tuple[int, int, float, float]]:
    """(true class, predicted class, count (a mean over seeds), share of the true class) of wrong answers, the most frequent first."""
    pairs = [(i, j, n, n / sum(row)) for i, row in enumerate(confusion) for j, n in enumerate(row) if i != j and n]
    return sorted(pairs, key=lambda pair: -pair[2])[:most]


def _has(report: Report, name: str) -> bool:
    beside = {"command": report.python, "provenance": report.models}.get(name)  # parts that share a section
    return bool(getattr(report, name) or beside or name in report.missing)


def _by_label(tiles: Sequence[Tile]) -> dict[str, list[Tile]]:
    shelves: dict[str, list[Tile]] = {}
    for tile in tiles:
        shelves.setdefault(tile.label, []).append(tile)
    return shelves


def _confusion(comparison: Comparison) -> Sequence[Sequence[float]]:
    confusion = comparison.after.result.details.get("confusion", [])
    if len(confusion) and {len(confusion), *map(len, confusion)} != {len(comparison.class_names)}:
        raise ValueError(
            f"the confusion matrix has {len(confusion)} rows, but there are {len(comparison.class_names)} class names"
        )
    return confusion


def _class_mark(result: Result, name: str, kind: str, y: float) -> charts.Mark:
    return charts.Mark(result.per_class[name], result.details.get("per_class_ci", {}).get(name), kind, y)


def _image(tile: Tile) -> Markup:
    """The tile's image, small ones enlarged by a whole number to about 72 pixels with hard edges."""
    if not tile.png.startswith(PNG_SIGNATURE):
        raise ValueError(f"Tile.png must hold PNG bytes; these start with {tile.png[:8]!r}")
    width, height = struct.unpack(">II", tile.png[16:24])
    side = max(width, height)
    zoom = max(1, round(72 / side)) if side <= 64 else min(1.0, 128 / side)
    alt = f"{text.shorten(tile.label)}: {text.shorten(tile.caption, 120)}" if tile.caption else text.shorten(tile.label)
    image = Markup('<img class="{}" src="data:image/png;base64,{}" width="{}" height="{}" alt="{}" title="{}">')
    data = base64.b64encode(tile.png).decode()
    kind = "small" if side <= 64 else "large"
    return image.format(kind, data, max(1, round(width * zoom)), max(1, round(height * zoom)), alt, alt)

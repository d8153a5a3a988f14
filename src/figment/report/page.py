"""What the report page shows, and the page itself.

Fill a ``Report`` and ``write`` it. Every part but the title may be missing: its section then disappears, or says why in one line
if ``Report.missing`` has a reason under the part's name. Class names, prompts, reasons and paths are data from outside: the
template escapes them all, and long ones are cut on display.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal

import jinja2
import numpy as np
from markupsafe import Markup
from PIL import Image

from figment import files, png, words
from figment.report import charts, text
from figment.report.attributes import Asked
from figment.report.classes import (
    EXTREMES,
    MAX_CLASS_ROWS,
    MAX_GROUPS,
    Group,
    Listed,
    alike,
    class_rows,
    confused_pairs,
    groups_of,
    listed,
    together,
)
from figment.types import Result

SMALL_SIDE = 64  # pixels: images up to it are shown with hard edges, and stored as they are
QUALITY = 85  # of the JPEG of larger ones: a tenth of the bytes of a PNG, on a page that travels

# field of Report: name in the page's list of contents, in the order of the page
SECTIONS = {
    "question": "Question",
    "arms": "Results",
    "curve": "Worth",
    "also": "Also measured",
    "caveats": "Caveats",
    "comparison": "Classes",
    "every": "Every class",
    "kept": "Kept",
    "rejected": "Rejected",
    "counts": "Counts",
    "attributes": "Attributes",
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
class Thumbnail:
    """A small image as a page holds it: the file, its format, and its pixels."""

    file: bytes
    format: Literal["png", "jpeg"]
    width: int
    height: int


@dataclass(frozen=True)
class Tile:
    """An image of the grids (see ``thumbnail``), its class and prompt, and a filter's reason and scores if rejected."""

    image: Thumbnail
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

    Images travel inside the page, so give a few a class: a row holds 11 small ones or 6 of 128 pixels, these about 5 kB each.
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
    attributes: Sequence[Asked] = ()
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


def thumbnail(image: np.ndarray, max_side: int = 128) -> Thumbnail:
    """Of ``uint8 (H, W, 3)``, scaled down so that no side is longer than ``max_side`` pixels; never scaled up. A PNG where both sides are
    small, else a JPEG."""
    small = Image.fromarray(image)
    small.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    if max(small.size) <= SMALL_SIDE:
        return Thumbnail(png.encode(np.asarray(small)), "png", *small.size)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=QUALITY)
    return Thumbnail(file.getvalue(), "jpeg", *small.size)


@dataclass(frozen=True)
class _Mistakes:
    """Which classes are taken for which."""

    confusion: np.ndarray  # float (N, N), counts; rows are true classes
    pairs: Sequence[tuple[int, int, float, float]]
    groups: Sequence[Group]
    picture: bytes  # of all classes, those of a group side by side; empty where a matrix with names shows them
    step: int = 1  # classes a point of the picture


def render(report: Report) -> str:
    """The page as HTML, with nothing loaded from elsewhere. One of many classes has a script that searches the list of them; pages
    of few have none."""
    compared = report.comparison
    before = None if compared is None or compared.before is None else compared.before.result
    rows = [] if compared is None else class_rows(before, compared.after.result)
    mistakes = None if compared is None else _mistakes(compared)
    everything = _all_classes(report, mistakes)
    return (
        templates()
        .get_template("template.html.j2")
        .render(
            report=report,
            sections={
                name: title
                for name, title in SECTIONS.items()
                if (everything if name == "every" else _has(report, name))
            },
            class_rows=rows if len(rows) <= MAX_CLASS_ROWS else rows[:EXTREMES] + rows[-EXTREMES:],
            n_classes=len(rows),
            gains=alike({row.name: row.gain for row in rows}) if len(rows) > MAX_CLASS_ROWS else (),
            mistakes=mistakes,
            everything=everything,
            script=Markup(_script()) if everything else "",
            script_hash=_hash(_script()) if everything else "",
            shelves=_by_label(report.kept),
        )
    )


@cache
def _script() -> str:
    return templates().get_template("search.js").render()


def _hash(script: str) -> str:
    """What the page's policy knows its one script by: no other runs, whatever stands on the page."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"


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
    environment.filters |= {"thousands": "{:,}".format, "base64": lambda file: base64.b64encode(file).decode()}
    environment.globals |= {"names_of": lambda classes, names: [names[c] for c in classes]}
    environment.globals |= {"charts": charts, "text": text, "image": _image, "alike": alike}
    environment.globals |= {"max_class_rows": MAX_CLASS_ROWS, "extremes": EXTREMES}
    return environment


def write(report: Report, path: Path) -> None:
    """Render to ``path``; a page that was there stays whole until the new one is."""
    files.write_atomic(path, render(report).encode())


def _has(report: Report, name: str) -> bool:
    beside = {"command": report.python, "provenance": report.models}.get(name)  # parts that share a section
    return bool(getattr(report, name) or beside or name in report.missing)


def _by_label(tiles: Sequence[Tile]) -> dict[str, list[Tile]]:
    shelves: dict[str, list[Tile]] = {}
    for tile in tiles:
        shelves.setdefault(tile.label, []).append(tile)
    return shelves


def _mistakes(comparison: Comparison) -> _Mistakes | None:
    """None where the matrix was not kept."""
    told = comparison.after.result.details.get("confusion", [])
    if not len(told):
        return None
    n = len(comparison.class_names)
    if {len(told), *map(len, told)} != {n}:
        raise ValueError(f"the confusion matrix has {len(told)} rows, but there are {n} class names")
    confusion = np.asarray(told, np.float64)
    if n <= charts.MAX_HEATMAP_CLASSES:
        return _Mistakes(confusion, confused_pairs(confusion), (), b"")
    groups = groups_of(confusion)
    picture = charts.matrix_picture(confusion, together(groups, n))
    return _Mistakes(confusion, confused_pairs(confusion), groups[:MAX_GROUPS], picture, charts.picture_step(n))


def _all_classes(report: Report, mistakes: _Mistakes | None) -> list[Listed]:
    """The list to search in; none where the charts show all classes."""
    compared = report.comparison
    kept = {} if report.counts is None else report.counts.kept_by_class
    names = list(kept) if compared is None else compared.class_names
    if len(names) <= MAX_CLASS_ROWS:
        return []
    before = None if compared is None or compared.before is None else compared.before.result
    after = None if compared is None else compared.after.result
    return listed(names, before, after, None if mistakes is None else mistakes.confusion, kept)


def _image(tile: Tile) -> Markup:
    """The tile's image, small ones enlarged by a whole number to about 72 pixels with hard edges."""
    shown = tile.image
    side = max(shown.width, shown.height)
    zoom = max(1, round(72 / side)) if side <= SMALL_SIDE else min(1.0, 128 / side)
    alt = f"{text.shorten(tile.label)}: {text.shorten(tile.caption, 120)}" if tile.caption else text.shorten(tile.label)
    image = Markup('<img class="{}" src="data:image/{};base64,{}" width="{}" height="{}" alt="{}" title="{}">')
    data, size = base64.b64encode(shown.file).decode(), (max(1, round(x * zoom)) for x in (shown.width, shown.height))
    return image.format("small" if side <= SMALL_SIDE else "large", shown.format, data, *size, alt, alt)

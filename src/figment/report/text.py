"""How numbers and names are written on the page."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator

from figment.evaluate import sentences
from figment.types import Result
from figment.words import one_line

NOTHING = "–"  # what stands where a number is missing or not finite


def number(value: float) -> str:
    """A share of one as a percentage without its unit: 0.784 -> ``78.4``."""
    return f"{100 * value:.1f}" if math.isfinite(value) else NOTHING


def percent(value: float) -> str:
    """0.784 -> ``78.4 %``."""
    return sentences.percent(value) if math.isfinite(value) else NOTHING


def interval(result: Result) -> str:
    """An accuracy and its 95 % interval: ``78.4 % (77.6 to 79.2)``."""
    low, high = result.ci
    return f"{percent(result.value)} ({number(low)} to {number(high)})"


def test_images(result: Result) -> str:
    """What an accuracy was measured on: ``500 real test images``, ``500 real test images in 100 groups``."""
    groups = result.details.get("groups")
    return f"{result.n:,} real test images" + (f" in {groups:,} groups" if groups else "")


def signed(value: float) -> str:
    """A difference of two shares, in percentage points, always with its sign: 0.043 -> ``+4.3``."""
    return sentences.signed(value) if math.isfinite(value) else NOTHING


def points(value: float) -> str:
    """0.043 -> ``+4.3 points``."""
    return f"{signed(value)} points"


def points_interval(result: Result) -> str:
    """A difference and its 95 % interval: ``+4.3 points (+2.9 to +5.7)``."""
    low, high = result.ci
    return f"{points(result.value)} ({signed(low)} to {signed(high)})"


def loss(value: float) -> str:
    """A loss, or any other plain number, with three significant digits: 0.98765 -> ``0.988``."""
    return f"{value:.3g}".replace("-", "−") if math.isfinite(value) else NOTHING


def plain(value: float) -> str:
    """A number with a column of others like it below, so that zeros at the end stay: 0.25 -> ``0.250``."""
    return f"{value:#.3g}".removesuffix(".").replace("-", "−") if math.isfinite(value) else NOTHING


def quantity(value: float) -> str:
    """A number of things, such as images: ``0.5``, ``16``, ``50,000``, ``1.2 M``."""
    return f"{value / 1e6:g} M" if value >= 1e6 else f"{value:,.0f}" if value >= 1e4 else f"{value:g}"


def in_unit(value: float, unit: str) -> str:
    """A measured number as its unit is written, without the unit: ``78.4`` of a share, ``+4.3`` of points, ``0.123``, ``16``."""
    if unit in ("share", "points"):
        return number(value) if unit == "share" else signed(value)
    if math.isinf(value):
        return "∞"
    return quantity(round(value, 1)) if unit == "images a class" else plain(value)


def measured(result: Result, unit: str) -> str:
    """A measured number, its unit, and its 95 % interval: ``0.123 (0.101 to 0.145)``, ``78.4 % (77.6 to 79.2)``."""
    low, high = (in_unit(end, unit) for end in result.ci)
    after = {"share": " %", "points": " points", "images a class": " images a class"}.get(unit, "")
    return f"{in_unit(result.value, unit)}{after} ({low} to {high})"


def count(value: float) -> str:
    """How many images, which may be a mean over seeds: ``1,234``, ``227.7``."""
    return f"{value:,.1f}".removesuffix(".0")


def duration(seconds: float) -> str:
    """A time in the unit that suits it: ``48 s``, ``35 minutes``, ``2.5 hours``."""
    if not math.isfinite(seconds):
        return NOTHING
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:,.1f} hours"


def shorten(text: object, cells: int = 40) -> str:
    """One line of at most ``cells`` columns, cut with an ellipsis. A wide character (CJK, most emoji) takes two columns."""
    line = one_line(str(text)[: 20 * cells])
    return line if width(line) <= cells else "".join(_fitting(line, cells - 1)).rstrip() + "…"


def width(text: str) -> int:
    """How many columns the text takes in a fixed-width font."""
    return sum(_columns(c) for c in text)


def _columns(character: str) -> int:
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _fitting(text: str, cells: int) -> Iterator[str]:
    for character in text:
        cells -= _columns(character)
        if cells < 0:
            return
        yield character

"""What is planned, in words: how long in all, how much disk, and what could not be counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from figment.images_in.labels import listed
from figment.report.text import duration

MIB, GIB = 2**20, 2**30
SHOWN = 3  # places of real images that are named


def in_all(seconds: Mapping[str, float | None]) -> str:
    """The sum in a line, of several kinds of work; what is None is named as not in it."""
    known = {name: s for name, s in seconds.items() if s}
    unknown = [name for name, s in seconds.items() if s is None]
    if not known or len(known) + len(unknown) < 2:
        return ""
    parts = ", ".join(f"{name} {duration(s)}" for name, s in known.items())
    without = f", without the {' and the '.join(unknown)}" if unknown else ""
    return f"in all about {duration(sum(known.values()))}: {parts}{without}"


def on_disk(size: float, free: int | None) -> str:
    """In a line: how many bytes are needed, and are there."""
    needed = f"{size / MIB:,.0f} MiB" if size < 10 * GIB else f"{size / GIB:,.0f} GiB"
    return f"{needed} of disk" if free is None else f"{needed} of disk; {free / GIB:,.0f} GiB are free"


def not_there(places: Sequence[str]) -> str:
    """In a line: which real images are planned without; empty where all are there."""
    if not places:
        return ""
    are, their = ("is", "its") if len(places) == 1 else ("are", "their")
    return f"{listed(places, SHOWN)} {are} not there: {their} images are not counted"

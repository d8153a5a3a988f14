"""Readable prompt ids that are safe as paths, whatever a class is called."""

from __future__ import annotations

import re


def prompt_id(label: int, class_name: str, number: int) -> str:
    """``004-ankle-boot/00017``, or ``captions/0000017`` where there is no class (-1).

    The label's number keeps names apart that differ only in what a path cannot hold.
    """
    if label < 0:
        return f"captions/{number:07d}"
    slug = re.sub(r"[^a-z0-9]+", "-", class_name.lower()).strip("-")[:40] or "class"
    return f"{label:03d}-{slug}/{number:05d}"

"""Slips of a number or of grammar that a sentence made of parts can have."""

from __future__ import annotations

import re
from functools import cache

MOST_CHARACTERS = 320  # of four rivals, few classes, and gains of less than 0.1 points


@cache  # most outcomes share their words
def check(text: str, most: int = MOST_CHARACTERS) -> None:
    """No slip of a number or of grammar that a template makes."""
    assert re.fullmatch(r"[A-Za-z“].*[.:)]", text) and len(text) <= most, (len(text), text)
    for slip in (
        r"[-−+]0\.0\b", r"\bnan\b", r"\binf\b", r"[{}]", r"\+-|\(-|- ?\d", r"\d\.\d{2}", r"  ", r" [.,;:)]", r"\( ",
        r"\b(\w+) \1\b", r"(?<![\d.,])1 (?:test |real test |real )?(?:images|photographs|points|classes)\b", r"\b(?:[02-9]|\d\d+) (?:test image|photograph|class)\b(?!es)",
        r"are 1\b", r"is (?!1\b)\d+ real", r"between less", r"\.\.", r"one one",
    ):  # fmt: skip
        found = re.search(slip, re.sub(r"few_shot: {shots: \d+}", "", text))
        assert found is None, (slip, text)

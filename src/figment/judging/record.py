"""All that was judged into one folder: ``judge.json``, and the page of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from figment.files import read_json, write_json
from figment.report import judged

FILE, PAGE = "judge.json", "judge.html"
SAME = ("evaluation", "on", "settings", "seed")  # and the backbone, by its fingerprint


def add(folder: Path, one: Mapping[str, Any]) -> None:
    """Add a result, or a failure, to the file and write the page anew. Whoever calls this holds the folder (`figment.files.lock`).

    It takes the place of one of the same backbone, evaluation, data set, settings and seed. A failure stays until its evaluation is
    asked of its backbone again, on whatever: a place that was mistyped is put right by another place. Raises FigmentError for a
    damaged file, which is left as it is.
    """
    results = [other for other in read(folder) if not (_is_same(other, one) or _is_past(other, one))] + [dict(one)]
    write_json(folder / FILE, {"results": results})
    judged.write(results, folder / PAGE)


def read(folder: Path) -> list[dict[str, Any]]:
    """What was judged so far, the oldest first; nothing where no file is there. Raises FigmentError for a damaged one."""
    path = folder / FILE
    if not path.is_file():
        return []
    # An earlier build, whose files held what one command asked for, did not say it of each result.
    return [one for one in read_json(path)["results"] if "weights" in one.get("backbone", ())]


def _is_same(other: Mapping[str, Any], one: Mapping[str, Any]) -> bool:
    return _of_one_backbone(other, one) and all(other[name] == one[name] for name in SAME)


def _is_past(other: Mapping[str, Any], one: Mapping[str, Any]) -> bool:
    return "failed" in other and _of_one_backbone(other, one) and other["evaluation"] == one["evaluation"]


def _of_one_backbone(other: Mapping[str, Any], one: Mapping[str, Any]) -> bool:
    return other["backbone"]["fingerprint"] == one["backbone"]["fingerprint"]

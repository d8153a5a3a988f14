"""Rows of results: one JSON object a line, each with how it was come by. What is there is not measured again."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from figment.evaluate.accuracy import wilson
from figment.words import without_folders

Row = dict[str, Any]


class Rows:
    """Those of a file that ``facts`` hold of, what they are about; others stay in it and do not count."""

    def __init__(self, path: Path, facts: Row | None = None) -> None:
        self.path, self.facts = path, facts or {}
        there = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        self.rows: list[Row] = [row for row in there if self.facts.items() <= row.items()]
        asked = ["git", "rev-parse", "--short", "HEAD"]
        self.commit = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()

    def has(self, part: str, case: str) -> bool:
        return any((row["part"], row["case"]) == (part, case) for row in self.rows)

    def measure(self, part: str, case: str, found: Iterable[Row]) -> None:
        """Write the rows of one part and case, unless they are there."""
        if self.has(part, case):
            return
        started = time.monotonic()
        new = [{"part": part, "case": case, **row, **self.facts} for row in found]
        told = {
            "commit": self.commit,
            "command": without_folders(" ".join(sys.argv)),
            "seconds": round(time.monotonic() - started),
        }
        self.rows += [{**row, **told} for row in new]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as out:
            out.writelines(json.dumps({**row, **told}) + "\n" for row in new)
        print(*(json.dumps(row) for row in new), sep="\n", flush=True)


def rate(count: int, total: int) -> Row:
    """In per cent, with the binomial 95 % interval (Wilson)."""
    low, high = wilson(count / total, total, 1.96)
    return {"%": round(100 * count / total, 1), "interval %": [round(100 * low, 1), round(100 * high, 1)]}

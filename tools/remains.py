"""What of a table's gains remains beyond its rivals: ``python tools/remains.py runs/he2023/table2 ...``, folders of finished tables.

Prints Markdown, a line a cell: how far the recipe is ahead of the untuned classifier with its bias removed, and of the mean of the
placebos, in points, the mean over the seeds; and in how many of these runs the verdict's interval of that difference lies above zero.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

RIVALS = {"bias removed": "top1/bias_removed", "placebo": "top1/placebo", "shots repeated": "top1/real_repeated"}


def cells(table: Path) -> Iterator[tuple[str, list[dict[str, dict]]]]:
    """Name -> for each seed, rival -> its difference, of all cells that have a verdict."""
    runs: dict[Path, list[Path]] = defaultdict(list)
    for results in sorted(table.glob("cells/*/seed-*/results.jsonl")):
        runs[results.parent.parent].append(results)
    for cell, files in runs.items():
        found = [json.loads(line) for results in files for line in results.read_text(encoding="utf-8").splitlines()]
        judged = [row["details"]["differences"] for row in found if row["metric"] == "worth"]
        if judged:
            yield cell.name.split("-", 1)[1], judged


def told(judged: list[dict[str, dict]], rival: str) -> str:
    own = [differences[rival] for differences in judged if rival in differences]
    if not own:
        return ""
    ahead = sum(d["ci"][0] > 0 for d in own)
    points = round(100 * sum(d["value"] for d in own) / len(own), 1) + 0.0  # no minus before zero
    return f"{points:+.1f} ({ahead} of {len(own)})".replace("-", "−")


def main(tables: list[str]) -> None:
    print(f"| cell | ahead of {' | of '.join(RIVALS)} |")
    print("|---" * (len(RIVALS) + 1) + "|")
    for table in map(Path, tables):
        for name, judged in cells(table):
            print(f"| {table.name}: {name} | {' | '.join(told(judged, rival) for rival in RIVALS.values())} |")


if __name__ == "__main__":
    main(sys.argv[1:])

"""What became of the orderings that papers print, over the folders of many tables, and of several sets of them side by side.

    python tools/orderings.py old=runs/old new=runs/new --out docs/results/orderings      writes .md and .jsonl

Reads what finished tables say (`table.json`): each order of two entries that the printed numbers agree on, and whether it holds, is
reversed, or stays undecided because the 95 % interval of the paired difference, over seeds and test images, has 0 in it. A set is a
folder of tables' folders; tables of one name are compared. Nothing is measured, and no row is kept from before.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from figment import layout, records
from figment.layout import Run, Study
from figment.report.table import Ordering, TablePage
from figment.report.text import duration
from figment.studies.table import read_table
from figment.words import markdown, without_folders

STATES = ("holds", "reversed", "undecided")
HEADER = """# What became of the printed orderings

Numbers of a scale model cannot match a paper's, but their order can. Of any two entries of a row, or of a column, whose printed numbers agree on an order: does it hold here, is it reversed, or can it not be
decided, because the 95 % interval of the paired difference has 0 in it? Nothing corrects for the number of orderings: of such as do not exist, one in forty would seem to hold, and one in forty to be reversed.
Orderings of one table share their images and tests, so they are no independent witnesses. Images that several tables ask for are counted in each of them, and so are the seconds of making them.
Made by `python tools/orderings.py` from finished tables; every row, with its command: [{rows}]({rows})."""

Key = tuple[str, str, str, str]  # what is compared, where, the better one, the other one


@dataclass(frozen=True)
class Told:
    """A finished table: its page, and what it cost."""

    name: str
    page: TablePage
    images: int
    seconds: float  # of making images, training and measuring, as the records say; encoding is in none of them

    @property
    def orderings(self) -> dict[Key, Ordering]:
        return {(o.axis, o.at, o.better, o.than): o for o in self.page.orderings}

    def row(self, of_set: str) -> dict[str, Any]:
        counts = Counter(o.state for o in self.page.orderings)
        facts = {"images": self.images, "seeds": self.page.seeds, "seconds": round(self.seconds)}
        return {"set": of_set, "table": self.name, "source": self.page.paper, **facts, **{s: counts[s] for s in STATES}}


def read_set(folder: Path) -> dict[str, Told]:
    """The finished tables below a folder, by the names of theirs."""
    return {table.name: read(table) for table in layout.subfolders(folder) if Study(table).table_json.is_file()}


def read(table: Path) -> Told:
    sets = [records.read(Run(folder).images).data for folder in layout.subfolders(Study(table).sets)]
    cells = [run for run in Study(table).runs() if run.is_cell]
    spent = [*sets, *(records.read(folder).data for run in cells for folder in (run.model, run.folder))]
    images = sum(data.get("counts", {}).get("made", 0) for data in sets)
    return Told(table.name, read_table(table), images, sum(data.get("seconds", 0.0) for data in spent))


def rows(sets: dict[str, dict[str, Told]]) -> list[dict[str, Any]]:
    """A row a table, one an ordering and one a cell (its number of each seed), as they are written."""
    found = []
    for name, tables in sets.items():
        for told in tables.values():
            found.append({"kind": "table", **told.row(name), "command": without_folders(told.page.command)})
            found += [{"kind": "ordering", "set": name, "table": told.name, **asdict(o)} for o in told.page.orderings]
            found += [
                {"kind": "cell", "set": name, "table": told.name, "row": row, "column": column, **asdict(cell)}
                for (row, column), cell in told.page.cells.items()
            ]
    return found


def page(sets: dict[str, dict[str, Told]], rows_file: str) -> str:
    names = list(dict.fromkeys(name for tables in sets.values() for name in tables))
    parts = [HEADER.format(rows=rows_file), _summary(sets, names), _changed(sets)]
    for name in names:
        tables = {of: tables[name] for of, tables in sets.items() if name in tables}
        first = next(iter(tables.values())).page
        parts += [
            f"## {markdown(name)}: {markdown(first.title)}",
            f"{markdown(first.paper)}.",
            _places(tables),
            _each(tables),
        ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _summary(sets: dict[str, dict[str, Told]], names: Sequence[str]) -> str:
    """A line a table and set, and one for all of a set."""
    lines = []
    for name in [*names, ""]:
        for of_set, tables in sets.items():
            own = [told.row(of_set) for told in tables.values() if name in ("", told.name)]
            if own:
                total = {key: sum(row[key] for row in own) for key in ("images", "seconds", *STATES)}
                seeds = " / ".join(sorted({str(row["seeds"]) for row in own}))
                facts = [f"{total['images']:,}", seeds, duration(total["seconds"])]
                lines.append([name or "**all**", of_set, *facts, *(str(total[state]) for state in STATES)])
    return _table(["table", "set", "images", "seeds", "time", *STATES], lines)


def _changed(sets: dict[str, dict[str, Told]]) -> str:
    """Of the orderings that the first two sets both have: how many of each state in the one have which in the other."""
    if len(sets) < 2:
        return ""
    (first, one), (second, other) = list(sets.items())[:2]
    pairs: Counter[tuple[str, str]] = Counter()
    for name in one.keys() & other.keys():
        before, after = one[name].orderings, other[name].orderings
        pairs.update((before[key].state, after[key].state) for key in before.keys() & after.keys())
    lines = [[before, *(str(pairs[before, after]) for after in STATES)] for before in STATES]
    return _table([f"{first} \\ {second}: {pairs.total():,} orderings of both", *STATES], lines)


def _places(tables: dict[str, Told]) -> str:
    """How many hold, are reversed and stay undecided, by the row or column that they were looked at in; of one place there is nothing to tell."""
    places = list(dict.fromkeys(o.at for told in tables.values() for o in told.page.orderings))
    counts = {of: Counter((o.at, o.state) for o in told.page.orderings) for of, told in tables.items()}
    cells = [[" / ".join(str(count[at, state]) for state in STATES) for count in counts.values()] for at in places]
    lines = [[markdown(at), *own] for at, own in zip(places, cells, strict=True)]
    return _table([" / ".join(STATES) + " in", *tables], lines) if len(places) > 1 else ""


def _each(tables: dict[str, Told]) -> str:
    found = {of: told.orderings for of, told in tables.items()}
    lines = []
    for key in dict.fromkeys(key for own in found.values() for key in own):
        there = {of: own[key] for of, own in found.items() if key in own}
        printed = next(iter(there.values())).printed
        told = [_said(tables[of].page, there[of]) if of in there else "–" for of in tables]
        lines.append([f"{markdown(key[2])} better than {markdown(key[3])}", markdown(key[1]), f"+{printed:.2f}", *told])
    return _table(["printed order", "looked at in", "printed", *tables], lines) if lines else ""


def _said(page: TablePage, o: Ordering) -> str:
    low, high = (page.differs(o, bound) for bound in o.ci)
    state = o.state if o.state == "holds" else f"**{o.state}**"
    return f"{state}, {page.differs(o, o.difference)} ({low} to {high})"


def _table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", metavar="NAME=FOLDER", help="folders of tables' folders, side by side")
    parser.add_argument("--out", type=Path, required=True, help="where to write, without .md and .jsonl")
    args = parser.parse_args()
    sets = {name: read_set(Path(folder)) for name, _, folder in (one.partition("=") for one in args.sets)}
    for name, tables in sets.items():
        if not tables:
            parser.error(f"the set {name!r} has no finished table: give it as NAME=FOLDER, a folder of tables' folders")
    text = "".join(json.dumps(row) + "\n" for row in rows(sets))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.with_suffix(".jsonl").write_text(text, encoding="utf-8")
    args.out.with_suffix(".md").write_text(page(sets, args.out.with_suffix(".jsonl").name), encoding="utf-8")
    print(_summary(sets, list(dict.fromkeys(name for tables in sets.values() for name in tables))))


if __name__ == "__main__":
    main()

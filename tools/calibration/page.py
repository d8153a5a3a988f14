"""The rows as a page: what had to be shown, whether it was, and every rate with its interval."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from calibration.cases import NULLS, RIGHT_LABELS, WORDS_AND_IMAGES_SHUFFLED
from calibration.notes import FIRST, NOTES
from calibration.rows import Row
from calibration.targets import expected_power, targets

RIGHT_NAMES = [case.name for case in RIGHT_LABELS]
NULL_NAMES = [*(case.name for case in NULLS), WORDS_AND_IMAGES_SHUFFLED.name]


def written_by_hand(page: str) -> str:
    """What stands below the line `***` of a page that was there: what somebody made of the numbers."""
    _, line, rest = page.partition("\n***\n")
    return f"{line}{rest}"


def page(rows: Sequence[Row], rows_file: str) -> str:
    parts = {name: [row for row in rows if row["part"] == name] for name in dict.fromkeys(row["part"] for row in rows)}
    of = parts.get
    verdicts = of("verdict", [])
    nulls = [row for row in verdicts if row["case"] in NULL_NAMES]
    rights = [row for row in verdicts if row["case"] in RIGHT_NAMES]
    lines = [
        FIRST.format(rows=rows_file, task=rows[0]["task"], generated=f"{rows[0]['generated']:,}"),
        _heading("targets"),
        _table(["what", "target", "measured", ""], [[t.what, t.target, t.measured, t.said] for t in targets(rows)]),
        _heading("nulls"),
        _by_n(nulls, lambda row: _rate(row["helps"]), _truth),
        _heading("power"),
        _by_n(rights, lambda row: f"{_rate(row['helps'])}; {_expected(row)}; {row['gate']['%']:g}", _truth),
        _words(of("words", [])),
        _heading("coverage"),
        _by_n(
            [row for row in rights if row["n"] >= 500],
            lambda row: " / ".join(_wide(held["%"]) for held in row["holds the kind"]),
        ),
        _heading("pairs"),
        _by_n(of("two sets", []), lambda row: _sides(row["with both sets"]) + "; " + _sides(row["images alone"])),
        _spread(of("spread", [])),
        _heading("arms"),
        _by_n(
            of("ten arms", []), lambda row: "; ".join(_rate(row[k]) for k in ("Holm", "with both sets", "images alone"))
        ),
        _by_n(of("ten verdicts", []), lambda row: "; ".join(_rate(row[k]) for k in ("Holm", "no correction"))),
        _heading("bursts"),
        _by_n(of("bursts", []), lambda row: _rate(row["with groups"]) + "; " + _rate(row["without groups"])),
        _heading("two classes"),
        _two_classes(of("two classes", [])),
        _heading("photographs"),
        _photographs(of("photographs", [])),
        _heading("other shots"),
        _by_n(of("other shots", []), _of_other_shots, lambda row: f"{row['truth']:+.2f} ({row['choices']} choices)"),
        _heading("networks"),
        _by_n(of("network", []), lambda row: f"{_rate(row['helps'])}; gate {row['gate']['%']:g}", _of_network),
        _heading("demo"),
        _demo(of("demo", [])),
    ]
    return "\n\n".join(line for line in lines if line).rstrip() + "\n"


def _heading(name: str) -> str:
    title, text = NOTES[name]
    return f"## {title}\n\n{text}".rstrip()


def _by_n(rows: Sequence[Row], cell: Callable[[Row], str], about: Callable[[Row], str] | None = None) -> str:
    """A line a case, a column a number of test images."""
    sizes = sorted({row["n"] for row in rows})
    body = []
    for case in dict.fromkeys(row["case"] for row in rows):
        own = {row["n"]: row for row in rows if row["case"] == case}
        first = next(iter(own.values()))
        told = [about(first)] if about else []
        body.append([case, *told, *(cell(own[n]) if n in own else "" for n in sizes)])
    return _table(["case", *(["truth"] if about else []), *(f"{n:,}" for n in sizes)], body) if body else ""


def _expected(row: Row) -> str:
    low, high = expected_power(row)
    return f"{low:.0f} to {high:.0f}"


def _words(rows: Sequence[Row]) -> str:
    keys = ["zero-shot %", "bias removed %"]
    return (
        _table(["noise in the names", *keys], [[f"{row['blur']:g}", *(row[k] for k in keys)] for row in rows])
        if rows
        else ""
    )


def _two_classes(rows: Sequence[Row]) -> str:
    body = []
    for steps in dict.fromkeys(row["steps"] for row in rows):
        own = {row["labels"]: row for row in rows if row["steps"] == steps}
        cells = [
            f"{r['mean %']} ± {r['standard deviation']} ({r['range %'][0]:g} to {r['range %'][1]:g})"
            for r in own.values()
        ]
        body.append([f"{steps:,}", *cells])
    return _table(["steps", "right", "placebo", "swapped"], body) if body else ""


def _photographs(rows: Sequence[Row]) -> str:
    """Of right labels the answers; of the others how often they are less than one."""
    right = [row for row in rows if row["case"] == RIGHT_LABELS[0].what]
    body = [
        [
            f"{row['n']:,}",
            row["studies"],
            row["truth"],
            " / ".join(map(str, row["quartiles"])),
            _rate(row["holds the kind"]),
        ]
        for row in right
    ]
    titles = ["n, right labels", "studies", "truth", "quartiles of the answer", "interval holds the truth, %"]
    others = _by_n(
        [row for row in rows if row not in right],
        lambda row: f"{_rate(row['less than 1'])}; {row['surely less than 1']['%']:g}",
    )
    return "\n\n".join(part for part in (_table(titles, body) if body else "", others) if part)


def _spread(rows: Sequence[Row]) -> str:
    keys = ["standard deviation in points", "said to be", "accuracy %", "of sets drawn again %"]
    return _table(["start", *keys], [[row["case"], *(row[key] for key in keys)] for row in rows]) if rows else ""


def _demo(rows: Sequence[Row]) -> str:
    body = []
    for row in rows:
        accuracies = " / ".join(f"{value:g}" for value in row["accuracies %"].values())
        body.append([row["case"], accuracies, f"{row['images only %']:g}", row["sentence"], row["seconds of one core"]])
    titles = ["start", "recipe / zero-shot / bias removed / placebo, %", "images only, %", "said", "seconds"]
    return _table(titles, body) if body else ""


def _table(titles: Sequence[str], body: Iterable[Sequence[object]]) -> str:
    lines = [titles, ["---"] * len(titles), *body]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _rate(found: Row) -> str:
    low, high = found["interval %"]
    return f"{found['%']:g} ({low:g} to {high:g})"


def _sides(found: Sequence[Row]) -> str:
    return " / ".join(_rate(side) for side in found)


def _truth(row: Row) -> str:
    return ", ".join(f"{t:+.2f}" for t in row["truth in points"]) + f" ({row['sets']} sets)"


def _of_network(row: Row) -> str:
    return f"{row['accuracy %']:g} %, {row['over the placebos, in points']:+g} ({row['sets']} sets)"


def _of_other_shots(row: Row) -> str:
    held, of_these = row["holds other choices"], row["holds them without such in it"]
    return f"{_rate(held)}; {of_these['%']:g}; {_rate(row['better'])}"


def _wide(share: float) -> str:
    return f"{share:g} (wide)" if share > 98 else f"{share:g}"

"""What a verdict that can be trusted has to show, and whether it did."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from scipy.special import ndtr

from calibration.cases import NULLS, RIGHT_LABELS, SHUFFLED
from calibration.rows import Row

FEWEST_SETS = 50  # of a case, for its rates to count as measured
COVERED = (500, 2_000, 10_000)
NORMAL = 1.96  # half the width of a 95 % interval, in standard errors


@dataclass(frozen=True)
class Target:
    what: str
    target: str
    measured: str
    met: bool | None  # None: not missed, and not all of it was measured

    @property
    def said(self) -> str:
        return {True: "met", False: "**missed**", None: "not missed, not all measured"}[self.met]


def targets(rows: Sequence[Row]) -> list[Target]:
    return [
        *_nulls(rows),
        *_two_sets(rows),
        *_coverage(rows),
        *_arms(rows),
        *_power(rows),
        *_two_classes(rows),
        *_photographs(rows),
        *_networks(rows),
        *_demo(rows),
    ]


def _of(rows: Sequence[Row], part: str, names: Sequence[str] | None = None) -> list[Row]:
    return [row for row in rows if row["part"] == part and (names is None or row["case"] in names)]


def _told(rate: Row) -> str:
    low, high = rate["interval %"]
    return f"{rate['%']:g} ({low:g} to {high:g})"


def _nulls(rows: Sequence[Row]) -> Iterator[Target]:
    for start in ("text", "bias removed"):
        names = [case.name for case in NULLS if case.start == start]
        cells = _of(rows, "verdict", names)
        if not cells:
            continue
        worst = max(cells, key=lambda row: (row["helps"]["%"], row["helps"]["interval %"][1]))
        fine = all(row["helps"]["%"] <= 3.5 and row["helps"]["interval %"][1] <= 5 for row in cells)
        there = {row["case"] for row in cells}
        fewest = min(row["sets"] for row in cells)
        left = (
            f"; not measured: {', '.join(name for name in names if name not in there)}"
            if len(there) < len(names)
            else ""
        )
        yield Target(
            f'false "helps", start {start}, {len(there)} nulls x 5 numbers of test images',
            "3.5 % at most, upper end 5 at most",
            f"worst of {len(cells)}: {_told(worst['helps'])}, {worst['case']}, n = {worst['n']:,}; {fewest} sets or more{left}",
            (None if left or fewest < FEWEST_SETS else True) if fine else False,
        )


def _two_sets(rows: Sequence[Row]) -> Iterator[Target]:
    for row in _of(rows, "two sets"):
        if row["n"] == max(COVERED):
            better, worse = row["with both sets"]
            yield Target(
                f"two sets of one generator told apart, n = {row['n']:,}, start {row['case']}",
                "4.5 % a side at most",
                f"{_told(better)} and {_told(worse)}; by images alone {row['images alone'][0]['%']:g} and"
                f" {row['images alone'][1]['%']:g}",
                max(better["%"], worse["%"]) <= 4.5,
            )


def _coverage(rows: Sequence[Row]) -> Iterator[Target]:
    for case in RIGHT_LABELS:
        cells = [row for row in _of(rows, "verdict", [case.name]) if row["n"] in COVERED]
        for i in range(3) if cells else ():
            worst = min(cells, key=lambda row: row["holds the kind"][i]["%"])
            wide = [
                f"{row['n']:,}: {row['holds the kind'][i]['%']:g}"
                for row in cells
                if row["holds the kind"][i]["%"] > 98
            ]
            yield Target(
                f"intervals of D{i + 1} that hold the truth of the kind, {case.name}, n from 500",
                "93 % at least",
                f"least {_told(worst['holds the kind'][i])} at n = {worst['n']:,}"
                + (f"; wide: {', '.join(wide)}" if wide else ""),
                worst["holds the kind"][i]["%"] >= 93,
            )


def _arms(rows: Sequence[Row]) -> Iterator[Target]:
    told = {
        "ten arms": "any of ten arms of one kind better than an eleventh, Holm, start",
        "ten verdicts": "any of ten that do nothing helps, Holm:",
    }
    for part, what in told.items():
        for case in dict.fromkeys(row["case"] for row in _of(rows, part)):
            worst = max(_of(rows, part, [case]), key=lambda row: row["Holm"]["%"])
            yield Target(
                f"{what} {case}",
                "4 % at most",
                f"worst {_told(worst['Holm'])} at n = {worst['n']:,}",
                worst["Holm"]["%"] <= 4,
            )
    bursts = _of(rows, "bursts")
    if bursts:
        worst = max(bursts, key=lambda row: row["with groups"]["%"])
        without = max(row["without groups"]["%"] for row in bursts)
        yield Target(
            "bursts of 5 with `groups`",
            "4 % at most",
            f"worst {_told(worst['with groups'])} at n = {worst['n']:,}; without {without:g}",
            worst["with groups"]["%"] <= 4,
        )


def expected_power(row: Row) -> tuple[float, float]:
    """Per cent of "helps" by the truths and the mean widths of the three intervals: at least, if they miss apart, and at most, the least sure one's."""
    halves = [width / 2 for width in row["width in points"]]
    powers = [ndtr(NORMAL * (truth / half - 1)) for truth, half in zip(row["truth in points"], halves, strict=True)]
    return 100 * max(0.0, 1 - sum(1 - power for power in powers)), 100 * min(powers)


def _power(rows: Sequence[Row]) -> Iterator[Target]:
    for case in RIGHT_LABELS:
        cells = [row for row in _of(rows, "verdict", [case.name]) if row["n"] in COVERED]
        if cells and min(cells[0]["truth in points"]) > 0:
            told = [f"{_told(row['helps'])} of {expected_power(row)[0]:.0f} at {row['n']:,}" for row in cells]
            yield Target(
                f'"helps" where something does: {case.name}, {cells[0]["sets"]} sets',
                "as often at least as the truth and the widths have it",
                ", ".join(told),
                all(row["helps"]["interval %"][1] >= expected_power(row)[0] for row in cells),
            )


def _two_classes(rows: Sequence[Row]) -> Iterator[Target]:
    for row in _of(rows, "two classes"):
        if row["labels"] == "placebo":
            yield Target(
                f"the placebo of two classes, learning rate .01, {row['steps']:,} steps",
                "right on 40 to 65 %, not on 7",
                f"mean {row['mean %']:g}, draws from {row['range %'][0]:g} to {row['range %'][1]:g}",
                40 <= row["mean %"] <= 65,
            )


def _photographs(rows: Sequence[Row]) -> Iterator[Target]:
    found = _of(rows, "photographs")
    nulls = [row for row in found if row["case"] != RIGHT_LABELS[0].what]
    wanted = [SHUFFLED[1].what, *(case.what for case in NULLS[::2] if case.images != "generated")]
    if nulls:
        worst = min(nulls, key=lambda row: row["less than 1"]["%"])
        left = [name for name in wanted if name not in {row["case"] for row in nulls}]
        yield Target(
            f"exchange rate of sets that hold nothing ({len(wanted) - len(left)} kinds)",
            '"less than 1", each',
            f"least often {_told(worst['less than 1'])} of studies, {worst['case']}"
            + (f"; not measured: {', '.join(left)}" if left else ""),
            worst["less than 1"]["%"] == 100,
        )
    right = [row for row in found if row not in nulls]
    if right:
        worst = min(right, key=lambda row: row["holds the kind"]["%"])
        yield Target(
            "exchange rate of right labels: intervals that hold the truth of the kind",
            "91 % at least, as in the simulations",
            f"least {_told(worst['holds the kind'])} at n = {worst['n']:,}",
            worst["holds the kind"]["%"] >= 91,
        )


def _networks(rows: Sequence[Row]) -> Iterator[Target]:
    cells = [row for row in _of(rows, "network") if row["case"] != "right labels"]
    if cells:
        worst = max(cells, key=lambda row: row["helps"]["%"])
        yield Target(
            'false "helps" of a small network without words',
            "3.5 % at most",
            f"worst of {len(cells)}: {_told(worst['helps'])}, {worst['case']}, n = {worst['n']:,}, {worst['sets']} sets",
            (True if worst["sets"] >= FEWEST_SETS else None) if worst["helps"]["%"] <= 3.5 else False,
        )


def _demo(rows: Sequence[Row]) -> Iterator[Target]:
    seconds = [row["seconds of one core"] for row in _of(rows, "demo")]
    if seconds:
        yield Target("cost of the demo's verdict", "under 10 s of one core", f"{max(seconds):g} s", max(seconds) < 10)

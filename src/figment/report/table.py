"""A study's table, ours above the paper's: as one HTML page, and as Markdown.

Fill a ``TablePage`` and ``write`` it, or print its ``markdown``. Numbers of a scale model cannot match the paper's, but
their order can: what the page answers is which of the paper's orderings hold here. Names, notes and settings are data
from outside: both forms escape them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from figment import files, words
from figment.report import charts, text
from figment.report.page import templates

STATES = ("reversed", "undecided", "holds")  # in the order in which the page lists them
LOOKS = {"holds": "after", "reversed": "bad", "undecided": "before"}  # CSS classes of their dots
MAX_NAMED = 5  # reversed orderings that the conclusion spells out
NUMBER = re.compile(r"(?<![\w.,-])(\d[\d,]*(?:\.\d+)?|\.\d+)(?:\s?([kM])\b)?")


@dataclass(frozen=True)
class Cell:
    """A number of ours: mean over seeds and 95 % interval in the metric's unit, accuracies in [0, 1]; some numbers have none. ``n``
    counts the test images; ``note`` becomes a footnote."""

    value: float
    ci: tuple[float, float] | None
    per_seed: tuple[float, ...] = ()
    n: int = 0
    note: str = ""


@dataclass(frozen=True)
class Printed:
    """A row of the paper's table: column -> number as printed, accuracies in per cent. Columns may be missing."""

    row: str
    values: Mapping[str, float]


@dataclass(frozen=True)
class Ordering:
    """Two entries of which the paper prints ``better`` above ``than``, and what became of that here.

    Both differences are positive where ``better`` is the better one, also in columns where lower is better.
    """

    axis: Literal["columns", "rows"]  # what is compared
    at: str  # the row, or the column, that the two were compared in
    better: str
    than: str
    printed: float  # the paper's difference as printed: points for accuracies; above 0
    difference: float  # ours, in the cells' unit
    ci: tuple[float, float]
    state: Literal["holds", "reversed", "undecided"]


@dataclass(frozen=True)
class Answer:
    """What a study says, ahead of its numbers: a question, its answer in a few words, what to know of it, and perhaps a plot.

    ``tone`` is a CSS class of a verdict; ``axes`` names the two axes of ``dots``, of which the second is shown in per cent, and ``lead``
    says how to read them.
    """

    question: str
    headline: str
    sentences: tuple[str, ...]
    tone: Literal["helps", "hurts", "no-evidence", "not-measured"]
    dots: tuple[charts.Dot, ...] = ()
    axes: tuple[str, str] = ("", "")
    lead: str = ""


@dataclass(frozen=True)
class Compared:
    """A row beside the reference's: by how much it is better, in shares of one with a 95 % interval, how many seconds an image of it
    took to make, how many times as fast all of its images are made, and whether it is as good."""

    row: str
    difference: float
    ci: tuple[float, float]
    seconds: float | None
    images: int
    times: float | None
    as_good: bool

    @property
    def took(self) -> str:
        return text.NOTHING if self.seconds is None else text.plain(self.seconds)

    @property
    def speed(self) -> str:
        return text.NOTHING if self.times is None else f"{self.times:.1f}"


@dataclass(frozen=True)
class TablePage:
    """Everything the page shows. ``cells`` is keyed by (row, column) and may lack some."""

    title: str
    caption: str  # what the table asks, a sentence or two
    row_header: str  # what a row is, such as "training"
    rows: Sequence[str]
    columns: Sequence[str]
    cells: Mapping[tuple[str, str], Cell]
    printed: Sequence[Printed] = ()
    unit: Literal["percent", "plain"] = "percent"  # percent: cells are shares of one
    plain: frozenset[str] = field(default_factory=frozenset)  # columns that are no shares on a page in per cent
    lower_is_better: frozenset[str] = field(default_factory=frozenset)  # columns
    orderings: Sequence[Ordering] = ()
    notes: Sequence[str] = ()
    seeds: int = 1
    settings: str = ""  # YAML
    command: str = ""
    seconds: float = 0.0
    source: str = ""  # such as "He et al. 2023, Table 7"
    chart: bool = False  # draw lines over the columns, or else the rows, that are numbers
    answer: Answer | None = None  # of a study that is more than a table
    compared: Sequence[Compared] = ()  # with a row of reference
    compares: Literal["rows", "columns"] = (
        "rows"  # columns: each row is a question of its own, and has a best number of its own
    )

    def __post_init__(self) -> None:
        for names in (self.rows, self.columns):
            if len(set(names)) < len(names):
                raise ValueError(f"TablePage has rows or columns of the same name: {list(names)}")
        unknown = [key for key in self.cells if key[0] not in self.rows or key[1] not in self.columns]
        if unknown:
            raise ValueError(f"TablePage.cells has {unknown[0]}, which is not a row and a column of the table")

    @property
    def paper(self) -> str:
        return self.source or "the paper"

    def is_plain(self, column: str) -> bool:
        return self.unit == "plain" or column in self.plain

    def value(self, column: str, value: float) -> str:
        """A number of ours as the table shows it: ``64.4`` or ``0.123``."""
        return text.plain(value) if self.is_plain(column) else text.number(value)

    def interval(self, column: str, ci: tuple[float, float]) -> str:
        return f"{self.value(column, ci[0])} to {self.value(column, ci[1])}"

    def written(self, column: str, cell: Cell) -> str:
        """A number of ours with its interval, if it has one: ``64.4 (60.1 to 68.7)``."""
        value = self.value(column, cell.value)
        return value if cell.ci is None else f"{value} ({self.interval(column, cell.ci)})"

    def differs(self, ordering: Ordering, value: float) -> str:
        """A difference of ours with its sign: points, or the cells' unit in a plain column."""
        if not self.is_plain(_column(ordering)):
            return text.signed(value)
        return f"+{text.plain(value)}" if value > 0 else text.plain(value)

    def heading(self, column: str) -> str:
        """The column's name as a heading; where units differ from column to column, with its own."""
        return text.shorten(column, 60) + (", %" if self.plain and not self.is_plain(column) else "")


@dataclass(frozen=True)
class Pair:
    """The chart: our lines, and the paper's over a scale of their own. A name looks the same in both."""

    ours: Sequence[charts.Line]
    printed: Sequence[charts.Line]
    factor: float  # 100 where the values are shares, as the paper's then are here too


def conclusion(page: TablePage) -> str:
    """What became of the paper's orderings, in plain words; the reversed ones by name."""
    if not page.orderings:
        if page.answer is not None and not page.printed:
            return page.answer.headline
        return f"No ordering of {text.shorten(page.paper, 80)} was looked at."
    counts: Counter[str] = Counter(o.state for o in page.orderings)
    total = len(page.orderings)
    phrases = {
        "holds": "holds here" if counts["holds"] == 1 else "hold here",
        "reversed": "is reversed" if counts["reversed"] == 1 else "are reversed",
        "undecided": "cannot be decided at this scale",
    }
    if len(counts) == 1:
        what = {1: "The one ordering", 2: "Both orderings"}.get(total, f"All {total} orderings")
        sentence = f"{what} looked at in {text.shorten(page.paper, 80)} {phrases[page.orderings[0].state]}."
    else:
        said = [f"{counts[state]} {phrase}" for state, phrase in phrases.items() if counts[state]]
        sentence = f"Of the {total} orderings looked at in {text.shorten(page.paper, 80)}, {_listed(said)}."
    turned = [_reversal(page, o) for o in page.orderings if o.state == "reversed"]
    more = [f"{len(turned) - MAX_NAMED} more"] if len(turned) > MAX_NAMED else []
    named = f" Reversed: {'; '.join([*turned[:MAX_NAMED], *more])}." if turned else ""
    return sentence + named


def write(page: TablePage, path: Path) -> None:
    """Render to ``path``; a page that was there stays whole until the new one is."""
    files.write_atomic(path, render(page).encode())


def render(page: TablePage) -> str:
    """The page as HTML: no script, and nothing loaded from elsewhere."""
    counts: Counter[str] = Counter(o.state for o in page.orderings)
    drawn = pair(page) if page.chart else None
    template = templates().get_template("table.html.j2")
    return template.render(
        page=page,
        counts={state: counts[state] for state in reversed(STATES)},
        tone=_tone(counts) if page.answer is None else page.answer.tone,
        conclusion=conclusion(page),
        orderings=_by_state(page.orderings),
        ordering_axis=_ordering_axis(page),
        printed_difference=_printed_difference,
        looks=LOOKS,
        best=best_cells(page),
        best_printed=best_printed(page),
        best_of=_best_of(page),
        printed_text=partial(_printed, page),
        footnotes=_footnotes(page),
        pair=drawn,
        draws=drawn is not None and any(m.draws for line in drawn.ours for m in line.points.values()),
        from_nought=drawn is not None and any(0 in line.points for line in [*drawn.ours, *drawn.printed]),
        n_test=sorted({cell.n for cell in page.cells.values() if cell.n}),
    )


def markdown(page: TablePage) -> str:
    """The page as Markdown: for the documentation, and readable in a terminal."""
    parts = [f"# {_md(page.title, 120)}", _md(page.caption, 600)]
    if page.answer is not None:
        parts += [f"**{_md(page.answer.headline, 400)}**", *(_md(one, 2000) for one in page.answer.sentences)]
    if page.answer is None or page.orderings:
        parts += [f"**{_md(conclusion(page), 2000)}**"]
    parts += [_rows_of([_md(page.row_header), *(_md(page.heading(c), 63) for c in page.columns)], _body(page))]
    parts += ["\n".join(f"{number}. {_md(note, 400)}" for note, number in _footnotes(page).items())]
    parts += [_compared(page)] if page.compared else []
    parts += [_orderings(page)] if page.orderings else []
    parts += ["\n".join(f"- {_md(note, 600)}" for note in page.notes)]
    facts = f"Ours {'in per cent, ' if page.unit == 'percent' and not page.plain else ''}with 95 % intervals, "
    facts += f"the mean of {page.seeds} seeds" if page.seeds > 1 else "of one seed"
    facts += f"; made in {text.duration(page.seconds)}." if page.seconds else "."
    parts += [facts]
    parts += [_fenced(body, kind) for body, kind in ((page.command, "sh"), (page.settings, "yaml")) if body]
    return "\n\n".join(part for part in parts if part) + "\n"


def best_cells(page: TablePage) -> set[tuple[str, str]]:
    """(row, column) of our best numbers: of each column, or of each row where the orderings compare columns."""
    return _best(page, page.rows, {key: cell.value for key, cell in page.cells.items()})


def best_printed(page: TablePage) -> set[tuple[str, str]]:
    """The same for the paper's."""
    values = {(row.row, column): value for row in page.printed for column, value in row.values.items()}
    return _best(page, [row.row for row in page.printed], values)


def pair(page: TablePage) -> Pair | None:
    """Lines over the columns whose names hold numbers, one for each row; or the other way round, where the rows do.
    None where neither holds two different numbers. Columns of another unit than the page's are left out."""
    columns = [c for c in page.columns if page.is_plain(c) == (page.unit == "plain")]
    numbers, across = _numbers(columns), True
    if numbers is None:
        numbers, across = _numbers([*page.rows, *(p.row for p in page.printed)]), False
    if numbers is None:
        return None
    factor = 1.0 if page.unit == "plain" else 100.0
    ours = {(row, c): _mark(cell) for (row, c), cell in page.cells.items() if c in columns}
    printed = {(p.row, c): charts.Mark(v / factor, None, "") for p in page.printed for c, v in p.values.items()}
    names = list(dict.fromkeys([*page.rows, *(p.row for p in page.printed)] if across else columns))
    return Pair(_lines(names, numbers, ours, across), _lines(names, numbers, printed, across), factor)


def _lines(
    names: Sequence[str], numbers: Mapping[str, float], marks: Mapping[tuple[str, str], charts.Mark], across: bool
) -> list[charts.Line]:
    """``marks`` by (row, column): a line for each name that has any, whose look is the name's place."""
    points: dict[str, dict[float, charts.Mark]] = {name: {} for name in names}
    for (row, column), mark in marks.items():
        line, place = (row, column) if across else (column, row)
        if line in points and place in numbers:
            points[line][numbers[place]] = mark
    return [charts.Line(name, there, look) for look, (name, there) in enumerate(points.items()) if there]


def _mark(cell: Cell) -> charts.Mark:
    return charts.Mark(cell.value, cell.ci, "", draws=cell.per_seed if len(cell.per_seed) > 1 else ())


def _numbers(names: Iterable[str]) -> dict[str, float] | None:
    """The names that hold a number, with it: ``{"16 shots": 16.0}``. None without two, or where two are the same."""
    found = {name: NUMBER.search(name) for name in names}
    scale = {None: 1.0, "k": 1e3, "M": 1e6}
    numbers = {name: float(m[1].replace(",", "")) * scale[m[2]] for name, m in found.items() if m}
    return numbers if len(numbers) == len(set(numbers.values())) > 1 else None


def _best(page: TablePage, rows: Sequence[str], values: Mapping[tuple[str, str], float]) -> set[tuple[str, str]]:
    cells = [[(row, column) for column in page.columns] for row in rows]
    groups = cells if _best_of(page) == "row" else list(zip(*cells, strict=True))
    best: set[tuple[str, str]] = set()
    for group in groups:
        there = {key: values[key] for key in group if key in values}
        lower = {column in page.lower_is_better for _, column in there}
        if len(there) > 1 and len(lower) == 1:  # a row whose columns disagree has no best
            extreme = (min if lower.pop() else max)(there.values())
            best |= {key for key, value in there.items() if value == extreme}
    return best


def _best_of(page: TablePage) -> str:
    of_rows = page.compares == "columns" or (page.orderings and all(o.axis == "columns" for o in page.orderings))
    return "row" if of_rows else "column"


def _column(ordering: Ordering) -> str:
    """A column whose unit the ordering's differences have."""
    return ordering.at if ordering.axis == "rows" else ordering.better


def _tone(counts: Counter[str]) -> str:
    """The colour of the headline, by the class name of a report's verdict."""
    if not counts:
        return "not-measured"
    if counts["reversed"] > counts["holds"]:
        return "hurts"
    return "helps" if counts["holds"] > counts["reversed"] + counts["undecided"] else "no-evidence"


def _by_state(orderings: Sequence[Ordering]) -> list[Ordering]:
    return sorted(orderings, key=lambda o: STATES.index(o.state))


def _ordering_axis(page: TablePage) -> tuple[charts.Axis, float] | None:
    """One axis for the differences of all orderings and the factor of its labels; None where they have several units."""
    plain = {page.is_plain(_column(o)) for o in page.orderings}
    if len(plain) != 1:
        return None
    values = [v for o in page.orderings for v in (o.difference, *o.ci)]
    return charts.linear_axis([0.0, *values]), 1 if plain.pop() else 100


def _footnotes(page: TablePage) -> dict[str, int]:
    """The cells' notes, each once, numbered in reading order."""
    cells = (page.cells.get((row, column)) for row in page.rows for column in page.columns)
    return {note: k for k, note in enumerate(dict.fromkeys(c.note for c in cells if c and c.note), start=1)}


def _decimals(page: TablePage, column: str) -> int:
    """As many as the paper's numbers of this column have, two at most, and one at least for accuracies."""
    written = [f"{row.values[column]:.2f}".rstrip("0") for row in page.printed if column in row.values]
    return max([0 if page.is_plain(column) else 1, *(len(w.partition(".")[2]) for w in written)])


def _reversal(page: TablePage, ordering: Ordering) -> str:
    unit = "" if page.is_plain(_column(ordering)) else " points"
    by = page.differs(ordering, -ordering.difference).lstrip("+")
    better, than, at = (f"“{text.shorten(name)}”" for name in (ordering.better, ordering.than, ordering.at))
    return f"{than} is ahead of {better} by {by}{unit} at {at}"


def _listed(said: Sequence[str]) -> str:
    return f"{', '.join(said[:-1])} and {said[-1]}"


# ---- Markdown --------------------------------------------------------------------------------------------------------


def _body(page: TablePage) -> list[list[str]]:
    """The rows of the table: ours, then the paper's."""
    best, footnotes = best_cells(page), _footnotes(page)
    rows = []
    for row in page.rows:
        texts = []
        for column in page.columns:
            cell = page.cells.get((row, column))
            if cell is None:
                texts += [text.NOTHING]
                continue
            value = page.value(column, cell.value)
            value = f"**{value}**" if (row, column) in best else value
            mark = f" [{footnotes[cell.note]}]" if cell.note else ""
            interval = "" if cell.ci is None else f" ({page.interval(column, cell.ci)})"
            texts += [f"{value}{interval}{mark}"]
        rows += [[_md(row), *texts]]
    best = best_printed(page)
    for printed in page.printed:
        texts = []
        for column in page.columns:
            number = _printed(page, printed, column)
            texts += [f"**{number}**" if (printed.row, column) in best else number]
        rows += [[f"_{_md(page.paper, 60)}:_ {_md(printed.row)}", *texts]]
    return rows


def _printed(page: TablePage, printed: Printed, column: str) -> str:
    value = printed.values.get(column)
    return text.NOTHING if value is None else f"{value:.{_decimals(page, column)}f}"


def _printed_difference(ordering: Ordering) -> str:
    return f"{ordering.printed:+.2f}".replace("-", "−")


def _orderings(page: TablePage) -> str:
    header = ["printed order", "looked at in", "printed difference", "ours (95 % interval)", "here"]
    rows = []
    for o in _by_state(page.orderings):
        ours = f"{page.differs(o, o.difference)} ({page.differs(o, o.ci[0])} to {page.differs(o, o.ci[1])})"
        state = o.state if o.state == "holds" else f"**{o.state}**"
        rows += [[f"{_md(o.better)} better than {_md(o.than)}", _md(o.at), _printed_difference(o), ours, state]]
    return _rows_of(header, rows, numbers=(2, 3))


def _compared(page: TablePage) -> str:
    header = ["row", "points (95 % interval)", "s an image", "images", "times as fast", "as good"]
    rows = []
    for c in page.compared:
        points = f"{text.signed(c.difference)} ({text.signed(c.ci[0])} to {text.signed(c.ci[1])})"
        rows += [[_md(c.row), points, c.took, f"{c.images:,}", c.speed, "yes" if c.as_good else "**no**"]]
    return _rows_of(header, rows, numbers=(1, 2, 3, 4))


def _rows_of(header: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] | None = None) -> str:
    """A pipe table whose columns ``numbers`` are set to the right: all but the first where None."""
    right = range(1, len(header)) if numbers is None else numbers
    rule = ["---:" if k in right else "---" for k in range(len(header))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *rows))


def _md(name: str, cells: int = 60) -> str:
    return words.markdown(text.shorten(name, cells))


def _fenced(body: str, kind: str) -> str:
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", body)), default=0))
    return f"{fence}{kind}\n{words.printable(body).rstrip()}\n{fence}"

"""A study's table beside the paper's. All numbers of ours here are made up."""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import replace

import markdown_it
import numpy as np
import pytest

from figment.report import charts, text
from figment.report.table import (
    Cell,
    Ordering,
    Printed,
    TablePage,
    best_cells,
    best_printed,
    conclusion,
    markdown,
    pair,
    render,
    write,
)
from pages import HOSTILE, Page, shapes


def cell(value: float, half: float = 0.012, note: str = "") -> Cell:
    return Cell(value, (value - half, value + half), (value - 0.006, value + 0.001, value + 0.005), 10_000, note)


def order(axis, at: str, better: str, than: str, printed: float, difference: float, half: float = 0.01) -> Ordering:
    ci = (difference - half, difference + half)
    state = "holds" if ci[0] > 0 else "reversed" if ci[1] < 0 else "undecided"
    return Ordering(axis, at, better, than, printed, difference, ci, state)


def table7() -> TablePage:
    """3 rows x 5 columns, rows compared in each column, with a chart."""
    shots = ["1 shot", "2 shots", "4 shots", "8 shots", "16 shots"]
    paper = {
        "synthetic, then real": [63.01, 72.24, 78.88, 83.64, 87.10],
        "real, then synthetic": [63.32, 72.85, 79.21, 83.99, 87.44],
        "mixed": [64.36, 73.62, 79.88, 84.57, 88.47],
    }
    ours = [
        [0.612, 0.643, 0.688, 0.731, 0.770],
        [0.618, 0.652, 0.690, 0.733, 0.774],
        [0.649, 0.671, 0.683, 0.744, 0.781],
    ]
    rows = list(paper)
    cells = {(r, c): cell(v) for r, values in zip(rows, ours, strict=True) for c, v in zip(shots, values, strict=True)}
    orderings = [
        order(
            "rows",
            c,
            "mixed",
            other,
            paper["mixed"][k] - paper[other][k],
            cells["mixed", c].value - cells[other, c].value,
        )
        for k, c in enumerate(shots)
        for other in rows[:2]
    ]
    orderings[4] = replace(orderings[4], ci=(-0.009, -0.001), state="reversed")
    return TablePage(
        title="Mixing real and generated images",
        caption="With a few real images a class: is it better to learn from them and the generated ones together, or one after the other?",
        row_header="training",
        rows=rows,
        columns=shots,
        cells=cells,
        printed=[Printed(r, dict(zip(shots, values, strict=True))) for r, values in paper.items()],
        orderings=orderings,
        notes=["The starter is a scale model: 32-pixel images of clothes instead of satellite images."],
        seeds=3,
        settings="train:\n  order: mixed\n  real_weight: 1.0\n",
        command="figment table he2023/table7 --out runs/table7",
        seconds=1312.0,
        source="He et al. 2023, Table 7",
        chart=True,
    )


def table2() -> TablePage:
    """1 row of ours, 3 printed ones, 7 columns that are compared."""
    columns = ["CLIP", "B, CE", "B, SCE", "LE, CE", "LE, SCE", "LE+CF, CE", "LE+CF, SCE"]
    paper = {
        "CIFAR-10": [70.31, 77.39, 78.23, 77.20, 77.55, 80.01, 80.06],
        "CIFAR-100": [35.35, 43.99, 44.25, 44.08, 44.91, 44.55, 45.69],
        "EuroSAT": [37.51, 45.64, 48.23, 53.26, 54.94, 54.75, 55.37],
    }
    ours = dict(zip(columns, [0.512, 0.571, 0.583, 0.566, 0.588, 0.592, 0.601], strict=True))
    orderings = [
        order("columns", "Fashion-MNIST", better, than, 1.4, ours[better] - ours[than])
        for better, than in [("B, CE", "CLIP"), ("B, SCE", "B, CE"), ("LE, CE", "B, CE"), ("LE+CF, SCE", "LE, SCE")]
    ]
    return TablePage(
        "Prompts, filter and soft targets",
        "What each part of the method adds.",
        "data set",
        ["Fashion-MNIST"],
        columns,
        {
            ("Fashion-MNIST", c): cell(v, note="the loss of the released code" if "SCE" in c else "")
            for c, v in ours.items()
        },
        [Printed(name, dict(zip(columns, values, strict=True))) for name, values in paper.items()],
        orderings=orderings,
        seeds=3,
        source="He et al. 2023, Table 2",
    )


def figure1() -> TablePage:
    """6 lines over 0 to 16 shots; at 0 not every method has a value."""
    columns = ["0 shots", *(f"{k} shot{'s' if k > 1 else ''}" for k in (1, 2, 4, 8, 16))]
    paper = {
        "with synthetic": [60.07, 63.8, 65.5, 67.5, 70.6, 72.2],
        "without synthetic": [math.nan, 62.1, 63.5, 66.1, 69.2, 71.6],
        "Tip-Adapter": [math.nan, 62.5, 63.65, 66.2, 68.85, 71.5],
        "CoOp": [math.nan, 60.3, 59.55, 63.65, 65.6, 69.25],
    }
    base = {
        "with synthetic": 0.6,
        "without synthetic": 0.53,
        "Tip-Adapter": 0.55,
        "CoOp": 0.5,
        "linear probe": 0.42,
        "LoRA": 0.47,
    }
    cells = {
        (r, c): cell(b + (0.75 - b) * (1 - 0.75**k), 0.02 / (1 + k / 3))
        for r, b in base.items()
        for k, c in enumerate(columns)
        if k or r == "with synthetic"
    }
    printed = [
        Printed(r, {c: v for c, v in zip(columns, values, strict=True) if math.isfinite(v)})
        for r, values in paper.items()
    ]
    return TablePage(
        "Few-shot learning",
        "How accuracy grows with the real images a class.",
        "method",
        list(base),
        columns,
        cells,
        printed,
        seeds=3,
        source="He et al. 2023, Figure 1",
        chart=True,
    )


def fidelity() -> TablePage:
    """A.16: a distance beside an accuracy, lower better in one."""
    rows, columns = ["B", "LE", "LE+CF"], ["Fréchet distance", "CLIP accuracy"]
    values = [[0.2314, 0.4427], [0.2179, 0.3584], [0.2498, 0.4803]]
    return TablePage(
        "Do the generated images look real?",
        "",
        "prompts",
        rows,
        columns,
        {(r, c): cell(values[i][j]) for i, r in enumerate(rows) for j, c in enumerate(columns)},
        [
            Printed("B", {columns[0]: 84.84, columns[1]: 44.27}),
            Printed("LE+CF", {columns[0]: 90.85, columns[1]: 48.03}),
        ],
        plain=frozenset(columns[:1]),
        lower_is_better=frozenset(columns[:1]),
        orderings=[
            order("rows", columns[0], "LE", "B", 3.69, 0.0135, 0.004),
            order("rows", columns[1], "LE+CF", "B", 3.76, 0.0376),
        ],
    )


def large(rows: int = 20, columns: int = 12) -> TablePage:
    names = [f"{k:02d}, the long name of a method that fills a line or two of text"[:60] for k in range(rows)]
    heads = [f"{2**k} {'x' * (57 - len(str(2**k)))}" for k in range(columns)]
    rng = np.random.default_rng(0)
    cells = {(r, c): cell(float(rng.uniform(0.3, 0.9))) for r in names for c in heads}
    printed = [Printed(r, {c: round(float(rng.uniform(30, 90)), 2) for c in heads}) for r in names]
    orderings = [order("rows", heads[0], a, b, 1.0, float(rng.normal(0, 0.02))) for a, b in itertools.pairwise(names)]
    return TablePage("Large", "", "method", names, heads, cells, printed, orderings=orderings, chart=True)


SAMPLES = [table7(), table2(), figure1(), fidelity(), large(), large(1, 1)]


@pytest.mark.parametrize("page", SAMPLES, ids=lambda page: page.title)
def test_every_number_is_in_the_page_and_in_the_markdown(page):
    shown, marked = Page(render(page)), markdown(page)
    seen = shown.text
    for (_, column), ours in page.cells.items():
        assert page.value(column, ours.value) in seen
        assert f"{page.value(column, ours.value)}" in marked and f"({page.interval(column, ours.ci)})" in marked
    for printed in page.printed:
        for value in printed.values.values():
            assert f"{value:.2f}".rstrip("0").rstrip(".") in seen and f"{value:.2f}".rstrip("0") in marked
    assert shown.count("tbody") == 1 + bool(page.printed) + bool(page.orderings)
    assert "nan" not in marked.lower().replace("fashion-mnist", "") and "nan%" not in render(page)
    said = "".join(shown.texts)
    assert text.shorten(conclusion(page), 2000) in re.sub(r"\s+", " ", said)


def test_the_table_says_what_the_study_measured():
    page = Page(render(table7()))
    for shown in (
        "7 of 10 hold",
        "64.9 63.7 to 66.1".replace(" 63", "63"),
        "88.47",
        "mean of 3 seeds, 95 % intervals below",
        "mixed better than synthetic, then real",
        "−0.5 (−0.9 to −0.1)",
        "+1.35",
        "22 minutes",
        "10,000",
        "real_weight: 1.0",
        "figment table he2023/table7",
        "32-pixel images of clothes",
    ):
        assert shown in page.text, shown
    states = [a["class"] for t, a in page.tags if t == "td" and (a.get("class") or "").startswith("state")]
    assert states == ["state reversed"] + 2 * ["state undecided"] + 7 * ["state holds"]
    assert page.count("svg", class_="plane") == 2 and page.count("section") == 6


def test_missing_cells_are_a_dash():
    page = Page(render(figure1()))
    dashes = [text for text in page.texts if text.strip() == text.strip("\n") == "–"]
    assert len(dashes) == 5 + 3
    assert markdown(figure1()).count("| – |") == 5 + 3


# ---- the conclusion --------------------------------------------------------------------------------------------------


def test_the_conclusion_counts_and_names_the_reversed():
    assert conclusion(table7()) == (
        "Of the 10 orderings looked at in He et al. 2023, Table 7, 7 hold here, 1 is reversed and 2 cannot be decided "
        "at this scale. Reversed: “synthetic, then real” is ahead of “mixed” by 0.5 points at “4 shots”."
    )
    assert conclusion(table2()).endswith("3 hold here and 1 cannot be decided at this scale.")
    assert conclusion(figure1()) == "No ordering of He et al. 2023, Figure 1 was looked at."


@pytest.mark.parametrize(
    "states, expected",
    [
        (["holds"], "The one ordering looked at in the paper holds here."),
        (
            ["reversed"],
            "The one ordering looked at in the paper is reversed. Reversed: “b” is ahead of “a” by 3.0 points at “c”.",
        ),
        (["undecided"], "The one ordering looked at in the paper cannot be decided at this scale."),
        (2 * ["holds"], "Both orderings looked at in the paper hold here."),
        (9 * ["undecided"], "All 9 orderings looked at in the paper cannot be decided at this scale."),
    ],
)
def test_the_conclusion_reads_well_for_any_count(states, expected):
    orderings = [replace(order("rows", "c", "a", "b", 1.0, -0.03), state=state) for state in states]
    assert conclusion(TablePage("t", "", "r", ["a", "b"], ["c"], {}, orderings=orderings)) == expected


def test_many_reversals_are_not_all_spelled_out():
    orderings = [order("columns", "r", "a", "b", 1.0, -0.03)] * 8
    said = conclusion(TablePage("t", "", "row", ["r"], ["a", "b"], {}, orderings=orderings))
    assert said.count("is ahead of") == 5 and said.endswith("; 3 more.")


def test_a_reversed_distance_is_told_in_its_own_unit():
    page = replace(fidelity(), orderings=[order("rows", "Fréchet distance", "LE", "B", 3.69, -0.0135, 0.004)])
    assert conclusion(page).endswith("“B” is ahead of “LE” by 0.0135 at “Fréchet distance”.")
    assert "−0.0135 (−0.0175 to −0.00950)" in markdown(page)


# ---- what is best ----------------------------------------------------------------------------------------------------


def test_the_best_of_a_column_is_the_lowest_where_lower_is_better():
    page = fidelity()
    assert best_cells(page) == {("LE", "Fréchet distance"), ("LE+CF", "CLIP accuracy")}
    assert best_printed(page) == {("B", "Fréchet distance"), ("LE+CF", "CLIP accuracy")}


def test_the_best_is_looked_for_where_the_orderings_are():
    assert best_cells(table2()) == {("Fashion-MNIST", "LE+CF, SCE")}
    assert best_printed(table2()) == {(name, "LE+CF, SCE") for name in ("CIFAR-10", "CIFAR-100", "EuroSAT")}
    assert ("mixed", "1 shot") in best_cells(table7()) and ("mixed", "4 shots") not in best_cells(table7())


def test_a_row_of_several_units_has_no_best():
    page = replace(fidelity(), orderings=[order("columns", "B", "CLIP accuracy", "Fréchet distance", 1.0, 0.1)])
    assert not best_cells(page)


# ---- the chart -------------------------------------------------------------------------------------------------------


def test_one_line_a_row_over_columns_that_are_numbers():
    drawn = pair(figure1())
    assert [line.name for line in drawn.ours] == list(dict.fromkeys(figure1().rows))
    assert sorted(drawn.ours[0].points) == [0, 1, 2, 4, 8, 16] and sorted(drawn.ours[1].points) == [1, 2, 4, 8, 16]
    assert drawn.printed[3].points[16].value == pytest.approx(0.6925) and drawn.printed[3].points[16].ci is None
    assert [line.look for line in drawn.printed] == [0, 1, 2, 3]  # a name looks the same in both


def test_the_lines_change_places_where_the_rows_are_numbers():
    cells = {(f"{n:,} images", c): cell(0.5 + n / 1e5) for n in (1000, 2000) for c in ("CE", "SCE")}
    page = TablePage(
        "t",
        "",
        "n",
        ["1,000 images", "2,000 images"],
        ["CE", "SCE"],
        cells,
        [Printed("4 k images", {"SCE": 70.0})],
    )
    drawn = pair(page)
    assert [(line.name, sorted(line.points)) for line in drawn.ours] == [("CE", [1000, 2000]), ("SCE", [1000, 2000])]
    assert [(line.name, line.look, sorted(line.points)) for line in drawn.printed] == [("SCE", 1, [4000])]


@pytest.mark.parametrize(
    "columns", [["a", "b"], ["CIFAR-10", "RN50"], ["1 shot", "b"], ["CE 16 shots", "SCE 16 shots"]]
)
def test_a_table_without_two_numbers_has_no_chart(columns):
    page = TablePage("t", "", "r", ["x"], columns, {("x", c): cell(0.5) for c in columns}, chart=True)
    assert pair(page) is None
    assert "plane" not in {a.get("class") for t, a in Page(render(page)).tags if t == "svg"}


def test_columns_of_another_unit_stay_out_of_the_chart():
    page = replace(table7(), plain=frozenset(["16 shots"]))
    assert 16 not in pair(page).ours[0].points and len(pair(page).ours[0].points) == 4


def test_lines_are_drawn_at_their_numbers_with_bands_and_gaps():
    marks = {0: charts.Mark(0.2, (0.1, 0.3), ""), 1: charts.Mark(0.4, (0.4, 0.4), ""), 4: charts.Mark(0.8, None, "")}
    line = charts.Line("a", marks, 1)
    other = charts.Line(
        "b", {0: charts.Mark(0.2, None, ""), 2: charts.Mark(math.nan, None, ""), 4: charts.Mark(0.2, None, "")}, 7
    )
    svg = charts.lines([line, other], "Both", 100)
    x = charts.doubling_axis([0, 1, 2, 4])
    markers = shapes(svg, "svg", "marker c1")
    assert [m["x"] for m in markers[:3]] == [f"{x(v)}%" for v in (0.5, 1, 4)]  # 0 stands one halving below 1
    (first,) = shapes(svg, "polyline", "line c1")[:1]
    assert len(first["points"].split()) == 2  # no value at 2, so no line from 1 to 4
    assert len(shapes(svg, "polygon", "band c1")) == 1
    assert "a: 20 at 0, 40 at 1, 80 at 4" in svg and "40 %" in svg and "nan%" not in svg


def test_twenty_lines_look_different():
    looks = {re.search(r'key (c\d).*<path d="([^"]+)"', charts.key(k)).groups() for k in range(30)}
    assert len(looks) == 30


def test_tick_labels_that_would_touch_are_left_out():
    line = charts.Line("a", {v: charts.Mark(0.5, None, "") for v in (1, 16, 80, 90, 95, 100)}, 0)
    ticks = re.findall(r'dy="20"[^>]*>([^<]+)<', charts.lines([line], "x"))
    assert ticks == ["100", "16", "1"]


# ---- texts from outside ----------------------------------------------------------------------------------------------


def hostile() -> TablePage:
    rows = [f"{k} {words}" for k, words in enumerate(HOSTILE)]
    columns = [
        "<script>alert(1)</script> 1",
        "a | b\nc 2",
        "\"><img src=x onerror='alert(2)'>",
        "`*_[x](http://y)_*` &amp;",
        "{{ 7 * 7 }} 8",
    ]
    bad = " ".join(HOSTILE[:4])
    return TablePage(
        bad,
        bad,
        bad,
        rows,
        columns,
        {(r, c): cell(0.5, note=bad) for r in rows for c in columns},
        [Printed(bad, dict.fromkeys(columns, 50.0))],
        lower_is_better=frozenset(columns[:1]),
        orderings=[
            order("rows", columns[0], rows[0], rows[1], 1.0, -0.05),
            order("columns", rows[2], columns[1], columns[2], 1.0, 0.05),
        ],
        notes=[bad],
        settings=f"{bad}\n```\n# not a heading\n",
        command=bad,
        source=bad,
        chart=True,
    )


def test_hostile_names_stay_text():
    html = render(hostile())
    page = Page(html)
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "iframe", "object", "link", "img", "b", "a"}
    assert not any(key.startswith("on") for _, attributes in page.tags for key in attributes)
    assert not any((a.get("src") or a.get("href")) for _, a in page.tags)
    assert "<script>alert(1)</script>" in page.text and "{{ 7 * 7 }}" in page.text
    assert "x" * 300 not in html and not set(html) & {"\x00", "\x07", "\x1b"}
    html.encode("utf-8")
    style = html[html.index("<style>") : html.index("</style>")]
    assert "url(" not in style and "@import" not in style


def test_hostile_names_stay_text_in_markdown():
    page = hostile()
    tokens = markdown_it.MarkdownIt("commonmark").enable("table").parse(markdown(page))
    assert not any(t.type.startswith("html") or t.type == "link_open" for t in tokens)
    inline = [child for t in tokens if t.children for child in t.children]
    assert not any(t.type in ("link_open", "image", "html_inline", "code_inline") for t in inline)
    tables = [[]]
    for t in tokens:
        if t.type == "table_open":
            tables.append([])
        tables[-1].append(t.type)
    ours, orderings = tables[1:]
    assert ours.count("td_open") == (len(page.rows) + 1) * 6 and orderings.count("td_open") == 2 * 5
    assert sum(t.type == "heading_open" for t in tokens) == 1
    assert sum(t.type == "fence" for t in tokens) == 2
    markdown(page).encode("utf-8")


def test_every_chart_has_words_for_those_who_do_not_see_it():
    html = render(table7())
    assert html.count('role="img"') == len(re.findall(r'role="img"[^>]*><title>[^<]', html)) == 12


# ---- the page as a file ----------------------------------------------------------------------------------------------


def test_write_replaces_the_page_whole(tmp_path):
    path = tmp_path / "new" / "table.html"
    write(table2(), path)
    write(table7(), path)
    assert path.read_bytes() == render(table7()).encode()
    assert [p.name for p in path.parent.iterdir()] == ["table.html"]


def test_cells_outside_the_table_and_names_given_twice_are_refused():
    with pytest.raises(ValueError, match="'typo'"):
        TablePage("t", "", "r", ["a"], ["b"], {("a", "typo"): cell(0.5)})
    with pytest.raises(ValueError, match="same name"):
        TablePage("t", "", "r", ["a", "a"], ["b"], {})


def test_a_table_without_anything_is_still_a_page():
    page = Page(render(TablePage("nothing yet", "", "r", ["a"], ["b"], {})))
    assert "Not compared" in page.text and page.count("section") == 3


@pytest.mark.parametrize(
    "seconds, expected", [(48, "48 s"), (1312, "22 minutes"), (9000, "2.5 hours"), (math.nan, "–")]
)
def test_durations_are_written_in_the_unit_that_suits(seconds, expected):
    assert text.duration(seconds) == expected


@pytest.mark.parametrize("value, expected", [(0.25, "0.250"), (-0.5, "−0.500"), (123.4, "123"), (math.inf, "–")])
def test_plain_numbers_keep_their_zeros(value, expected):
    assert text.plain(value) == expected


@pytest.mark.parametrize(
    "value, expected", [(0.5, "0.5"), (16, "16"), (2000, "2000"), (50_000, "50,000"), (1.2e6, "1.2 M")]
)
def test_quantities_are_short(value, expected):
    assert text.quantity(value) == expected

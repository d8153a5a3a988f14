from __future__ import annotations

import io
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from figment.report import charts, text
from figment.report.page import (
    NOT_MEASURED,
    Arm,
    Comparison,
    Conclusion,
    Counts,
    Curve,
    Model,
    Number,
    Report,
    Tile,
    render,
    thumbnail,
    write,
)
from figment.types import Result
from pages import HOSTILE, Page, shapes

NAMES = ["t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"]


def accuracy(value: float, half: float = 0.008, n: int = 10_000, **more) -> Result:
    return Result("top1", value, n, (value - half, value + half), **more)


def image(rng: np.random.Generator, side: int = 32) -> np.ndarray:
    """A blurry blob on a plain ground, so that an example page looks like something."""
    y, x = np.mgrid[:side, :side] / side
    blob = np.exp(
        -(((x - rng.uniform(0.3, 0.7)) / 0.25) ** 2 + ((y - rng.uniform(0.3, 0.7)) / rng.uniform(0.15, 0.4)) ** 2)
    )
    image = blob[..., None] * rng.uniform(90, 255, 3) + 12 * rng.standard_normal((side, side, 1))
    return image.clip(0, 255).astype(np.uint8)


def classes_result(value: float, names: list[str], rng: np.random.Generator, **more) -> Result:
    """An accuracy with everything the class-by-class section uses."""
    per_class = {name: float(np.clip(value + rng.normal(0, 0.1), 0.05, 0.98)) for name in names}
    ci = {name: [max(0.0, v - 0.03), min(1.0, v + 0.03)] for name, v in per_class.items()}
    confusion = []
    for k, name in enumerate(names):
        others = rng.dirichlet(np.full(len(names) - 1, 0.3)) * (1 - per_class[name])
        confusion.append([round(1000 * share) for share in np.insert(others, k, per_class[name])])
    details = {"per_class_ci": ci, "confusion": confusion, "per_seed": [value - 0.004, value + 0.001, value + 0.003]}
    return accuracy(value, per_class=per_class, details=details, **more)


def full_report(names: list[str] = NAMES, side: int = 32) -> Report:
    rng = np.random.default_rng(0)
    before = Arm("zero-shot", "CLIP as it is, names in 'a photo of a {}'", classes_result(0.712, names, rng))
    mixed = Arm(
        "synthetic",
        "head tuned on 6,412 generated images",
        classes_result(0.784, names, rng, seeds=(0, 1, 2)),
        accuracy(0.072, 0.014),
    )
    unfiltered = Arm(
        "synthetic, unfiltered", "the same without filters", accuracy(0.751, seeds=(0, 1, 2)), accuracy(0.039, 0.015)
    )
    worse = Arm(
        "basic prompts", "one template, no attributes", accuracy(0.706, seeds=(0, 1, 2)), accuracy(-0.006, 0.009)
    )
    shots = {1: 0.55, 2: 0.622, 4: 0.69, 8: 0.755, 16: 0.801, 32: 0.83, 64: 0.846}
    real = {
        k: accuracy(v, 0.03 / math.sqrt(k), details={"per_seed": [v - 0.012, v + 0.004, v + 0.008]})
        for k, v in shots.items()
    }
    kept = [
        Tile(thumbnail(image(rng, side)), name, f"a photo of a dark {name} with short sleeves")
        for name in names
        for _ in range(8)
    ]
    reasons = [
        ("looks like another class", {"margin": -0.123}),
        ("too like another image", {"cosine": 0.981}),
        ("blank", {"std": 0.4}),
    ]
    rejected = [
        Tile(thumbnail(image(rng, side)), names[k % len(names)], "a photo of a worn one", *reasons[k % 3])
        for k in range(9)
    ]
    return Report(
        title="Can generated images teach clothes?",
        verdict=Conclusion(
            "helps",
            "Tuning on generated images raised accuracy on 10,000 real test images from 71.2 % to 78.4 %, "
            "and the paired difference is clear of zero.",
            accuracy(0.072, 0.014),
            "The synthetic images were worth about 11 real photographs a class (95 % interval 8.2 to 15.1).",
        ),
        question=[
            ("Classes", ", ".join(names)),
            ("Prompts", "attributes: 20 a class from templates and word lists"),
            ("Generator", "figment starter (32 x 32 pixels), 25 DDIM steps, guidance 2.5"),
            ("Images", "8,000 attempted, 800 a class"),
            ("Filters", "blank, duplicate, clip (drop the worst 10 % of each class)"),
            ("Real test images", "10,000, read once"),
        ],
        arms=[before, mixed, unfiltered, worse],
        curve=Curve(real, mixed.result, 11.2, (8.2, 15.1)),
        caveats=[
            "The starter is a scale model: 32-pixel images of clothes. It shows that the method works, not what real models reach.",
            "The intervals cover the test images and three training seeds, but only one draw of synthetic images.",
        ],
        comparison=Comparison(before, mixed, names),
        kept=kept,
        rejected=rejected,
        counts=Counts(
            8000,
            12,
            [
                ("clip", "looks like another class", 801),
                ("duplicate", "too like another image", 633),
                ("blank", "blank", 142),
            ],
            6412,
            {name: 560 + 17 * k for k, name in enumerate(names)},
        ),
        history={
            "synthetic": [2.1 * 0.82**k + 0.3 for k in range(20)],
            "real": [1.6 * 0.75**k + 0.2 for k in range(20)],
        },
        command="figment run recipe.yaml --set task.real.test=photos/ --seed 0",
        python='import figment\n\nrun = figment.run("recipe.yaml")\nprint(run.verdict)',
        settings="task:\n  name: fashion\ngenerate:\n  model: starter\n  num_inference_steps: 25\n  guidance_scale: 2.5\n",
        provenance=[
            ("figment", "0.1.0"),
            ("torch", "2.15.0"),
            ("Device", "cpu, 2 cores"),
            ("Time", "3 min 12 s"),
            ("Peak memory", "1.2 GB"),
            ("Run fingerprint", "9f2c41d07ab3e655"),
        ],
        models=[
            Model("generator", "figment starter pipeline", "MIT", "41d07ab3e6559f2c"),
            Model("classifier", "figment starter CLIP", "MIT", "ab3e6559f2c41d07"),
        ],
    )


def test_the_full_page_is_well_formed_and_shows_the_numbers_it_was_given():
    page = Page(render(full_report()))
    for shown in (
        "Helps",
        "+7.2 points",
        "+5.8 to +8.6",
        "78.4 % (77.6 to 79.2)",
        "71.2 % (70.4 to 72.0)",
        "−0.6 (−1.5 to +0.3)",
        "10,000",
    ):
        assert shown in page.text, shown
    for shown in (
        "worth about 11 real photographs",
        "too like another image",
        "633",
        "7.9 %",
        "6,412",
        "cosine 0.981",
        "guidance_scale: 2.5",
    ):
        assert shown in page.text, shown
    assert page.count("img") == 10 * 8 + 9
    assert page.count("circle", class_="dot real") == 7
    assert page.count("section") == 13  # the verdict and all the others


def test_what_several_numbers_have_in_common_is_explained_once():
    also = [Number(f"gain {i}", "+1.0 points", 90, explains="What all gains mean.") for i in range(3)]
    also.append(Number("distance", "3.2", 90, explains="What a distance means."))
    page = Page(render(replace(full_report(), also=also)))
    assert page.text.count("What all gains mean.") == page.text.count("What a distance means.") == 1
    assert all(number.title in page.text for number in also)


def test_section_headings_match_the_contents():
    page = Page(render(full_report()))
    links = [a["href"] for t, a in page.tags if t == "a"]
    assert len(links) == 12
    assert links == [f"#{a['id']}" for t, a in page.tags if t == "h2" and a["id"] != "verdict"]


def test_every_image_and_chart_has_words_for_those_who_do_not_see_it():
    page = Page(render(full_report()))
    assert all(a["alt"] for t, a in page.tags if t == "img")
    html = render(full_report())
    assert html.count('role="img"') == len(re.findall(r'role="img"[^>]*><title>[^<]', html))


@pytest.mark.parametrize("title", ["nothing but a title", ""])
def test_a_page_without_measurements_says_so(title):
    page = Page(render(Report(title)))
    assert "Not measured: no real test images" in page.text
    assert page.count("section") == 1
    assert page.count("nav") == 0
    assert NOT_MEASURED.word == "not measured"


@pytest.mark.slow
def test_each_part_may_be_missing_and_may_say_why():
    full = full_report()
    empty = Report("x")
    for name in (
        "question",
        "arms",
        "curve",
        "caveats",
        "comparison",
        "kept",
        "rejected",
        "counts",
        "history",
        "settings",
    ):
        without = replace(full, **{name: getattr(empty, name)})
        assert f'id="{name}"' not in render(without)
        page = Page(render(replace(without, missing={name: "The dog ate it."})))
        assert "The dog ate it." in page.text
    no_exchange = replace(
        full, verdict=replace(full.verdict, exchange=""), missing={"exchange": "No real training images were given."}
    )
    assert "No real training images were given." in Page(render(no_exchange)).text


def test_parts_that_share_a_section_show_without_each_other():
    assert "print(1)" in Page(render(Report("x", python="print(1)"))).text
    assert "OpenRAIL" in Page(render(Report("x", models=[Model("generator", "sd", "OpenRAIL")]))).text


def test_a_reason_for_an_unknown_part_is_refused():
    with pytest.raises(ValueError, match="no part named \\['curves'\\]"):
        Report("x", missing={"curves": "typo"})


@pytest.mark.parametrize("word", ["helps", "hurts", "no evidence"])
def test_each_verdict_is_the_first_thing_said(word):
    page = Page(render(Report("x", Conclusion(word, "Because of this."))))
    assert word.capitalize() in page.text and "Because of this." in page.text
    assert page.count("section", class_=f"verdict {word.replace(' ', '-')}") == 1


def hostile_report() -> Report:
    """Every text on the page is an attack."""
    full = full_report(HOSTILE)
    bad = " ".join(HOSTILE[:4])
    result = full.arms[1].result
    arms = [Arm(bad, bad, result), Arm(HOSTILE[6], bad, result, accuracy(0.01))]
    return replace(
        full,
        title=bad,
        baseline=bad,
        verdict=replace(full.verdict, sentence=bad, exchange=bad),
        question=[(bad, bad)],
        arms=arms,
        comparison=Comparison(arms[0], arms[1], HOSTILE),
        caveats=[bad],
        kept=[replace(t, caption=bad) for t in full.kept],
        rejected=[replace(t, caption=bad, reason=bad, scores={bad: math.nan}) for t in full.rejected],
        counts=replace(full.counts, rejected=[(bad, bad, 3)]),
        history={bad: [1.0, math.inf, 0.5]},
        command=bad,
        python=bad,
        settings=bad,
        provenance=[(bad, bad)],
        models=[Model(bad, bad, bad, bad)],
        missing={"question": bad, "exchange": bad},
    )


def test_hostile_names_stay_text():
    html = render(hostile_report())
    page = Page(html)
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "iframe", "object", "link"}
    assert page.count("b") == page.text.count("asked for ")  # the page's own, none from a name
    assert not any(key.startswith("on") for _, attributes in page.tags for key in attributes)
    assert all(a["src"].startswith("data:image/png;base64,") for t, a in page.tags if t == "img")
    assert "<script>alert(1)</script>" in page.text
    assert "{{ 7 * 7 }}" in page.text
    assert "x" * 300 not in html
    assert not set(html) & {"\x00", "\x07", "\x1b"}
    html.encode("utf-8")  # no half surrogates


def test_the_page_loads_nothing_and_runs_nothing():
    html = render(full_report())
    page = Page(html)
    for tag, attributes in page.tags:
        for key in ("src", "href", "srcset", "data", "action", "xlink:href", "poster"):
            value = attributes.get(key) or ""
            assert value.startswith(("#", "data:")) or not value, f"<{tag} {key}={value!r}>"
    style = html[html.index("<style>") : html.index("</style>")]
    assert "url(" not in style and "@import" not in style
    assert "http:" not in html and "https:" not in html
    assert page.count("script") == 0


def test_a_confusion_matrix_of_the_wrong_size_is_refused():
    report = full_report()
    with pytest.raises(ValueError, match="10 rows, but there are 9 class names"):
        render(replace(report, comparison=replace(report.comparison, class_names=NAMES[:9])))


def test_write_replaces_the_page_whole(tmp_path):
    path = tmp_path / "new" / "report.html"
    write(Report("first"), path)
    write(Report("sécond"), path)
    assert path.read_bytes() == render(Report("sécond")).encode()
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


def test_a_page_that_cannot_be_made_leaves_the_old_one(tmp_path):
    path = tmp_path / "report.html"
    write(Report("first"), path)
    report = full_report()
    with pytest.raises(ValueError, match="10 rows, but there are 9 class names"):
        write(replace(report, comparison=replace(report.comparison, class_names=NAMES[:9])), path)
    assert "first" in path.read_text()


# ---- the numbers behind the page -------------------------------------------------------------------------------------


def test_thumbnails_shrink_and_never_grow():
    large = thumbnail(np.full((300, 512, 3), 7, np.uint8))
    pixels = Image.open(io.BytesIO(large.file))
    assert (large.format, large.width, large.height) == ("jpeg", 128, 75) and pixels.size == (128, 75)
    assert pixels.format == "JPEG" and pixels.getpixel((5, 5)) == (7, 7, 7)
    one = image(np.random.default_rng(1))
    small = thumbnail(one)
    assert small.format == "png" and np.array_equal(np.asarray(Image.open(io.BytesIO(small.file))), one)


@pytest.mark.parametrize(
    "height, width, shown",
    [(32, 32, (64, 64)), (28, 28, (84, 84)), (32, 16, (32, 64)), (128, 96, (96, 128)), (64, 64, (64, 64))],
)
def test_small_images_are_enlarged_by_a_whole_number(height, width, shown):
    page = Page(render(Report("x", kept=[Tile(thumbnail(np.zeros((height, width, 3), np.uint8)), "coat")])))
    (image,) = [a for t, a in page.tags if t == "img"]
    assert (int(image["width"]), int(image["height"])) == shown
    assert image["class"] == ("small" if max(height, width) <= 64 else "large")


# ---- text ------------------------------------------------------------------------------------------------------------


def test_numbers_are_written_one_way():
    assert text.interval(Result("top1", 0.784, 10, (0.776, 0.792))) == "78.4 % (77.6 to 79.2)"
    assert text.points_interval(Result("top1", -0.0123, 10, (-0.02, 0.0004))) == "−1.2 points (−2.0 to 0.0)"
    assert text.percent(1.0) == "100.0 %"
    assert text.percent(math.nan) == text.signed(math.inf) == text.loss(math.nan) == "–"


def test_shorten_counts_columns_and_keeps_one_line():
    assert text.shorten("a \n\t b") == "a b"
    assert text.shorten("x" * 40) == "x" * 40
    assert text.shorten("x" * 41) == "x" * 39 + "…"
    assert text.width(text.shorten("外" * 10_000)) <= 40
    assert text.shorten("\ud83d\x00") == "\ufffd\ufffd"


# ---- charts ----------------------------------------------------------------------------------------------------------


def test_half_lies_in_the_middle_of_nought_to_one():
    axis = charts.linear_axis([0.0, 1.0])
    assert (axis.low, axis.high) == (0.0, 1.0)
    svg = charts.whiskers(axis, [charts.Mark(0.5, (0.25, 0.75), "after")], "half")
    (dot,) = shapes(svg, "circle", "dot after")
    (whisker,) = shapes(svg, "line", "whisker after")
    assert (dot["cx"], dot["cy"]) == ("50.0%", "50.0%")
    assert (whisker["x1"], whisker["x2"]) == ("25.0%", "75.0%")


@pytest.mark.parametrize(
    "values", [[0.712, 0.784], [0.5], [0.0], [1.0], [0.1, 0.1000001], [-0.02, 0.05], [2.1e-5, 3e5], [math.nan], []]
)
def test_an_axis_holds_its_values_between_round_ticks(values):
    axis = charts.linear_axis(values)
    finite = [v for v in values if math.isfinite(v)]
    assert all(axis.low - 1e-9 <= v <= axis.high + 1e-9 for v in finite)
    assert 2 <= len(axis.ticks) <= 8 and axis(axis.low) == 0 and axis(axis.high) == 100
    assert np.allclose(np.diff(axis.ticks), axis.ticks[1] - axis.ticks[0])


def test_values_outside_an_axis_are_drawn_at_its_ends():
    axis = charts.linear_axis([0.0, 1.0])
    assert axis(-3) == 0 and axis(math.inf) == 100


def test_each_doubling_of_shots_takes_the_same_room():
    axis = charts.shots_axis([1, 2, 4, 8])
    steps = np.diff([axis(s) for s in (1, 2, 4, 8)])
    assert np.allclose(steps, steps[0], atol=1e-2) and axis(0) == 0 and axis(math.inf) == 100


def test_the_crossing_is_drawn_where_the_lines_meet():
    real = {1: accuracy(0.2, 0.0), 4: accuracy(0.4, 0.0), 16: accuracy(0.6, 0.0)}
    svg = charts.learning_curve(real, accuracy(0.5, 0.1), 8.0, (4.0, math.inf))
    (cross,), (level,), (reach,) = (
        shapes(svg, "circle", "cross"),
        shapes(svg, "line", "level"),
        shapes(svg, "line", "reach"),
    )
    x = charts.shots_axis([1, 4, 16])
    assert cross["cx"] == f"{x(8)}%" and cross["cy"] == level["y1"] == level["y2"]
    assert reach["x1"] == f"{x(4)}%" and reach["x2"] == "100.0%"
    y = [float(dot["cy"][:-1]) for dot in shapes(svg, "circle", "dot real")]
    assert float(level["y1"][:-1]) == pytest.approx((y[1] + y[2]) / 2)  # 0.5 lies midway between 0.4 and 0.6
    assert y[0] > y[1] > y[2]  # down the page is up in percent
    assert "worth 8.0 a class" in svg


def test_a_curve_without_a_crossing_or_a_synthetic_level_is_still_drawn():
    real = {4: accuracy(0.5)}
    assert not shapes(charts.learning_curve(real, accuracy(0.9)), "circle", "cross")
    assert not shapes(charts.learning_curve(real), "line", "level")


def test_a_loss_that_is_not_a_number_leaves_a_gap():
    svg = charts.history({"loss": [3.0, 2.0, math.nan, 1.0, 0.5]})
    assert [len(s["points"].split()) for s in shapes(svg, "polyline", "line after dash0")] == [2, 2]
    assert "nan" not in svg.lower()
    assert "from 3 to 0.5" in svg
    assert shapes(charts.history({"one epoch": [1.0]}), "circle", "dot after")


def test_the_heatmap_colours_a_cell_by_its_share_of_the_row():
    svg = charts.heatmap([[75, 25], [0, 10]], ["cat", "dog"])
    (first, last), (wrong, none) = shapes(svg, "rect", "right"), shapes(svg, "rect", "wrong")
    assert first["fill-opacity"] == "0.866" and last["fill-opacity"] == "1.000" and wrong["fill-opacity"] == "0.500"
    assert none["fill-opacity"] == "0.030"
    assert wrong["y"] == first["y"] and wrong["x"] == last["x"]  # row = true class, column = predicted
    assert "cat taken for dog: 25 of 100 (25.0 %)" in svg


def test_the_stacked_bar_fills_its_width():
    svg = charts.shares([("kept", 60, "kept"), ("rejected", 30, "rejected"), ("failed", 10, "failed")])
    (kept,), (rejected,), (failed,) = (shapes(svg, "rect", kind) for kind in ("kept", "rejected", "failed"))
    assert (kept["x"], kept["width"]) == ("0.000%", "60.000%")
    assert rejected["x"] == "60.000%" and (failed["x"], failed["width"]) == ("90.000%", "10.000%")


def test_every_verdict_has_a_background():
    """Its text is white: a word without a colour of its own once was white on white."""
    css = (Path(charts.__file__).parent / "style.css").read_text(encoding="utf-8")
    assert re.search(r"^\.verdict \{ background: var\(--no-evidence\)", css, re.MULTILINE)

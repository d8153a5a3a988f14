"""Tables with a reference: which rows take less time to make and are as good."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from figment.errors import FigmentError
from figment.evaluate.accuracy import paired_difference
from figment.recipe import Recipe, validate
from figment.recipe.table import Table
from figment.report.table import Cell, markdown, render
from figment.studies.measured import Measured
from figment.studies.reference import answer, compared
from figment.studies.table import read_table, run_table
from figment.studies.table_forecast import forecast_table
from figment.types import Result

NAMES = ["red thing", "green thing", "blue thing"]


def right(share: float, n: int = 10_000, seeds: int = 3) -> np.ndarray:
    """Which test images each seed has right, float (S, n): nested, so that pairs differ as little as they can."""
    return np.stack([np.arange(n) < round(share * n) for _ in range(seeds)]).astype(float)


def cells_of(**rows: tuple[float, float | None]) -> dict:
    """row -> (share that is right, seconds an image)."""
    made = {}
    for row, (share, seconds) in rows.items():
        found = right(share)
        results = [Result("top1/synthetic", float(own.mean()), len(own), (0.0, 1.0)) for own in found]
        made[row, "CAS"] = Measured(results, found, seconds=seconds)
    return made


def shown_of(cells: dict) -> dict:
    return {place: Cell(cell.value, (cell.value - 0.01, cell.value + 0.01)) for place, cell in cells.items()}


def table_of(rows, margin: float = 1.0, reference: str = "slow") -> Table:
    return Table(
        title="Which",
        rows={row: {} for row in rows},
        columns={"CAS": {}},
        reference={"row": reference, "margin": margin},
    )


def test_a_row_is_as_good_where_the_lower_end_of_its_difference_is_above_the_margin():
    cells = cells_of(slow=(0.80, 1.0), quick=(0.798, 0.25), poor=(0.70, 0.1), edge=(0.7905, 0.5), untimed=(0.81, None))
    found = {c.row: c for c in compared(table_of(["slow", "quick", "poor", "edge", "untimed"]), cells)}
    assert list(found) == ["quick", "poor", "edge", "untimed"]
    for row, c in found.items():
        paired = paired_difference(cells["slow", "CAS"].right, cells[row, "CAS"].right)
        assert (c.difference, c.ci) == (paired.value, paired.ci)
        assert c.as_good == (paired.ci[0] > -0.01)
    assert [row for row, c in found.items() if c.as_good] == [
        "quick",
        "untimed",
    ]  # the edge loses .95 and may lose more
    assert found["quick"].times == pytest.approx(4) and found["untimed"].times is None
    wide = {c.row: c.as_good for c in compared(table_of(["slow", "edge"], margin=2.0), cells)}
    assert wide == {"edge": True}


def test_the_answer_is_the_soonest_made_of_those_that_are_as_good():
    cells = cells_of(slow=(0.80, 1.0), quick=(0.80, 0.25), quicker=(0.70, 0.1), better=(0.83, 2.0))
    said = answer(table_of(["slow", "quick", "quicker", "better"]), cells, shown_of(cells))
    assert said.headline == "quick: 4.0 times as fast as slow, and as good" and said.tone == "helps"
    assert any(s.startswith("Surely better: better; better by +3.0 points") for s in said.sentences)
    assert "As good: quick, better." in said.sentences
    assert {d.name: d.kind for d in said.dots} == {"slow": "rival", "quick": "best", "quicker": "", "better": ""}
    none = answer(table_of(["slow", "quicker"]), cells, shown_of(cells))
    assert none.headline == "Nothing that is made sooner is as good as slow" and none.tone == "no-evidence"


def test_a_row_that_needs_more_images_is_as_fast_as_all_of_them_are_made():
    cells = cells_of(slow=(0.80, 1.0), quick=(0.80, 0.5), even=(0.80, 0.97))
    cells["quick", "CAS"] = replace(cells["quick", "CAS"], images=2)
    found = {c.row: c.times for c in compared(table_of(["slow", "quick", "even"]), cells)}
    assert found["quick"] == pytest.approx(1.0)
    said = answer(table_of(["slow", "quick", "even"]), cells, shown_of(cells))
    assert said.headline.startswith("Nothing that is made sooner")  # three hundredths are the machine's mood


def test_without_times_nothing_is_called_fast():
    cells = cells_of(slow=(0.80, None), quick=(0.80, 0.25))
    assert answer(table_of(["slow", "quick"]), cells, shown_of(cells)).headline.startswith(
        "Nothing that is made sooner"
    )


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"reference": {"row": "none"}}, "reference.row is 'none'; it must be one of several rows"),
        ({"reference": {"row": "plain", "margin": 0}}, "margin"),
        ({"reference": {"row": "plain"}, "columns": {"distance": {"metric": "frechet"}}}, "which shows frechet"),
        ({"reference": {"row": "plain"}, "rows": {"plain": {}}}, "one of several rows"),
        (
            {"reference": {"row": "plain"}, "rows": {"plain": {}, "other": {"metric": "frechet"}}},
            "shows frechet, top1/synthetic",
        ),
        (
            {"reference": {"row": "plain"}, "rows": {"plain": {}, "other": {"metric": "top5/synthetic"}}},
            "one score for all rows",
        ),
        (
            {"reference": {"row": "plain"}, "rows": {"plain": {}, "other": {"task.templates": ["a {}"]}}},
            "'other' changes the task",
        ),
    ],
)
def test_what_cannot_be_compared_is_said(recipe, table, said):
    with pytest.raises(FigmentError, match=said):
        recipe(table)


@pytest.fixture
def recipe(clip, photos):
    def make(table: dict | None = None) -> Recipe:
        rows = {"plain": {}, "larger": {"generate.height": 28}}
        base = {"title": "Which", "seeds": 2, "rows": rows, "columns": {"CAS": {}}, "reference": {"row": "plain"}}
        network = {
            "kind": "network",
            "architecture": "small_cnn",
            "image_size": 8,
            "batch_size": 6,
            "steps": 4,
            "seeds": 1,
        }
        data = {
            "task": {"class_names": NAMES, "real": {split: str(photos / split) for split in ("train", "test")}},
            "prompts": {"kind": "templates"},
            "generate": {"kind": "procedural", "height": 24, "width": 20, "images_per_class": 4},
            "encoder": str(clip),
            "filters": [],
            "train": network,
            "table": {**base, **(table or {})},
        }
        return validate(data, "test")

    return make


@pytest.mark.slow
def test_a_run_of_it_says_so_on_the_page_in_markdown_and_when_read_again(recipe, tmp_path):
    asked = recipe()
    assert "Compared with 'plain': 1 other row;" in forecast_table(asked, tmp_path / "run").text
    page = run_table(asked, tmp_path / "run")
    (larger,) = page.compared
    assert larger.row == "larger" and larger.seconds > 0 and larger.times > 0
    assert page.answer is not None and page.answer.question == "What is made sooner and as good as plain?"
    assert read_table(tmp_path / "run").compared == [larger]
    assert "| row | points (95 % interval) | s an image | images | times as fast | as good |" in markdown(page)
    assert "Row by row" in render(page) and "times as fast" in render(page)

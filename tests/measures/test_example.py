"""A metric of one's own costs one new file: recipe, table, report, docs and CSV take it from there."""

from __future__ import annotations

import csv
import sys

import pytest

from figment import measures
from figment.errors import FigmentError
from figment.measures import check
from figment.recipe import validate
from figment.run import run_recipe
from figment.studies.table import run_table

NAMES = ["red thing", "green thing", "blue thing"]
SPREAD = """
import numpy as np
from figment.measures import Measure, Metric
from figment.types import Result


def take(trial):
    grey = np.array([image.mean() for image in trial.kept.load(range(len(trial.kept)))])
    half = grey.std() / np.sqrt(len(grey))
    yield Result("spread", grey.std(), len(grey), (grey.std() - half, grey.std() + half), details={"levels": 256})


MEASURE = Measure(
    name="spread",
    explains="How much the kept images differ in brightness.",
    metrics=(Metric("spread", "spread of brightness", "plain", what="of {levels} levels", lower_is_better=True),),
    take=take,
)
"""


@pytest.fixture
def spread(tmp_path, monkeypatch):
    """The one new file."""
    (tmp_path / "new" / "spread.py").parent.mkdir()
    (tmp_path / "new" / "spread.py").write_text(SPREAD)
    monkeypatch.setattr(measures, "__path__", [*measures.__path__, str(tmp_path / "new")])
    yield
    sys.modules.pop("figment.measures.spread", None)
    vars(measures).pop("spread", None)


@pytest.fixture
def recipe(clip, photos):
    def make(**changes):
        data = {
            "task": {"class_names": NAMES, "real": {split: str(photos / split) for split in ("train", "test")}},
            "prompts": {"kind": "templates"},
            "generate": {"kind": "procedural", "images_per_class": 4, "height": 24, "width": 20},
            "filters": [],
            "train": {"encoder": str(clip), "epochs": 1, "seeds": 1},
            "evaluate": {"exchange_rate": False, "real_all": False, "measures": ["spread"]},
        }
        return validate({**data, **changes}, "test")

    return make


def test_without_its_file_the_name_is_unknown(recipe):
    with pytest.raises(FigmentError, match="no measure 'spread'"):
        check(recipe(), {})


def test_a_run_shows_it_in_the_report_and_in_the_csv(spread, recipe, tmp_path):
    outcome = run_recipe(recipe(), tmp_path / "run")
    value = outcome.results["spread"].value
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "spread of brightness" in page and "of 256 levels" in page and "differ in brightness" in page
    assert f"{value:#.3g}".removesuffix(".") in page
    with (tmp_path / "run" / "results.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["metric"]: row for row in csv.DictReader(file)}
    assert set(rows) == set(outcome.results) and float(rows["spread"]["value"]) == value
    assert (rows["spread"]["title"], rows["spread"]["unit"]) == ("spread of brightness", "plain")


def test_a_table_and_the_documentation_show_it(spread, recipe, tmp_path):
    columns = {"accuracy": {}, "brightness": {"metric": "spread"}}
    own = {"title": "t", "rows": {"a": {}}, "columns": columns, "seeds": 2}
    page = run_table(recipe(table=own, evaluate={}), tmp_path / "table")
    assert page.cells["a", "brightness"].n == 12 and page.plain == page.lower_is_better == {"brightness"}
    assert "| `spread` | spread of brightness | plain | lower |" in measures.documentation()


def test_a_measure_that_gives_what_it_does_not_describe_is_named(spread, recipe, tmp_path):
    file = tmp_path / "new" / "spread.py"
    file.write_text(SPREAD.replace('Result("spread"', 'Result("width"'))
    with pytest.raises(FigmentError, match="'spread' gave 'width', which is not among its metrics: spread"):
        run_recipe(recipe(), tmp_path / "run")

"""Scaling studies: what is compared, what is shared, and what the page says."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from counting import counting
from figment.cli.show import print_table
from figment.errors import FigmentError
from figment.recipe import Recipe, validate
from figment.recipe.scaling import Scaling
from figment.recipe.table import Table
from figment.studies.measured import Measured
from figment.studies.scaling import answer, plan
from figment.studies.table import read_table, run_table, table_runs
from figment.studies.table_forecast import forecast_table
from figment.types import Result
from figment.verify import verify

NAMES = ["red thing", "green thing", "blue thing"]


@pytest.fixture
def recipe(clip, photos):
    def make(scaling: dict | None = None, train: dict | None = None, **changes) -> Recipe:
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
            "generate": {"kind": "procedural", "height": 24, "width": 20},
            "encoder": str(clip),
            "filters": [],
            "train": network if train is None else train,
            "table": {
                "title": "How much",
                "seeds": 1,
                "scaling": {"real": [2, 4], "times": [0, 1, 3], **(scaling or {})},
            },
        }
        return validate(data, "test").changed(changes)

    return make


def test_cells_are_nested_beginnings_of_one_set(recipe):
    runs = {cell: own for group, _, own in table_runs(recipe()) for cell in group.cells}
    assert set(runs) == {(f"{n} real a class", column) for n in (2, 4) for column in ("0x", "1x", "3x")}
    for (row, column), own in runs.items():
        real, times = int(row.split()[0]), int(column[0])
        assert own.few_shot is not None and own.few_shot.shots == real
        assert own.train.images_per_class == real * (
            times or 1
        )  # real images alone are a number of the run beside them
        assert own.generate.images_per_class == 12 and own.train.steps == 4
    metrics = {cell: metric for group, _, _ in table_runs(recipe()) for cell, metric in group.cells.items()}
    assert {cell for cell, metric in metrics.items() if metric == "top1/real_only"} == {c for c in runs if c[1] == "0x"}
    assert len({id(group) for group, _, _ in table_runs(recipe())}) == 4


@pytest.mark.parametrize(
    ("scaling", "said"),
    [
        ({"real": [4, 2]}, "real must rise"),
        ({"real": [2, 2]}, "real must rise"),
        ({"times": [1, 1]}, "times must rise"),
        ({"times": [0]}, "times"),
        ({"real": []}, "real"),
        ({"real": [0]}, "real"),
        ({"times": [-1, 1]}, "times"),
        ({"real": [1], "times": [0, 0.1, 0.2, 1]}, "some are the same number"),
        ({"real": [1000], "times": [9999.01, 9999.012]}, "some are the same number"),
        ({"worth": 0}, "worth"),
        ({"block": 0}, "block"),
    ],
)
def test_studies_that_are_none(recipe, scaling, said):
    with pytest.raises(FigmentError, match=said):
        recipe(scaling)


def test_trainings_must_be_equally_long_and_a_table_is_of_one_kind(recipe):
    with pytest.raises(FigmentError, match="give train.steps"):
        recipe(train={"kind": "network", "architecture": "small_cnn", "image_size": 8, "epochs": 2})
    with pytest.raises(FigmentError, match="or take a learner in closed form"):
        recipe(train={"kind": "clip_head", "epochs": 2})
    assert recipe(train={"kind": "words_and_images"}).table.scaling is not None
    for given in ({"rows": {"a": {}}, "columns": {"b": {}}}, {"sweep": None, "scaling": None}, {"rows": {"a": {}}}):
        with pytest.raises(FigmentError, match=r"give table\.rows and table\.columns, or table\.scaling alone"):
            recipe().changed({f"table.{name}": value for name, value in given.items()})


@pytest.mark.parametrize("metric", ["top5/synthetic", "frechet", "gain/synthetic", "top1/real_all"])
def test_of_what_no_curve_can_be_drawn(recipe, metric):
    with pytest.raises(FigmentError, match=f"table.metric is top1/synthetic, and not '{metric}'"):
        recipe().changed({"table.metric": metric})


@pytest.mark.slow
def test_a_study_from_its_plan_to_its_page(recipe, tmp_path, capsys):
    own = recipe(scaling={"real": [2], "worth": 5.0, "block": 3})
    said = forecast_table(own, tmp_path).text
    assert "6 real images x 0x, 1x, 3x generated ones, nested and balanced by class, each of 4 steps" in said
    assert "enough is where 3 more images bring less than 5 points" in said and "(0, 6, 18 beside" in said
    with counting() as spent:
        page = run_table(own, tmp_path)
    assert spent.made == 18  # once, for all cells
    assert page.answer is not None and page.answer.headline.startswith("Best: ")
    sentence, chosen = page.answer.sentences
    assert "2 real a class: " in sentence and "Stopping rule: " in sentence
    assert read_table(tmp_path) == page and verify(tmp_path).ok
    results = [json.loads(line) for path in tmp_path.glob("cells/*/seed-0/results.jsonl") for line in path.open()]
    steps = {r["details"]["steps"] for r in results if r["metric"] == "top1/synthetic"}
    images = {r["details"]["images"] for r in results if r["metric"] == "top1/synthetic"}
    assert steps == {4} and images == {6, 18}
    (note,) = [note for note in page.notes if "Training recipes" in note]
    learner = {r["details"]["learner"][:12] for r in results if r["metric"] == "top1/synthetic"}
    assert len(learner) == 1 and f"small_cnn {learner.pop()}" in note
    print_table(page, tmp_path)
    assert page.answer.headline in capsys.readouterr().out
    assert forecast_table(own, tmp_path).text.splitlines()[-2:] == [
        sentence,
        chosen,
    ]  # the next plan knows what the last study said


def planted(shares: dict[str, list[float]], images=(0, 60, 300), n=600) -> tuple[Table, dict]:
    """A table and its cells: so many of ``n`` test images right, the same ones first."""
    real = [int(row) for row in shares]
    table = Table(title="x", seeds=2, scaling=Scaling(real=real, times=[0, 1, 5], worth=0.2, block=100)).laid_out()
    cells = {}
    for row, own in zip(table.rows, shares.values(), strict=True):
        for column, share, k in zip(table.columns, own, images, strict=True):
            right = np.array([np.arange(n) < math.floor(share * n)] * 2, float)
            results = [Result("top1/synthetic", share, n, (0, 1), details={"images": k})] * 2
            cells[row, column] = Measured(results, right)
    return table, cells


@pytest.mark.parametrize(
    ("shares", "tone", "parts"),
    [
        (
            {"20": [0.5, 0.8, 0.9]},
            "helps",
            ["5x or more beside 20", "whether more would help further is open", "every block"],
        ),
        (
            {"20": [0.5, 0.8, 0.7]},
            "helps",
            ["1x beside 20", "from 60 images on, 100 more bring −4.17", "nothing later"],
        ),
        ({"20": [0.8, 0.6, 0.5]}, "hurts", ["0x beside 20", "From 60 images on (1x) it is surely worse"]),
        ({"20": [0.8, 0.8, 0.2]}, "no-evidence", ["0x beside 20", "From 300 images on (5x)"]),
        ({"20": [0.5, 0.5, 0.9]}, "helps", ["5x or more", "too early", "40.0 points were missed"]),
        ({"20": [0.5, 0.9, 0.6], "50": [0.9, 0.5, 0.2]}, "helps", ["Best: 1x beside 20, 0x beside 50 real a class"]),
    ],
)
def test_what_a_study_says(shares, tone, parts):
    told = answer(*planted(shares), classes=3)
    text = " ".join([told.headline, *told.sentences])
    assert told.tone == tone and all(part in text for part in parts), text
    assert (
        "chosen on these test images" in told.sentences[-1]
    )  # the best of numbers that do the same gains all the same


def test_filters_that_leave_too_few_make_no_second_point():
    told = answer(*planted({"20": [0.5, 0.8, 0.9]}, images=(0, 60, 60)), classes=3)
    assert "5x" not in told.headline + told.sentences[0]
    table, cells = planted({"20": [0.5, 0.8, 0.9]}, images=(0, 0, 0))
    told = answer(table, cells, classes=3)
    assert told.tone == "not-measured" and "chosen" not in " ".join(told.sentences)


def test_a_block_is_as_many_images_as_there_are_real_ones(recipe):
    """At ImageNet's size a hundred images bring nothing that can be seen, so that a rule by the hundred would always stop at none."""
    scaling = Scaling(real=[20], times=[0, 1, 5])
    assert (scaling.block_beside(60), Scaling(real=[20], times=[0, 1], block=100).block_beside(60)) == (60, 100)
    table, cells = planted({"20": [0.5, 0.8, 0.81]})
    table = table.model_copy(update={"scaling": scaling.model_copy(update={"times": [0.0, 1.0, 5.0], "worth": 1.0})})
    sentence = answer(table, cells, classes=3).sentences[0]
    assert "from 60 images on, 60 more bring 0.25 points" in sentence  # 240 images are four blocks
    own = recipe(scaling={"real": [2]})
    assert "enough is where as many images as there are real ones bring less than 0.2 points" in plan(own)

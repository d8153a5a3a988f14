"""Reports of runs whose learner has no zero-shot classifier, no head and no encoder; old names; the CSV."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from damage import flip
from figment import records
from figment.errors import FigmentError
from figment.recipe import validate
from figment.report.csv import write_results
from figment.report.folder import report_of
from figment.report.page import render
from figment.report.results import latest_results, read_results
from figment.report.text import count, in_unit, measured
from figment.run import run_recipe
from figment.types import Result
from pages import Page

NAMES = ["red thing", "green thing", "blue thing"]


@pytest.fixture(scope="module")
def run(clip, photos, tmp_path_factory):
    """A run that measured everything."""
    data = {
        "name": "main",
        "task": {"class_names": NAMES, "real": {split: str(photos / split) for split in ("train", "test")}},
        "prompts": {"kind": "templates"},
        "generate": {"kind": "procedural", "images_per_class": 4, "height": 24, "width": 20},
        "filters": [],
        "few_shot": {"shots": 2},
        "train": {"encoder": str(clip), "epochs": 1, "min_steps": 20, "seeds": 2},
        "evaluate": {"exchange_rate": False, "measures": ["frechet", "recognisability"]},
    }
    folder = tmp_path_factory.mktemp("runs") / "run"
    run_recipe(validate(data, "test"), folder)
    return folder


@pytest.fixture
def as_network(run, tmp_path):
    """The same folder as a network's training would leave it, with only the results of these metrics."""

    def make(*metrics: str):
        folder = tmp_path / "network"
        for path in run.rglob("*"):
            if path.is_file() and path.name not in ("head.json", "head.safetensors"):
                (folder / path.relative_to(run)).parent.mkdir(parents=True, exist_ok=True)
                (folder / path.relative_to(run)).write_bytes(path.read_bytes())
        recipe = yaml.safe_load((run / "resolved.yaml").read_text())
        recipe["train"] = {"kind": "network", "architecture": "resnet18", "seeds": 2}
        (folder / "resolved.yaml").write_text(yaml.safe_dump(recipe))
        found = records.read(folder / "model")
        facts = {key: found.data[key] for key in ("seconds", "peak_memory_mb", "versions")}
        found.record.finish({}, learner="resnet18, from scratch", counts={"kept": 12}, **facts)
        lines = [
            line for line in (run / "results.jsonl").read_text().splitlines() if json.loads(line)["metric"] in metrics
        ]
        (folder / "results.jsonl").write_text("\n".join(lines) + "\n")
        records.vouch(folder, ["resolved.yaml", "results.jsonl"])
        return folder

    return make


def test_a_run_that_has_nothing_to_compare_with_says_how_often_it_is_right(as_network):
    folder = as_network("top1/synthetic", "top1/real_all", "frechet")
    report = report_of(folder)
    share = f"{100 * latest_results(folder)['top1/synthetic'].value:.1f} %"
    assert report.verdict.word == "not judged" and report.verdict.difference is None
    assert f"The model is right on {share} of the real test images; guessing would be 33.3 %" in report.verdict.sentence
    assert [arm.name for arm in report.arms] == ["main", "all real images"] and report.baseline == ""
    assert all(arm.difference is None for arm in report.arms)
    assert [row.title for row in report.also] == ["Fréchet distance"]
    assert (
        report.models[1].name == "resnet18, from scratch"
        and dict(report.question)["Classifier"] == "resnet18, from scratch, 2 seeds"
    )
    page = render(report)
    assert Page(page).count("section", class_="verdict not-judged") == 1  # and every tag is closed
    assert "Not judged" in page and "Against" not in page and "zero-shot" not in page.lower()
    assert "goes wrong" in page


def test_few_real_images_are_what_the_recipe_is_compared_with(as_network):
    report = report_of(as_network("top1/synthetic", "top1/real_only", "gain/over_real_only"))
    assert report.baseline == "real images alone" and report.verdict.word == "not judged"
    assert [arm.name for arm in report.arms] == ["real images alone", "main"]
    assert report.arms[1].difference is not None and report.comparison is not None
    assert report.comparison.before is report.arms[0]
    assert "real images alone" in render(report)


def test_a_run_without_accuracies_shows_what_else_was_measured(as_network):
    report = report_of(as_network("frechet"))
    assert report.verdict.word == "not measured" and not report.arms and len(report.also) == 1
    assert " to " in report.also[0].value and "real ones, in 32 dimensions" in report.also[0].what


@pytest.mark.parametrize("name", ["results.jsonl", "resolved.yaml"])
def test_nothing_is_shown_of_a_file_that_was_changed(run, tmp_path, name):
    """Whoever only reads does not show a number that nobody measured."""
    folder = Path(shutil.copytree(run, tmp_path / "run"))
    path = folder / name
    for position in np.linspace(0, path.stat().st_size - 1, 20).astype(int):
        flip(path, position)
        with pytest.raises(FigmentError, match=f"{path.name} cannot be read: it was changed since it was written"):
            report_of(folder)
        flip(path, position)
    assert report_of(folder).verdict == report_of(run).verdict


def test_results_of_version_0_1_are_read_under_their_new_names(run, tmp_path):
    lines = [json.loads(line) for line in (run / "results.jsonl").read_text().splitlines()]
    for line in lines:
        line["metric"] = line["metric"].replace("recognisability", "recognised")
        if "images" in line["details"]:
            line["details"]["pictures"] = line["details"].pop("images")
    (tmp_path / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert read_results(tmp_path) == read_results(run)


def test_the_csv_has_every_result_and_no_formula(tmp_path):
    results = {
        "exchange_rate": Result("exchange_rate", float("inf"), 9, (4.5, float("inf"))),
        "gain/x": Result("gain/x", -0.25, 9, (-0.5, 0.0), seeds=(3, 4)),
        "=1+1": Result("=1+1", 2.0, 1, (0.0, 3.0)),
    }
    write_results(results, tmp_path / "results.csv")
    with (tmp_path / "results.csv").open(encoding="utf-8", newline="") as file:
        rate, gain, formula = csv.DictReader(file)
    assert (rate["value"], rate["low"], rate["unit"]) == ("inf", "4.5", "images a class")
    assert (gain["value"], gain["low"], gain["unit"], gain["seeds"]) == ("-0.25", "-0.5", "points", "3 4")
    assert formula["metric"] == formula["title"] == "'=1+1"


def test_counts_that_are_means_over_seeds_are_short():
    assert [count(n) for n in (227.66666666666666, 12.0, 1234, 0.04)] == ["227.7", "12", "1,234", "0"]


@pytest.mark.parametrize(
    "unit, text",
    [
        ("share", "50.0 % (25.0 to 75.0)"),
        ("points", "+50.0 points (+25.0 to +75.0)"),
        ("plain", "0.500 (0.250 to 0.750)"),
        ("images a class", "0.5 images a class (0.2 to 0.8)"),
    ],
)
def test_numbers_are_written_in_their_unit(unit, text):
    assert measured(Result("x", 0.5, 9, (0.25, 0.75)), unit) == text
    assert in_unit(float("inf"), "images a class") == "∞"


def test_the_time_of_training_and_of_measuring_is_told_together(run):
    seconds = sum(records.read(folder).data["seconds"] for folder in (run, run / "model"))
    (told,) = [text for what, text in report_of(run).provenance if what == "Training and evaluation"]
    assert told.startswith(f"{seconds:,.0f} s, ")

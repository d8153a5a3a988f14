"""What is said before money is spent: effects, test images, prices."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from types import SimpleNamespace

import pytest

from figment import records
from figment.errors import FigmentError
from figment.evaluate.kind import images_for, smallest_visible
from figment.forecast import forecast
from figment.recipe import validate
from figment.recipe.prices import Prices
from figment.report.beside import cost, ledger, mean_over_classes
from figment.report.planned import Planned, planned
from figment.run import run_recipe
from figment.types import Result

NAMES = ["red thing", "green thing", "blue thing"]


def test_an_effect_and_the_test_images_it_takes():
    own = Planned()
    assert f"a gain of {100 * smallest_visible(500):.1f} points or more" in own.shows(500)
    assert own.images(0.02) == images_for(0.02) and "A gain of 2 points takes about 1,100 test images" in own.takes(
        0.02
    )
    assert "A gain of 1 point takes" in own.takes(0.01) and own.images(0.9) == 20
    assert own.takes(0.005).startswith("No number of test images shows a gain of 0.5 points, since sets")
    for wrong in (0.0, -0.02, 1.1, math.nan):
        with pytest.raises(FigmentError, match="above 0 and up to 100"):
            own.takes(wrong)


def test_a_run_on_few_test_images_promises_nothing_from_their_agreement(tmp_path, monkeypatch):
    alike = {"discordance": 0.0, "set_se": 0.0}
    worth = Result("worth", 0.0, 6, (-0.3, 0.3), details={"rival": "untuned", "differences": {"untuned": alike}})
    monkeypatch.setattr("figment.report.planned.records.read", lambda folder: SimpleNamespace(state="finished"))
    monkeypatch.setattr("figment.report.planned.latest_results", lambda folder: {"worth": worth})
    wanted = planned(tmp_path).images(0.01)
    assert wanted == images_for(0.01, 2 / 6, 0.0) and wanted > 10_000


def rate(value: float) -> dict[str, Result]:
    details = {"learner": "images only", "curve": [{"shots": 1}, {"shots": 64}]}
    return {"exchange_rate": Result("exchange_rate", value, 100, (1.0, 64.0), details=details)}


@pytest.mark.parametrize(
    "value, said",
    [
        (51.27, "Worth about 51 photographs a class: 510 photographs, about 51 EUR to label; the images took 0.30 GPU-hours, about 0.75 EUR."),
        (0.0, "Worth less than 1 photograph a class: 10 photographs, about 1.00 EUR to label; the images took 0.30 GPU-hours, about 0.75 EUR."),
        (math.inf, "Worth more than 64 photographs a class: 640 photographs, about 64 EUR to label; the images took 0.30 GPU-hours, about 0.75 EUR."),
    ],
)  # fmt: skip
def test_generating_against_labelling(value, said):
    prices = Prices(gpu_hour=2.5, labelled_photograph=0.1)
    assert cost(rate(value), prices, 1080.0, 10) == said
    assert cost({}, prices, 1080.0, 10) == "The images took 0.30 GPU-hours, about 0.75 EUR."
    assert cost(rate(51.27), Prices(), 10.0, 10) == (
        "Worth about 51 photographs a class: 510 photographs; the images took less than 0.01 GPU-hours."
    )
    assert prices.break_even(1080.0, 10).startswith("labelled photographs for the same money: 7.50, 0.75 a class")


def accuracy(sizes: dict[str, int], shares: dict[str, float]) -> Result:
    details = {"classes": {name: {"n": n, "ci": [0, 1]} for name, n in sizes.items()}}
    return Result("top1/synthetic", 0.8, sum(sizes.values()), (0.7, 0.9), shares, details=details)


def test_the_ledger_and_the_mean_over_classes():
    own = accuracy({"a": 90, "b": 10}, {"a": 0.9, "b": 0.1})
    results = {"top1/real_all": own, "top1/placebo": own, "top1/zero_shot": own, "top1/synthetic": own}
    names = ["chance", "commonest class", "zero-shot", "placebo", "this recipe", "all real"]
    assert [name for name, _ in ledger(results, 2)] == names
    assert ledger(results, 2)[:2] == [("chance", "50.0 %"), ("commonest class", "90.0 %")]
    assert mean_over_classes(own) == 0.5
    assert mean_over_classes(accuracy({"a": 9, "b": 9, "c": 0}, {"a": 0.9, "b": 0.1})) is None


@pytest.mark.slow
def test_a_forecast_counts_and_times_the_trainings_and_knows_a_finished_run(clip, photos, tmp_path):
    data = {
        "task": {"class_names": NAMES, "real": {split: str(photos / split) for split in ("train", "test")}},
        "prompts": {"kind": "templates"},
        "generate": {"kind": "procedural", "images_per_class": 4, "height": 24, "width": 20},
        "filters": [],
        "train": {"encoder": str(clip), "epochs": 1, "min_steps": 20, "seeds": 2},
        "evaluate": {"shots": [1, 2], "draws": 2, "placebos": 4, "resamples": 3},
        "prices": {"gpu_hour": 3600.0, "labelled_photograph": 1.0, "currency": "francs"},
    }
    recipe, out = validate(data, "test"), tmp_path / "run"
    before = forecast(recipe, out)
    assert before.count("trainings") == 2 + (4 + 2 * 3) + (2 * 2 + 20) + 2
    assert before.costs["results"].seconds > 0 and "planned with values" in before.costs["results"].text
    assert "francs" in before.money and not out.exists() and not (tmp_path / "runs").exists()
    run_recipe(recipe, out)
    worth = next(r for r in map(json.loads, (out / "results.jsonl").read_text().splitlines()) if r["metric"] == "worth")
    nearest = worth["details"]["differences"][worth["details"]["rival"]]
    assert asdict(planned(out)) == {
        "discordance": max(nearest["discordance"], 2 / 36),
        "set_se": nearest["set_se"],
        "measured": True,
    }
    after = forecast(recipe, out)
    assert "as the run that lies there measured" in after.costs["results"].text and "Worth " in after.money
    fingerprint = records.read(out).data["fingerprint"]
    run_recipe(recipe.changed({"prices.gpu_hour": 1.0}), out)
    assert records.read(out).data["fingerprint"] == fingerprint  # a price changes nothing that is made

"""What a study teaches, from its folder: arms without real images beside a run with some."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from figment import cli, records
from figment.evaluate.kind import difference
from figment.recipe import Recipe, validate
from figment.report.answers import judged_of, recipe_of
from figment.report.folder import report_of
from figment.report.lesson import _step, lesson_of
from figment.report.page import render
from figment.report.results import answers_of, latest_results
from figment.studies.arms import run_arms

NAMES = ["red thing", "green thing", "blue thing"]
OWN = "top1/synthetic"


def recipe(clip: Path, photos: Path, **changes) -> Recipe:
    data = {
        "name": "with photographs",
        "task": {"class_names": NAMES, "real": {split: str(photos / split) for split in ("train", "test")}},
        "prompts": {"kind": "templates"},
        "generate": {"kind": "procedural", "images_per_class": 6, "height": 24, "width": 20},
        "filters": [{"kind": "blank"}],
        "few_shot": {"shots": 2},
        "train": {"encoder": str(clip)},
        "evaluate": {"exchange_rate": False, "placebos": 2, "resamples": 3, "leaks": False},
        "arms": {
            "plain": {"few_shot": None, "filters": []},
            "between": {"few_shot": None, "generate.images_per_class": 2},
            "more shots": {"few_shot.shots": 3},
            "rich": {"few_shot": None},
        },
    }
    return validate(data, "test").changed(changes)


@pytest.fixture(scope="module")
def study(clip, photos, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("studies") / "study"
    run_arms(recipe(clip, photos), folder)
    return folder


def lesson_in(folder: Path, **changes) -> str:
    own, results = recipe_of(folder), latest_results(folder)
    return lesson_of({**own, **changes}, results, judged_of(folder, own, results))


@pytest.mark.slow
def test_it_is_of_the_first_and_the_last_arm_without_real_images_and_of_the_run_with_them(study, capsys):
    said, results = lesson_in(study), latest_results(study)
    assert "“rich”" in said and "“plain”" in said and "between" not in said and "more shots" not in said
    assert f"Alone, 2 real images a class reach {100 * results['top1/real_only'].value:.1f} %" in said
    assert f"all real images reach {100 * results['top1/real_all'].value:.1f} %." in said
    page = report_of(study)
    assert page.verdict.lesson == said and "What to learn" in render(page)
    cli.report(study)
    assert f"What to learn: {said}" in capsys.readouterr().out
    assert [arm.placebo is not None for arm in page.arms if arm.verdict] == [True] * 5
    assert render(page).count("its placebo") == 5
    assert report_of(study / "arms" / "00-plain").verdict.lesson == ""  # which is one run and no study


@pytest.mark.slow
def test_the_step_between_two_sets_is_for_other_sets_of_both(study):
    judged = judged_of(study, recipe_of(study), latest_results(study))
    plain, rich = judged[0], judged[3]
    a, b = (answers_of(one.folder, OWN).right for one in (plain, rich))
    step, of_images = _step(plain, rich), difference(b - a)
    assert step.value == pytest.approx(latest_results(rich.folder)[OWN].value - latest_results(plain.folder)[OWN].value)
    spread = [one.worth.details["differences"]["top1/zero_shot"]["set_se"] for one in (plain, rich)]
    assert step.image_se == of_images.image_se and step.set_se == pytest.approx(sum(x**2 for x in spread) ** 0.5)


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{"few_shot": None}, {"task": {"class_names": ["x", "y"], "real": {"test": "x"}}}])
def test_other_studies_have_none(study, changes):
    assert lesson_in(study, **changes) == ""


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["lost", "damaged"])
def test_a_page_without_the_predictions_of_an_arm_has_none(study, tmp_path, damage):
    folder = Path(shutil.copytree(study, tmp_path / "study"))
    path = folder / "arms" / "00-plain" / "predictions.parquet"
    path.unlink() if damage == "lost" else path.write_bytes(b"PAR1")
    assert report_of(folder).verdict.lesson == "" and records.read(folder).state == "finished"


@pytest.mark.slow
def test_one_arm_alone_is_enough(study):
    own, results = recipe_of(study), latest_results(study)
    judged = judged_of(study, own, results)
    assert lesson_of(own, results, judged[2:]).startswith("Without real images “rich” is right on ")
    assert lesson_of(own, results, judged[4:]) == "" == lesson_of(own, results, [])

"""Is what a dry run says of a table what it would make, with and without the data and the models at hand?"""

from __future__ import annotations

from pathlib import Path

import pytest

import figment
from figment.errors import FigmentError
from figment.forecast import forecast
from figment.images_in.real import absent
from figment.recipe import load_recipe, validate
from figment.report.costs import in_all
from figment.stages.unread import in_proportion
from figment.studies.arms import forecast_arms
from figment.studies.table_forecast import forecast_table
from figment.task import RealImages

RECIPES = sorted((Path(figment.__file__).parents[2] / "recipes").glob("*/*.yaml"))
NAMES = [path.relative_to(path.parents[1]).with_suffix("").as_posix() for path in RECIPES]
NETWORK = {"kind": "network", "architecture": "small_cnn", "image_size": 16, "epochs": 2, "batch_size": 4, "seeds": 1}
TUNE = {"steps": 3, "warmup_steps": 0, "batch_size": 2}
ROWS = {
    "as it comes": {},
    "tuned": {"generate.finetune": TUNE},
    "tuned, other prompts": {"generate.finetune": TUNE, "task.templates": ["a {}", "one {}"]},
    "longer": {"generate.finetune": {**TUNE, "steps": 5}, "generate.num_inference_steps": 4},
}


def recipe(**changes):
    """Of a model and of photographs that are not there."""
    data = {
        "task": {"class_names": ["cat", "dog"], "real": {"train": "nowhere/train", "test": "nowhere/test"}},
        "prompts": {"kind": "templates"},
        "generate": {"model": "nobody/has-it", "images_per_class": 3, "num_inference_steps": 2, "guidance_scale": 2.0},
        "filters": [],
        "train": NETWORK,
    }
    return validate(data, "test").changed(changes)


def table(**more):
    return {"title": "x", "seeds": 2, "rows": ROWS, "columns": {"a": {}, "b": {"metric": "top5/synthetic"}}, **more}


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def test_what_is_not_here_is_planned_without(tmp_path):
    said = forecast_table(recipe(table=table()), tmp_path / "out")
    assert said.steps == 2 * (3 + 3 + 5) and said.images == 4 * 2 * 6
    assert said.work["images"].seconds is None and said.work["fine-tuning"].seconds is None
    assert said.work["trainings"].seconds > 0 and said.seconds is None
    assert said.bytes == pytest.approx(48 * 512 * 512 * 1.6)
    text = said.text
    assert "'nowhere/train', 'nowhere/test' are not there: their images are not counted" in text
    assert "--seconds-per-image says what one takes" in text and "20 MiB of disk" not in text
    assert "19 MiB of disk" in text and "without the images and the fine-tuning" in text
    assert not (tmp_path / "out").exists()


def test_the_seconds_of_an_image_may_be_given_and_are_those_of_the_recipe_itself(tmp_path):
    said = forecast_table(recipe(table=table()), tmp_path / "out", seconds_per_image=10.0)
    assert said.each == {"as it comes": 10, "tuned": 10, "tuned, other prompts": 10, "longer": 20}
    assert said.work["images"].seconds == 36 * 10 + 12 * 20
    assert said.work["trainings"].seconds is None and "nothing is timed" in said.text
    assert "seconds an image (as given, those with other steps or guidance in proportion" in said.text
    alike = forecast_table(recipe(table=table(rows={"one": {}})), tmp_path / "out", seconds_per_image=10.0)
    assert not alike.each and "seconds an image" not in alike.text


def test_a_recipe_without_its_data_and_its_model(tmp_path):
    own = recipe(**{"generate.finetune": TUNE, "few_shot": {"shots": 4}})
    told = forecast(own, tmp_path / "out")
    assert told.absent == ("nowhere/train", "nowhere/test") and told.count("steps") == 3 and told.seconds is None
    assert told.bytes == int(6 * 512 * 512 * 1.6) and "a trial, --seconds-per-image" in told.costs["images"].text
    of_epochs = own.changed({"generate.finetune": {"epochs": 5, "batch_size": 2}})
    assert forecast(of_epochs, tmp_path / "out").count("steps") == 5 * 4
    nobody_knows = of_epochs.changed({"few_shot": None})
    assert "its real images are not there" in forecast(nobody_knows, tmp_path / "out").costs["finetune"].text
    given = forecast(own, tmp_path / "out", seconds_per_image=2.0)
    assert given.costs["images"].seconds == 12 and "in all about 12 s: images 12 s, without the" in given.text[-1]


def test_photographs_without_a_model_to_tune_on_them(photos, tmp_path):
    real = {split: str(photos / split) for split in ("train", "test")}
    own = recipe(**{"generate.finetune": {"epochs": 4, "batch_size": 6, "warmup_steps": 0}})
    own = own.changed({"task": {"class_names": ["red thing", "green thing", "blue thing"], "real": real}})
    told = forecast(own, tmp_path / "out")
    assert told.count("steps") == 4 * 3 and not told.absent  # of 18 photographs
    assert "their time is not known" in told.costs["finetune"].text
    each = own.changed({"generate.finetune.per_class": True})
    assert forecast(each, tmp_path / "out").count("steps") == 3 * 4 * 1


def test_arms_that_share_a_fine_tuning_count_it_once(tmp_path):
    arms = {"two steps more": {"generate.num_inference_steps": 4}, "other tuning": {"generate.finetune.steps": 5}}
    own = recipe(**{"generate.finetune": TUNE, "arms": arms})
    told = forecast_arms(own, tmp_path / "out", seconds_per_image=1.0)
    assert [one.count("steps") for one in told.values()] == [3, 5, 0]
    assert [one.costs["images"].seconds for one in told.values()] == [12, 6, 6]


def test_fine_tuning_of_a_table_is_timed_and_counted_once(sd15, photos, tmp_path):
    real = {split: str(photos / split) for split in ("train", "test")}
    own = recipe(**{"generate.model": str(sd15), "generate.images_per_class": 1})
    own = own.changed(
        {"task": {"class_names": ["red thing", "green thing", "blue thing"], "real": real}, "table": table()}
    )
    said = forecast_table(own, tmp_path / "out")
    assert said.steps == 2 * (3 + 3 + 5) and said.work["fine-tuning"].seconds > 0 and not said.absent
    assert said.seconds == pytest.approx(sum(work.seconds for work in said.work.values()))
    assert "fine-tuning the generator 6 times, 22 steps: about" in said.text and "in all about" in said.text
    assert set(said.each) == set(ROWS)


def test_the_bytes_of_an_image_follow_from_the_settings():
    sizes = {"stabilityai/stable-diffusion-xl-base-1.0": 1024, "stabilityai/stable-diffusion-2-1-base": 512}
    for model, side in {**sizes, "stabilityai/sdxl-turbo": 512, "starter": 32}.items():
        assert recipe(**{"generate.model": model}).generate.size == (side, side)
    own = recipe(**{"generate.save_size": 128, "generate.format": "jpeg"}).generate
    assert own.assumed_bytes == 128 * 128 * 0.5 and "reduced to 128" in own.assumed
    stages = [{"model": name, "num_inference_steps": n, "guidance_scale": 1.0} for name, n in (("a", 10), ("b", 5))]
    cascade = recipe(generate={"kind": "cascade", "stages": stages}).generate
    assert cascade.size == (256, 256) and cascade.passes == 15


def test_guidance_takes_two_passes_a_step_and_half_of_it_half_as_many_more():
    own, steps = recipe(), "generate.num_inference_steps"
    for changes, times in (
        ({}, 1),
        ({steps: 4}, 2),
        ({"generate.guidance_scale": 1.0}, 0.5),
        ({"generate.guidance_stop": 0.5}, 0.75),
        ({steps: None}, 1),
    ):
        assert in_proportion(2.0, own.changed(changes), own) == 2.0 * times
    assert in_proportion(None, own, own) is None


def test_the_sum_names_what_is_not_in_it():
    assert in_all({"images": None, "trainings": None}) == "" and in_all({"images": 3.0}) == ""
    assert in_all({"images": 3.0, "trainings": 4.0}) == "in all about 7 s: images 3 s, trainings 4 s"
    assert in_all({"images": 3.0, "trainings": None}).endswith("images 3 s, without the trainings")


def test_what_is_there_and_what_is_no_path_is_not_absent(photos, tmp_path):
    there = {"train": f"{photos}:train", "val": "datasets:pets:validation", "test": str(tmp_path / "not")}
    assert absent(RealImages(**there)) == {"test": str(tmp_path / "not")}
    dealt = RealImages(folder=str(tmp_path / "not"), test_share=0.5)
    assert absent(dealt) == dict.fromkeys(("test", "train"), str(tmp_path / "not"))


def test_real_images_that_are_missing_still_stop_a_run(tmp_path):
    with pytest.raises(FigmentError, match="does not exist"):
        figment.run_recipe(recipe(), tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize("path", RECIPES, ids=NAMES)
def test_every_recipe_is_planned_at_full_size_without_data_and_models(path, tmp_path):
    own = load_recipe(path)
    assert own.table is not None
    said = forecast_table(own, tmp_path / "out", seconds_per_image=0.8)
    assert said.work["images"].seconds > 0 and said.bytes > 0 and "of disk" in said.text and "not there" in said.text

"""Leaks in tiny real runs: refused before anything is written, reported where the recipe says so, shown in the report."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from figment.errors import FigmentError
from figment.exports.export import export
from figment.layout import Run
from figment.recipe import Recipe, validate
from figment.report.folder import report_of
from figment.run import run_recipe
from figment.studies.arms import forecast_arms

pytestmark = pytest.mark.slow

NAMES = ["red thing", "green thing", "blue thing"]


@pytest.fixture
def own(photos, tmp_path) -> Path:
    """The photographs, to do with what one likes."""
    shutil.copytree(photos, tmp_path / "photos")
    return tmp_path / "photos"


@pytest.fixture
def recipe(clip, own):
    def make(**changes) -> Recipe:
        data = {
            "task": {"class_names": NAMES, "real": {s: str(own / s) for s in ("train", "test")}},
            "prompts": {"kind": "templates"},
            "generate": {"kind": "procedural", "images_per_class": 4, "height": 24, "width": 20},
            "filters": [],
            "train": {"encoder": str(clip), "epochs": 1, "min_steps": 20, "seeds": 1},
            "evaluate": {"exchange_rate": False, "placebos": 2, "resamples": 2},
        }
        return validate(data, "test").changed(changes)

    return make


def plant(own: Path, name: str = "taken.png") -> None:
    """A test image among the training images."""
    shutil.copy(own / "test" / "red_thing" / "3.png", own / "train" / "red_thing" / name)


def test_a_clean_run_says_so(recipe, tmp_path):
    outcome = run_recipe(recipe(**{"task.real.val": str(tmp_path / "photos" / "val")}), tmp_path / "run")
    own = {name: r for name, r in outcome.results.items() if name.startswith("leaks/")}
    assert set(own) == {"leaks/test", "leaks/train", "leaks/val", "leaks/generated"}
    assert all(
        r.details.get("exact", 0) == r.details.get("count" if r.metric == "leaks/test" else "exact") == 0
        for r in own.values()
    )
    page = report_of(tmp_path / "run")
    shown = {number.title: number.what for number in page.also}
    assert "0 the same" in shown["test images with a near copy among the real training images, some by chance"]
    assert not any("too good" in caveat for caveat in page.caveats)


def test_a_test_image_among_the_training_images_is_refused_before_anything_is_made(recipe, own, tmp_path):
    plant(own)
    told = r"1 of the 36 images in task\.real\.test is in task\.real\.train too: red_thing/3\.png is red_thing/taken\.png there"
    with pytest.raises(FigmentError, match=told):
        run_recipe(recipe(), tmp_path / "run")
    assert not list(Run(tmp_path / "run").images.glob("*")) and not Run(tmp_path / "run").resolved.is_file()
    assert not (tmp_path / "run" / "features").is_dir()
    with pytest.raises(FigmentError, match=told):
        forecast_arms(recipe(), tmp_path / "run")


def test_with_report_it_runs_and_the_report_says_it(recipe, own, tmp_path, capsys):
    plant(own)
    outcome = run_recipe(recipe(**{"evaluate.leaks": "report"}), tmp_path / "run")
    assert "is in task.real.train too" in capsys.readouterr().out.replace("\n", " ")
    found = outcome.results["leaks/train"]
    assert (found.details["exact"], found.details["pairs"][0][:2]) == (1, ["red_thing/3.png", "red_thing/taken.png"])
    caveats = " ".join(report_of(tmp_path / "run").caveats)
    assert "is in task.real.train too: red_thing/3.png" in caveats
    assert "among the real training images: 1 the same" in caveats
    off = run_recipe(recipe(**{"evaluate.leaks": False}), tmp_path / "off")
    assert not any(name.startswith("leaks/") for name in off.results)


def test_an_export_in_the_place_of_photographs_is_refused_whatever_its_folder_is_called(recipe, own, tmp_path):
    run_recipe(recipe(), tmp_path / "run")
    for to in ("imagefolder", "csv", "webdataset", "parquet"):
        export(tmp_path / "run", to, tmp_path / f"holiday-{to}")
        where = tmp_path / f"holiday-{to}" / ("labels.csv" if to == "csv" else "")
        with pytest.raises(
            FigmentError, match=r"12 of the 12 images in task\.real\.test are generated.*figment \(12\)"
        ):
            run_recipe(recipe(**{"task.real.test": str(where)}), tmp_path / "again")
    with pytest.raises(FigmentError, match=r"12 of the 12 images in task\.real\.val are generated"):
        run_recipe(recipe(**{"task.real.val": str(tmp_path / "run" / "images")}), tmp_path / "again")
    # One class folder taken elsewhere, among photographs.
    for image in (tmp_path / "holiday-imagefolder" / "red thing").glob("*.png"):
        shutil.copy(image, own / "test" / "red_thing")
    with pytest.raises(FigmentError, match=r"4 of the 40 images in task\.real\.test are generated"):
        run_recipe(recipe(), tmp_path / "again")


class Remembers:
    """Its images are test images without their lowest bit, so nothing but features finds them."""

    fingerprint, wants_labels = "remembers", True

    def __init__(self, test: Path):
        self.test = test

    def __call__(self, prompts, seeds, init=None, labels=()):
        images = []
        for label, seed in zip(labels, seeds, strict=True):
            path = self.test / NAMES[label].replace(" ", "_") / f"{seed % 60}.png"
            images.append(np.array(Image.open(path)) & 254)
        return images


def test_a_generator_that_remembers_the_test_images_is_reported(own, recipe, tmp_path):
    rng = np.random.default_rng(1)
    for folder in (own / "test").iterdir():
        for i in range(12, 60):
            Image.fromarray(rng.integers(0, 256, (24, 20, 3), np.uint8)).save(folder / f"{i}.png")
    few = recipe(**{"generate.images_per_class": 12})
    found = run_recipe(few, tmp_path / "run", generator=Remembers(own / "test")).results["leaks/generated"]
    assert found.details["exact"] == 0 and found.details["near"] > 5 and found.details["p"] < 0.001
    test, made = (name.split("/")[0] for name in found.details["pairs"][0][:2])
    assert test.replace("_", "-") in made  # red_thing, 000-red-thing
    caveats = report_of(tmp_path / "run").caveats
    assert any("among the generated images" in caveat and "memorised" in caveat for caveat in caveats)
    clean = run_recipe(few, tmp_path / "clean").results["leaks/generated"]
    assert clean.details["p"] > 0.001 and not clean.details["caveats"]


class Shy:
    """Fails at most images of the first class."""

    fingerprint, wants_labels = "shy", True

    def __call__(self, prompts, seeds, init=None, labels=()):
        rows = zip(labels, seeds, strict=True)
        return [
            None if label == 0 and seed % 20 else np.random.default_rng(seed).integers(0, 256, (24, 20, 3), np.uint8)
            for label, seed in rows
        ]


def test_a_class_with_few_generated_images_beside_its_shots_is_warned_of(recipe, tmp_path, capsys):
    own = recipe(few_shot={"shots": 6}, **{"generate.images_per_class": 80, "evaluate.real_all": False})
    told = "'red thing' that are learnt from"
    even = run_recipe(own, tmp_path / "even").results["leaks/source"]
    assert even.value == pytest.approx(1) and told not in " ".join(capsys.readouterr().out.split())
    shy = run_recipe(own, tmp_path / "shy", generator=Shy()).results["leaks/source"]
    assert shy.value < 0.2 and shy.ci[1] < 0.5 and shy.details["class_name"] == "red thing"
    assert told in " ".join(capsys.readouterr().out.split())
    assert sum(told in caveat for caveat in report_of(tmp_path / "shy").caveats) == 1
    row = next(n for n in report_of(tmp_path / "shy").also if n.title.startswith("odds of being generated"))
    assert row.what.startswith("red thing: ")

"""The starter's looks: the same pixels everywhere, each picture by itself, and real images like any others."""

from __future__ import annotations

import io
import pickle
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from figment import cli, starter
from figment.errors import FigmentError
from figment.images_in import open_images
from figment.recipe import load_recipe
from figment.records import digest
from figment.report.folder import report_of
from figment.stages.plans import images_key
from figment.starter.looks import LOOKS, render
from figment.studies.arms import run_arms
from figment.task import builtin_names, load_task

#: Of the first 64 test images. Another digest is another look: raise images_in.changed.LOOKS_VERSION, and train the starter on it.
DIGESTS = {
    "catalogue": "5fdff0622ea40c95",
    "store-camera": "40534914406a5d9d",
    "x-ray": "286d2e6364e861bf",
    "sketch": "e1fb3921187977e9",
    "night": "073d87b8e9c01017",
    "crumpled": "c7c78b32443fef3a",
    "photocopy": "2fda439b574f5166",
}
SEEN = [look for look in LOOKS if look != starter.AS_IT_IS]
NAMES = load_task("fashion").class_names


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return np.stack(open_images("starter/test", NAMES).load(range(64)))[..., 0]


@pytest.mark.parametrize("look", LOOKS)
def test_a_look_keeps_its_pixels(pictures, look):
    assert digest(render(pictures, look).tobytes())[:16] == DIGESTS[look]


@pytest.mark.parametrize("look", LOOKS)
def test_what_is_rendered_together_changes_nothing(pictures, look):
    together = render(pictures, look)
    assert (render(pictures[5:6], look)[0] == together[5]).all()
    assert (render(pictures[::-1], look) == together[::-1]).all()


def test_the_catalogue_is_what_is_stored(pictures):
    assert (render(pictures, starter.AS_IT_IS) == pictures).all()
    assert type(open_images("starter/catalogue/test", NAMES)) is type(open_images("starter/test", NAMES))


@pytest.mark.parametrize("look", SEEN)
def test_a_task_of_a_look(pictures, look):
    task = load_task(f"fashion-{look}")
    assert task.class_names == NAMES and task.templates != load_task("fashion").templates
    assert task.synonyms and task.attributes  # fashion's own
    train, test = (open_images(where, task.class_names) for where in (task.real.train, task.real.test))
    assert len(train) == len(test) == 10_000
    assert (test.load([3, 1])[0] == render(pictures[3:4], look)[0][..., None]).all()


def test_every_look_has_its_task():
    assert {name for name in builtin_names() if name.startswith("fashion-")} == {f"fashion-{look}" for look in SEEN}


def test_rendered_images_are_images(pictures):
    images = open_images("starter/night/test", NAMES)
    some = pickle.loads(pickle.dumps(images.take([9, 2])))  # as for a worker
    assert some.ids == [images.ids[9], images.ids[2]] and some.labels.tolist() == images.labels[[9, 2]].tolist()
    assert some.digests == [images.digests[9], images.digests[2]]
    assert (np.asarray(Image.open(io.BytesIO(some.data(1)))) == images.load([2])[0]).all()
    assert images.load([]) == []
    others = [open_images(f"starter/{look}/test", NAMES).digests[0] for look in (*LOOKS, "catalogue")]
    assert len(set(others)) == len(LOOKS)  # no cache mixes them up


def test_a_path_is_a_folder_of_the_users_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FigmentError, match="does not exist"):
        open_images(Path("starter/mine"), NAMES)


@pytest.mark.parametrize(
    "where", ["starter/skech/test", "starter/sketch/tets", "starter/sketch", "starter/clip", "starter/"]
)
def test_a_wrong_look_is_told(where):
    with pytest.raises(FigmentError, match="The starter has no images .* It has starter/pool"):
        open_images(where, NAMES)


# ---- the demo ---------------------------------------------------------------------------------------------------------


CONTEXT = SimpleNamespace(obj=0.0)  # of a command that began at 0
DEMO = Path(starter.__file__).parent / "demo.yaml"
TOOLS = Path(__file__).parents[1] / "tools"


@pytest.mark.parametrize("look", SEEN)
def test_the_demo_of_a_look_is_a_ladder_whose_sets_differ_in_words_and_filter_alone(look, monkeypatch):
    asked = []
    monkeypatch.setattr("figment.cli.runs._run", lambda *arguments: asked.append(arguments))
    cli.demo(CONTEXT, None, look)
    [(recipe, out, _)] = asked
    assert out == Path("runs") / f"demo-{look}" and recipe.task == load_task(f"fashion-{look}")
    plain, words = (recipe.changed(arm) for arm in recipe.arms.values())
    assert plain.prompts.templates == ["a photo of a {}."] and words.prompts.templates is None  # the task's own
    assert images_key(words) == images_key(recipe) != images_key(plain)  # one set for the run and its last arm
    same = {"prompts.templates": None, "filters": [one.model_dump() for one in words.filters]}
    assert plain.changed(same) == words == recipe.changed({"few_shot": None})
    assert recipe.few_shot is not None and recipe.few_shot.shots == 16


def test_the_control_is_the_same_recipe_without_a_gap(monkeypatch):
    asked = []
    monkeypatch.setattr("figment.cli.runs._run", lambda *arguments: asked.append(arguments))
    cli.demo(CONTEXT, None, starter.AS_IT_IS)
    [(recipe, out, _)] = asked
    assert out == Path("runs/demo-catalogue") and recipe == load_recipe(DEMO, ["task=fashion"])


def test_the_demo_without_a_look_is_the_recipe_as_it_stands(monkeypatch):
    asked = []
    monkeypatch.setattr("figment.cli.runs._run", lambda *arguments: asked.append(arguments))
    CliRunner().invoke(cli.app, ["demo"], catch_exceptions=False)
    assert [(recipe, out) for recipe, out, _ in asked] == [(load_recipe(DEMO), Path("runs/demo-sketch"))]


@pytest.mark.parametrize(
    ("look", "said"),
    [
        ("nosuch", f"no look 'nosuch'. It has {', '.join(LOOKS)}"),
        ("skech", "Did you mean 'sketch'"),
        ("", "no look ''"),
    ],
)
def test_what_is_no_look_gets_one_paragraph(look, said, tmp_path):
    with pytest.raises(FigmentError, match=said) as told:
        cli.demo(CONTEXT, tmp_path / "run", look)
    assert "\n" not in str(told.value) and not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_demo_of_a_look_in_small(tmp_path, monkeypatch):
    """One step an image, few of them, and photographs of 40 pictures in place of 20,000."""
    for split in ("pool", "test"):
        images = open_images(f"starter/night/{split}", NAMES)
        for label, name in enumerate(NAMES):
            (tmp_path / split / name).mkdir(parents=True)
            for i, pixels in enumerate(images.load(np.flatnonzero(images.labels == label)[:3])):
                Image.fromarray(pixels).save(tmp_path / split / name / f"{i}.png")
    small = {
        "task": "fashion-night",
        "task.real.train": tmp_path / "pool",
        "task.real.test": tmp_path / "test",
        "prompts.per_class": 2,
        "generate.images_per_class": 2,
        "few_shot.shots": 2,
        "evaluate": {"exchange_rate": False, "placebos": 2, "resamples": 2},
    }
    run_arms(load_recipe(DEMO, [f"{field}={value}" for field, value in small.items()]), tmp_path / "run")
    page = report_of(tmp_path / "run")
    for part in ("plain prompts", "the domain's words and a filter", "Alone, 2 real images a class reach"):
        assert part in page.verdict.lesson
    names = [arm.name for arm in page.arms]
    for name in (
        "zero-shot",
        "bias removed",
        *list(load_recipe(DEMO).arms),
        "real images alone",
        page.arms[-1].name,
    ):
        assert name in names
    assert page.arms[-1].name == "all real images"
    monkeypatch.syspath_prepend(str(TOOLS))
    looks = import_module("looks")
    look, *tables = looks.rows(tmp_path / "run")
    assert look == "night" and [len(row) for row in tables] == [len(looks.WORDS), len(looks.SHOTS)]
    plain, words = (
        next(arm.result for arm in page.arms if arm.name == name) for name in list(load_recipe(DEMO).arms)[:2]
    )
    assert tables[0][2:4] == [f"{100 * own.value:.1f}" for own in (plain, words)]

"""A pilot: its images are the first of the run, and it says what it can without what it is not to look at."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import figment
from counting import counting
from figment import records
from figment.context import Context
from figment.errors import FigmentError
from figment.layout import Run, shard_files
from figment.recipe import Recipe, validate
from figment.repair import repair
from figment.report.folder import report_of
from figment.run import make_images, run_recipe
from figment.stages import STAGES
from figment.status import status
from figment.studies.arms import run_arms
from figment.studies.pilot import first_of, look_first, read_pilot, run_pilot
from figment.verify import verify

NAMES = ["red thing", "green thing", "blue thing"]
QUESTIONS = ["classes", "domain", "room", "test images"]
TRAIN, TEST = 48, 36  # real images


@pytest.fixture(scope="module")
def real(tmp_path_factory, photos):
    """``train`` with 16 images a class, ``test`` with 12, ``unlabelled`` with all of train in one folder."""
    root = tmp_path_factory.mktemp("real")
    rng = np.random.default_rng(1)
    (root / "unlabelled").mkdir()
    for c, name in enumerate(NAMES):
        (root / "train" / name).mkdir(parents=True)
        for i in range(TRAIN // 3):
            pixels = rng.normal(100 + 60 * np.eye(3)[c], 40, (24, 20, 3)).clip(0, 255).astype(np.uint8)
            for path in (root / "train" / name / f"{i}.png", root / "unlabelled" / f"{c}-{i}.png"):
                Image.fromarray(pixels).save(path)
    shutil.copytree(photos / "test", root / "test")
    return root


@pytest.fixture
def recipe(clip, real):
    def make(*splits: str, **changes) -> Recipe:
        data = {
            "task": {"class_names": NAMES, "real": {split: str(real / split) for split in splits}},
            "prompts": {"kind": "templates"},
            "generate": {"kind": "procedural", "images_per_class": 12, "shard_size": 9, "height": 24, "width": 20},
            "filters": [],
            "train": {"encoder": str(clip)},
            "evaluate": {"exchange_rate": False, "real_all": False, "evidence": False},
        }
        return validate(data, "test").changed(changes)

    return make


def rows(folder) -> list[dict]:
    return [row for path in shard_files(folder / "images") for row in pq.read_table(path).to_pylist()]


@pytest.mark.slow
def test_its_images_are_the_first_of_the_run_which_goes_on_from_them(recipe, tmp_path):
    own = recipe("train", "test")
    with counting() as spent:
        pilot = run_pilot(own, tmp_path / "run", images_per_class=8)
    assert (spent.made, spent.encoded, spent.trained) == (24, 24 + TRAIN, [])  # no test image is looked at
    assert [one.question for one in pilot.answers] == QUESTIONS
    before = rows(tmp_path / "run")
    assert len(before) == 24
    assert [f.remedy for f in verify(tmp_path / "run").findings if f.severity != "note"] == ["run"]
    [images] = [one for one in status(tmp_path / "run") if one.name == "images"]
    assert images.state == "partial" and "a pilot's" in images.text
    make_images(own, shutil.copytree(tmp_path / "run", tmp_path / "images alone"))
    [images] = [one for one in status(tmp_path / "images alone") if one.name == "images"]
    assert images.state == "done" and "a pilot's" not in images.text
    with counting() as spent:
        run_recipe(own, tmp_path / "run")
    assert (spent.made - 6, spent.encoded) == (
        12,
        12 + TEST,
    )  # 6 of a shard that was begun are made once more for the others' sake
    assert rows(tmp_path / "run")[:24] == before
    run_recipe(own, tmp_path / "at once")
    assert rows(tmp_path / "run") == rows(tmp_path / "at once")
    assert verify(tmp_path / "run").ok and read_pilot(tmp_path / "run") is not None
    assert {one.state for one in status(tmp_path / "run")} == {"done"}


@pytest.mark.slow
def test_after_the_run_it_makes_nothing_and_changes_no_result(recipe, tmp_path):
    own = recipe("train", "test")
    run_recipe(own, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.y*ml")} | {
        path: path.read_bytes() for path in tmp_path.glob("*.json*")
    }
    with counting() as spent:
        pilot = run_pilot(own, tmp_path, images_per_class=8)
    assert (spent.made, spent.encoded) == (0, TRAIN) and pilot.answer("classes").numbers["n"] == 24
    assert {path: path.read_bytes() for path in before} == before and verify(tmp_path).ok
    assert f"A pilot of 8 images a class said: {pilot.summary}" in report_of(tmp_path).caveats
    records.write_answer(tmp_path / "pilot.json", {**pilot.told(), "real": "photographs of something else"})
    assert not any("A pilot" in one for one in report_of(tmp_path).caveats)


@pytest.mark.parametrize("n", [0, -1])
def test_a_pilot_makes_an_image(recipe, tmp_path, n):
    with pytest.raises(FigmentError, match=f"images_per_class is {n}; a pilot makes 1 image of each class or more"):
        run_pilot(recipe("train", "test"), tmp_path / "run", images_per_class=n)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("splits", "asked", "split", "said"),
    [
        (
            (),
            None,
            "",
            {
                "domain": "Real images would tell",
                "room": "Labelled real images would tell",
                "test images": "takes about",
            },
        ),
        (("test",), None, "", {"domain": "Real images would tell", "test images": "36 real test images show"}),
        (("test",), "test", "test", {"domain": "there are 36 and 24", "room": "of 36 real images"}),
        (("train",), None, "train", {"domain": "(train)", "room": "of 48 real images"}),
        (("unlabelled",), None, "unlabelled", {"domain": "(unlabelled)", "room": "Labelled real images would tell"}),
    ],
)
def test_it_says_what_it_can_of_the_real_images_there_are(recipe, tmp_path, splits, asked, split, said, capsys):
    pilot = run_pilot(recipe(*splits), tmp_path, images_per_class=8, split=asked)
    assert pilot.split == split
    for question, part in said.items():
        assert part in pilot.answer(question).sentence, pilot.answer(question)
    assert ("looks at the test images" in capsys.readouterr().out) == (asked == "test")
    told = json.loads((tmp_path / "pilot.json").read_text())
    assert {name: told[name] for name in pilot.told()} == json.loads(json.dumps(pilot.told()))
    assert told["summary"] == pilot.summary and [one["question"] for one in told["answers"]] == QUESTIONS


@pytest.mark.parametrize(
    ("changes", "asked", "message"),
    [
        ({}, "val", r"no val images \(it has: train\).*--set task.real.val=DIR"),
        ({}, "tests", "no split 'tests'. Allowed: train, val, test, unlabelled"),
        ({"train.kind": "network"}, None, "train.kind 'network' names none.*--set encoder="),
        (
            {"encoder": {"timm": "resnet18", "weights": "w.pth"}},
            None,
            "and encoder timm/resnet18 names none.*--set encoder=",
        ),
        ({"table": {"title": "t", "rows": {"a": {}}, "columns": {"x": {}}}}, None, "has a table, which is many runs"),
        ({"task.real.train": "nowhere"}, None, "nowhere"),
    ],
)
def test_what_it_cannot_do_is_said_before_anything_is_made(recipe, tmp_path, changes, asked, message):
    with counting() as spent, pytest.raises(FigmentError, match=message):
        run_pilot(recipe("train", **changes), tmp_path / "run", split=asked)
    assert not spent.made and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("n_classes", "images", "asked", "made"),
    [(3, 200, None, 24), (40, 200, None, 12), (400, 200, None, 2), (3, 5, None, 5), (3, 200, 50, 50), (3, 5, 50, 5)],
)
def test_how_many_images_it_makes_of_each_class(recipe, n_classes, images, asked, made):
    own = recipe(**{"task.class_names": [f"thing {i}" for i in range(n_classes)], "generate.images_per_class": images})
    assert first_of(own, asked) == made


def test_a_damaged_answer_is_found_and_taken_away(recipe, tmp_path):
    run_pilot(recipe(), tmp_path, images_per_class=2)
    path = tmp_path / "pilot.json"
    path.write_text(path.read_text().replace('"images_per_class": 2', '"images_per_class": 3'))
    assert read_pilot(tmp_path) is None
    assert [(f.stage, f.severity) for f in verify(tmp_path).findings if f.remedy == "repair"] == [
        ("pilot.json", "broken")
    ]
    assert any("pilot.json" in line for line in repair(tmp_path)) and not path.exists()


# ---- at the start of a run ------------------------------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch):
    """Three images of each class are a pilot: one shard of these recipes, so that none is made twice."""
    monkeypatch.setattr("figment.studies.pilot.A_CLASS", 3)


@pytest.mark.slow
def test_a_run_begins_with_a_pilot_that_costs_it_nothing(recipe, tmp_path, small, capsys):
    own = recipe("train", "test", **{"evaluate.real_all": True})
    with counting() as spent:
        run_arms(own, tmp_path / "run")
    assert (spent.made, spent.encoded) == (36, 36 + TRAIN + TEST)  # what the run itself needs
    shown = capsys.readouterr().out
    told = read_pilot(tmp_path / "run")
    assert told is not None and (told["images_per_class"], told["of"]) == (3, 12)
    bad = [one for one in told["answers"] if one["word"] in ("unknown", "at the ceiling")]
    assert bad and all(f"after the first 3 images of each class: {one['sentence']}" in shown for one in bad)
    assert f"{told['summary']} The run goes on" in shown and shown.count("after the first") == len(bad)
    assert verify(tmp_path / "run").ok and {one.state for one in status(tmp_path / "run")} == {"done"}
    run_recipe(own, tmp_path / "without")  # in Python nobody looks unless asked to
    assert rows(tmp_path / "run") == rows(tmp_path / "without") and read_pilot(tmp_path / "without") is None
    with counting() as spent:
        run_arms(own, tmp_path / "run")
    assert (spent.made, spent.encoded) == (0, 0) and "after the first" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "changes",
    [
        {"evaluate.real_all": False},  # 48 real images would be encoded for it alone
        {"generate.shard_size": 8},  # one image would be made twice
        {"train.kind": "network"},  # which names no encoder to look with
    ],
)
def test_no_run_begins_with_one_that_costs_more_than_a_fiftieth_of_its_images(recipe, tmp_path, small, changes):
    assert not _looked(recipe("train", "test", **{"evaluate.real_all": True, **changes}), tmp_path)


def test_none_begins_with_a_second_one_nor_after_its_images(recipe, tmp_path, small):
    own = recipe("train", "test", **{"evaluate.real_all": True})
    make_images(own, tmp_path / "made")
    assert not _looked(own, tmp_path / "made")
    run_pilot(own, tmp_path / "piloted", images_per_class=2)
    before = (tmp_path / "piloted" / "pilot.json").read_bytes()
    assert _looked(own, tmp_path / "piloted") and (tmp_path / "piloted" / "pilot.json").read_bytes() == before


def _looked(own: Recipe, folder) -> bool:
    """Whether there is what a pilot said, after the beginning of a run."""
    ctx = Context(own, Run(folder))
    for name in ("caches", "prompts"):
        next(stage for stage in STAGES if stage.name == name).run(ctx)
    look_first(ctx)
    return read_pilot(folder) is not None


@pytest.mark.slow
def test_one_that_fails_stops_no_run(recipe, tmp_path, real, small, monkeypatch):
    """Of real images that the run itself does not look at, a class cannot be read."""
    monkeypatch.setattr("figment.studies.pilot.MOST_EXTRA", 10)
    train = shutil.copytree(real / "train", tmp_path / "train")
    for path in (train / NAMES[0]).iterdir():
        path.write_bytes(b"no image")
    run_arms(recipe("test", **{"task.real.train": str(train)}), tmp_path / "run")
    assert read_pilot(tmp_path / "run") is None and len(rows(tmp_path / "run")) == 36


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train.kind": "clip_head", "train.select": "validation"}, "there are no validation images"),
        ({"evaluate.baselines": ["tip_adapter"], "few_shot": {"shots": 20}}, "20"),
        ({"generate.height": 28}, "generate"),
    ],
)
def test_what_the_run_refuses_is_refused_before_its_pilot(recipe, tmp_path, small, changes, message):
    own = recipe("train", "test", **{"evaluate.real_all": True})
    make_images(own.changed({"generate.images_per_class": 1}), tmp_path / "run")
    before, other = rows(tmp_path / "run"), own.changed(changes)
    with counting() as spent, pytest.raises(FigmentError, match=message):
        run_arms(other, tmp_path / "run")
    assert not spent.made and rows(tmp_path / "run") == before and read_pilot(tmp_path / "run") is None


def test_it_is_public():
    assert figment.run_pilot is run_pilot

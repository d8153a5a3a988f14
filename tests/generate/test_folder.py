"""Images that are there already, as the images of a run."""

from __future__ import annotations

import pickle
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from figment.errors import FigmentError
from figment.generate.folder import FolderGenerator
from figment.generate.plan import Plan
from figment.images_in import open_images
from figment.layout import Run
from figment.recipe import load_recipe, validate
from figment.repair import repair
from figment.run import make_images
from figment.types import Prompt
from figment.verify import verify
from folders import rows, shard_files

NAMES = ["red thing", "green thing", "blue thing"]


@pytest.fixture
def own(tmp_path) -> Path:
    """Class folders of 5, 3 and 4 images of several sizes, whose first pixel says which one it is."""
    for name, n in zip(NAMES, (5, 3, 4), strict=True):
        (tmp_path / "made" / name).mkdir(parents=True)
        for i in range(n):
            pixels = np.random.default_rng([n, i]).integers(0, 256, (8 + i, 9, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "made" / name / f"{i}.png")
    return tmp_path / "made"


def recipe(path: Path | str, **changes):
    data = {
        "task": {"class_names": NAMES},
        "generate": {"kind": "folder", "path": str(path), "images_per_class": 4, "shard_size": 4},
    }
    return validate({**data, "filters": []}, "test").changed(changes)


def test_a_folder_becomes_the_images_of_a_run_each_once_and_as_it_was(own, tmp_path):
    folder = make_images(recipe(own), tmp_path / "run")
    found, given = rows(folder), open_images(own, NAMES)
    assert [r["label"] for r in found] == [0, 1, 2] * 3 + [
        0,
        2,
    ]  # 4, 3 and 4: classes take turns until one has none left
    assert [r["prompt"] for r in found[:3]] == [f"a photo of a {name}." for name in NAMES]
    pixels = {image.tobytes() for image in given.load(range(len(given)))}
    made = open_images(folder, NAMES).load(range(11))
    assert len({image.tobytes() for image in made}) == 11 and {image.tobytes() for image in made} <= pixels
    assert verify(tmp_path / "run").ok
    again = make_images(recipe(own, **{"generate.images_per_class": 9}), tmp_path / "run")
    assert [r["id"] for r in rows(again)][:11] == [r["id"] for r in found] and len(rows(again)) == 12
    assert verify(tmp_path / "run").ok
    shard_files(again)[1].unlink()
    repair(tmp_path / "run")
    assert verify(tmp_path / "run").ok and len(rows(again)) == 12


def test_a_smaller_recipe_uses_the_first_images_of_a_set_that_has_grown(own, tmp_path):
    from figment.images_in.shards import wanted_rows

    make_images(recipe(own, **{"generate.images_per_class": 9}), tmp_path / "run")
    make_images(recipe(own), tmp_path / "run")
    assert len(rows(tmp_path / "run" / "images")) == 12 and wanted_rows(Run(tmp_path / "run")) == 11


def test_prompts_come_from_where_the_set_has_them(own, tmp_path):
    lines = [
        f"{name}/{i}.png,{name},{'' if i == 2 else f'a {name} no {i % 2}'}\n"
        for name, n in zip(NAMES, (5, 3, 4), strict=True)
        for i in range(n)
    ]
    (own / "metadata.csv").write_text("file_name,class_name,caption\n" + "".join(lines))
    found = rows(make_images(recipe(own, **{"generate.images_per_class": 9}), tmp_path / "run"))
    said = {r["prompt"] for r in found}
    assert said == {f"a {name} no {k}" for name in NAMES for k in (0, 1)} | {f"a photo of a {name}." for name in NAMES}
    groups = {r["group"] for r in found if r["prompt"] == "a red thing no 0"}
    assert len(groups) == 1  # those that show one caption
    # A run's own images, with their prompts, are such a set too.
    other = rows(
        make_images(recipe(tmp_path / "run" / "images", **{"generate.images_per_class": 9}), tmp_path / "again")
    )
    assert {r["prompt"] for r in other} == said


def test_where_it_lies_does_not_matter_and_what_it_holds_does(own, tmp_path):
    make_images(recipe(own), tmp_path / "run")
    shutil.move(own, tmp_path / "moved")
    make_images(recipe(tmp_path / "moved"), tmp_path / "run")
    Image.new("RGB", (8, 8)).save(tmp_path / "moved" / NAMES[0] / "0.png")
    with pytest.raises(FigmentError, match="was made with other settings"):
        make_images(recipe(tmp_path / "moved"), tmp_path / "run")


def test_one_that_cannot_be_read_is_an_attempt_that_failed(own, tmp_path):
    (own / NAMES[1] / "0.png").write_bytes(b"no image")
    failed = [r for r in rows(make_images(recipe(own), tmp_path / "run")) if r["error"]]
    assert len(failed) == 1 and failed[0]["image"] is None and "0.png" in failed[0]["error"]


def test_other_classes_and_other_prompts_are_refused(own, tmp_path):
    shutil.move(own / NAMES[2], own / "yellow thing")
    with pytest.raises(FigmentError, match="Missing there: 'blue thing'. Not in the task: 'yellow thing'"):
        make_images(recipe(own), tmp_path / "run")
    assert not Run(tmp_path / "run").images.exists()
    for changes in ({"prompts": {"kind": "templates"}}, {"generate": {"kind": "procedural"}}):
        with pytest.raises(FigmentError, match="a folder of images brings its own prompts"):
            recipe(own, **changes)
    with pytest.raises(FigmentError, match="path"):
        validate({"task": {"class_names": NAMES}, "generate": {"kind": "folder"}}, "it")


def test_a_place_in_a_recipe_is_relative_to_it(own, tmp_path):
    (tmp_path / "r.yaml").write_text("task: {class_names: [a, b]}\ngenerate: {kind: folder, path: made}\n")
    assert load_recipe(tmp_path / "r.yaml").generate.path == str(own)
    (tmp_path / "r.yaml").write_text("task: {class_names: [a, b]}\ngenerate: {kind: folder, path: starter/pool}\n")
    assert load_recipe(tmp_path / "r.yaml").generate.path == "starter/pool"


def test_the_generator_goes_to_other_processes_and_takes_no_start_images(own):
    generator = pickle.loads(pickle.dumps(FolderGenerator(str(own), NAMES)))
    assert generator.fingerprint == FolderGenerator(str(own), NAMES).fingerprint
    with pytest.raises(FigmentError, match="no others"):
        generator(["a"], [0], init=np.zeros((1, 8, 8, 3), np.uint8))
    assert generator(["a"], [10**6])[0].dtype == np.uint8  # a trial knows no ids


def test_a_plan_of_so_many_of_each_prompt_grows_round_by_round():
    """Also where a class came to have fewer prompts than it was asked for: nothing that was there gets another place."""
    sizes = (4, 1, 2)
    prompts = [Prompt(f"{label:03d}-x/{i:05d}", "", label, "") for label, n in enumerate(sizes) for i in range(n)]
    short, long = (Plan(prompts, 4 * k, 0, per_prompt=k) for k in (2, 3))
    assert list(long)[: len(short)] == list(short) and len(long) == 3 * 7
    assert Counter(s.prompt_id for s in long) == dict.fromkeys((p.id for p in prompts), 3)
    assert [s.id for s in short][7:] == [s.id[:-1] + "1" for s in short][:7]
    assert list(Plan(prompts, 2, 0, per_prompt=2)) == list(short)[:5]  # the first of it, as a pilot asks
    grown = short.reaching(20)
    assert list(grown) == list(long) and len(short.reaching(14)) == 14
    even = [p for p in prompts if p.label != 1 and p.id[-1] < "2"]
    assert list(Plan(even, 6, 0, per_prompt=3)) == list(Plan(even, 6, 0))


def test_a_plan_without_repeats_grows_at_its_end():
    prompts = [Prompt(f"{label:03d}-x/{i:05d}", "", label, "") for label, n in enumerate((4, 1, 2)) for i in range(n)]
    short, long = (list(Plan(prompts, n, 0, per_prompt=1)) for n in (2, 9))
    assert long[: len(short)] == short and [s.label for s in long] == [0, 1, 2, 0, 2, 0, 0]
    assert len(Plan(prompts, 2, 0, per_prompt=1).reaching(6)) == 6
    assert list(Plan(prompts, 2, 0, per_prompt=1).reaching(99))[:7] == long  # beyond, each prompt has more

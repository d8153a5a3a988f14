"""The catalogue of built-in tasks: every list complete, in order, and free of what would confuse a reader or a model."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from importlib import resources
from math import prod
from pathlib import Path

import numpy as np
import pytest
import torchvision
from PIL import Image
from pydantic import ValidationError
from typer.testing import CliRunner

from figment.cli import app
from figment.errors import FigmentError
from figment.images_in import open_images
from figment.images_in.labels import normalised
from figment.prompts.attributes import Attributes as Writer
from figment.recipe import load_recipe, validate
from figment.recipe.prompts import MANY_PROMPTS
from figment.run import run_recipe
from figment.task import Task, builtin_names, load_task
from figment.words import is_code


@dataclass(frozen=True)
class Known:
    """What is known of a data set apart from its file."""

    n: int
    names: dict[int, str]  # some of its labels
    digest: str  # of all of them, in order
    template: str = "a photo of a {}."
    n_ensemble: int = 0
    own: dict[int, str] = field(default_factory=dict)  # some labels, as the data set says them


BIRD = "a photo of a {}, a type of bird."
AIRCRAFT = "a photo of a {}, a type of aircraft."
FLOWER = "a photo of a {}, a type of flower."
PET = "a photo of a {}, a type of pet."
SATELLITE = "a centered satellite photo of {}."
CATALOGUE = {
    "cifar10": Known(10, {0: "airplane", 1: "automobile", 9: "truck"}, "bb3914949cec", n_ensemble=18),
    "cifar100": Known(100, {0: "apple", 1: "aquarium fish", 51: "mushroom", 99: "worm"}, "60ae3a3ac135", n_ensemble=18),
    "caltech101": Known(
        101,
        {0: "off-center face", 1: "centered face", 50: "helicopter", 100: "yin and yang symbol"},
        "0223db579e55",
        n_ensemble=34,
        own={0: "Faces", 20: "ceiling_fan", 100: "yin_yang"},
    ),
    "caltech256": Known(
        257,
        {0: "AK-47", 55: "dog", 104: "horse", 250: "airplane", 256: "clutter"},
        "9e001648464a",
        own={0: "001.ak47", 55: "056.dog", 256: "257.clutter"},
    ),
    "imagenet": Known(
        1000,
        {
            0: "tench",
            134: "crane bird",
            517: "construction crane",
            638: "tights",
            657: "missile",
            744: "projectile",
            836: "sunglass",
            837: "sunglasses",
            999: "toilet paper",
        },
        "2816f0e36561",
        n_ensemble=7,
        own={0: "n01440764", 134: "n02012849", 999: "n15075141"},
    ),
    "sun397": Known(
        397,
        {0: "abbey", 8: "apartment building outdoor", 198: "ice skating rink indoor", 396: "youth hostel"},
        "f3658762309b",
        n_ensemble=2,
    ),
    "aircraft": Known(
        100,
        {0: "707-320", 21: "A300B4", 43: "C-47", 99: "Yak-42"},
        "e1c9e72060e6",
        AIRCRAFT,
        n_ensemble=2,
        own={73: "F_A-18"},
    ),
    "cars": Known(
        196,
        {
            0: "AM General Hummer SUV 2000",
            5: "Acura Integra Type R 2001",
            38: "Bentley Continental Supersports Conv. Convertible 2012",
            195: "smart fortwo Convertible 2012",
        },
        "93d089469409",
        n_ensemble=8,
    ),
    "birdsnap": Known(
        500,
        {0: "Acadian Flycatcher", 48: "Black and white Warbler", 499: "Zone tailed Hawk"},
        "b03d9d481162",
        BIRD,
        n_ensemble=1,
    ),
    "cub": Known(
        200,
        {0: "Black footed Albatross", 16: "Cardinal", 99: "Brown Pelican", 199: "Common Yellowthroat"},
        "6ee1cf25f00e",
        BIRD,
        n_ensemble=1,
        own={0: "001.Black_footed_Albatross", 199: "200.Common_Yellowthroat"},
    ),
    "flowers102": Known(
        102,
        {0: "pink primrose", 14: "yellow iris", 59: "pink and yellow dahlia", 92: "air plant", 101: "blackberry lily"},
        "5429e1ef6e0e",
        FLOWER,
        n_ensemble=1,
        own={92: "ball moss"},
    ),
    "food101": Known(
        101,
        {0: "apple pie", 16: "cheese plate", 17: "cheesecake", 100: "waffles"},
        "9c0eeb5a368b",
        "a photo of {}, a type of food.",
        n_ensemble=1,
    ),
    "pets": Known(
        37,
        {0: "Abyssinian", 1: "American Bulldog", 14: "German Shorthaired", 36: "Yorkshire Terrier"},
        "50be1443390f",
        PET,
        n_ensemble=1,
    ),
    "dtd": Known(47, {0: "banded", 23: "marbled", 46: "zigzagged"}, "681d23b9cd3c", "{} texture.", n_ensemble=8),
    "eurosat": Known(
        10,
        {0: "annual crop land", 1: "forest", 2: "brushland or shrubland", 8: "river", 9: "lake or sea"},
        "ee2e41b9973e",
        SATELLITE,
        n_ensemble=3,
        own={0: "AnnualCrop", 9: "SeaLake"},
    ),
    "imagenet-sketch": Known(
        1000, {0: "tench", 999: "toilet paper"}, "2816f0e36561", n_ensemble=7, own={999: "n15075141"}
    ),
    "imagenet-r": Known(
        200,
        {0: "goldfish", 100: "llama", 199: "acorn"},
        "79cac199a914",
        n_ensemble=7,
        own={0: "n01443537", 199: "n12267677"},
    ),
}
TASKS = [name for name in builtin_names() if not name.startswith("fashion")]


def test_the_catalogue_is_table_1():
    assert set(TASKS) == set(CATALOGUE) and len(CATALOGUE) == 17


def digest(names: list[str]) -> str:
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:12]


@pytest.mark.parametrize("name", TASKS)
def test_the_class_names_are_complete_and_in_order(name):
    task, known = load_task(name), CATALOGUE[name]
    assert task.name == name and len(task.class_names) == known.n
    assert {i: task.class_names[i] for i in known.names} == known.names
    assert {i: task.own_names[i] for i in known.own} == known.own
    assert digest(task.class_names) == known.digest


@pytest.mark.parametrize("name", TASKS)
def test_no_class_stands_twice_whatever_hyphens_and_case_say(name):
    task = load_task(name)
    for names in (task.class_names, task.own_names):
        assert len({normalised(n) for n in names}) == len(names)


@pytest.mark.parametrize("name", TASKS)
def test_class_names_are_plain_words(name):
    """Letters, digits and what words are written with; one space between them, as a text-to-image model reads them."""
    task = load_task(name)
    for word in [*task.class_names, *(s for words in task.synonyms.values() for s in words)]:
        assert re.fullmatch(r"[\w '(),./&-]+", word) and "_" not in word, word
        assert word == " ".join(word.split()), word
    assert not any(map(is_code, task.class_names))


@pytest.mark.parametrize("name", TASKS)
def test_the_sentences_are_those_of_the_tables_and_of_clip(name):
    task, known = load_task(name), CATALOGUE[name]
    assert task.templates == [known.template] and len(task.ensemble) == known.n_ensemble
    assert len(set(task.ensemble)) == len(task.ensemble)
    assert all(t.count("{}") == 1 for t in task.ensemble)


@pytest.mark.parametrize("name", TASKS)
def test_there_are_words_enough_for_prompts(name):
    """A class without synonyms still gets as many different prompts as a recipe asks for by default."""
    task = load_task(name)
    assert 2 <= len(task.attributes) <= 4 and task.contexts
    assert prod(1 + len(words) for words in task.attributes.values()) * (1 + len(task.contexts)) >= MANY_PROMPTS
    for class_name, words in task.synonyms.items():
        assert words and class_name not in words and len(set(words)) == len(words)


@pytest.mark.parametrize("name", TASKS)
def test_no_task_comes_with_images_and_its_header_says_where_they_are(name):
    assert not any(load_task(name).real.model_dump().values())
    text = (resources.files("figment") / "tasks" / f"{name}.yaml").read_text(encoding="utf-8")
    header = [line for line in text.splitlines() if line.startswith("# ")]
    for start in ("# Real images: ", "# Terms: ", "# Cite: "):
        assert any(line.startswith(start) for line in header), start


def test_prompts_can_be_written_for_a_task():
    prompts = Writer()(load_task("eurosat"), 20, np.random.default_rng(0))
    assert len({p.text for p in prompts}) == 200


# ---- against the lists of others -------------------------------------------------------------------------------------


def test_imagenet_is_in_the_order_of_torchvision():
    """CLIP's names say many classes otherwise; those it left alone stand at the same labels, and no other of them elsewhere."""
    theirs = [n.lower() for n in torchvision.models.ResNet50_Weights.DEFAULT.meta["categories"]]
    ours = [n.lower() for n in load_task("imagenet").class_names]
    same = [i for i in range(1000) if ours[i] == theirs[i]]
    assert len(same) >= 700 and same[0] == 0 and same[-1] > 990
    moved = [n for n in set(ours) & set(theirs) if theirs.count(n) == 1 and ours.index(n) != theirs.index(n)]
    assert not moved


def test_flowers_own_names_are_those_of_torchvision():
    assert load_task("flowers102").own_names == list(torchvision.datasets.Flowers102.classes)


def test_wordnet_ids_are_sorted_and_the_imagenets_agree():
    imagenet, sketch, renditions = (load_task(n) for n in ("imagenet", "imagenet-sketch", "imagenet-r"))
    assert imagenet.own_names == sorted(imagenet.own_names) and all(
        re.fullmatch(r"n\d{8}", n) for n in imagenet.own_names
    )
    assert (sketch.class_names, sketch.own_names) == (imagenet.class_names, imagenet.own_names)
    word = dict(zip(imagenet.own_names, imagenet.class_names, strict=True))
    assert renditions.own_names == sorted(renditions.own_names)
    assert renditions.class_names == [word[n] for n in renditions.own_names]


@pytest.mark.parametrize("name", ["caltech101", "aircraft", "eurosat", "caltech256", "cub"])
def test_own_names_are_in_the_order_of_sorted_folders(name):
    own = load_task(name).own_names
    assert own == sorted(own)


@pytest.mark.parametrize("name", ["cifar100", "food101", "dtd"])
def test_data_sets_that_sort_their_labels_are_sorted(name):
    folders = [n.replace(" ", "_") for n in load_task(name).class_names]
    assert folders == sorted(folders)


OTHER_NAMES = {
    ("eurosat", "coop"): {
        0: "Annual Crop Land",
        2: "Herbaceous Vegetation Land",
        4: "Industrial Buildings",
        9: "Sea or Lake",
    },
    ("eurosat", "he2023"): {0: "Annual Crop Land", 4: "Industrial Building", 7: "Residential Building"},
    ("cars", "coop"): {0: "2000 AM General Hummer SUV", 195: "2012 smart fortwo Convertible"},
    ("sun397", "coop"): {
        0: "abbey",
        8: "outdoor apartment building",
        198: "indoor ice skating rink",
        396: "youth hostel",
    },
}


@pytest.mark.parametrize("name, source", OTHER_NAMES)
def test_the_class_names_of_others_are_of_the_same_classes_in_the_same_order(name, source):
    own, other = load_task(name), load_task(name, source)
    assert {i: other.class_names[i] for i in OTHER_NAMES[name, source]} == OTHER_NAMES[name, source]
    assert len({normalised(n) for n in other.class_names}) == len(own.class_names) == len(other.class_names)
    words = [[sorted(n.lower().split()) for n in task.class_names] for task in (own, other)]
    assert words[0] == words[1] or name == "eurosat"  # CoOp changes their order alone
    assert (other.own_names, other.templates) == (own.own_names or own.class_names, own.templates)
    for class_name, synonyms in other.synonyms.items():  # under the new names, which are none of their own
        assert class_name in other.class_names and synonyms and class_name not in synonyms
    assert set(other.synonyms) <= {other.class_names[own.class_names.index(n)] for n in own.synonyms}


def test_a_recipe_chooses_whose_class_names_it_takes(tmp_path):
    task = validate({"task": {"like": "cars", "class_names_from": "coop", "real": {"test": "photos"}}}, "it").task
    assert task.class_names[0] == "2000 AM General Hummer SUV" and task.real.test == "photos" and task.name == "cars"
    path = tmp_path / "recipe.yaml"
    path.write_text("task: sun397", encoding="utf-8")
    from_shell = load_recipe(path, ["task.real.test=photos", "task.class_names_from=coop"])
    assert load_recipe(path, ["task.class_names_from=coop", "task.real.test=photos"]) == from_shell
    assert from_shell.task.class_names[9] == "indoor apse" and from_shell.task.real.test
    (tmp_path / "photos" / "apse_indoor").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "photos" / "apse_indoor" / "1.png")
    for other in from_shell.task.own_names:
        (tmp_path / "photos" / other.replace(" ", "_")).mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "photos" / other.replace(" ", "_") / "1.png")
    images = open_images(tmp_path / "photos", from_shell.task.class_names, from_shell.task.own_names)
    assert len(images) == 397 and set(images.labels.tolist()) == set(range(397))


@pytest.mark.parametrize(
    "task, message",
    [
        (
            {"like": "cars", "class_names_from": "he2023"},
            "'cars' has no class names from 'he2023'. It has some from: coop",
        ),
        (
            {"like": "pets", "class_names_from": "coop"},
            "'pets' has no class names from 'coop'. It has one list of them",
        ),
        ({"like": "cars", "class_names_from": 3}, "class_names_from is the name of a list, such as coop; it is '3'"),
        ({"like": "cars", "class_names_from": ["coop"]}, "class_names_from is the name of a list"),
        ({"class_names": ["a", "b"], "class_names_from": "coop"}, "a built-in task: name it in like"),
    ],
)
def test_class_names_that_nobody_has_are_told(task, message):
    with pytest.raises(FigmentError, match=re.escape(message)):
        validate({"task": task}, "the recipe")


# ---- what own_names and ensemble do ----------------------------------------------------------------------------------


@pytest.mark.parametrize("by_own_names", [True, False])
def test_real_images_are_found_by_either_name(tmp_path, by_own_names):
    task = load_task("eurosat")
    for label, name in enumerate(task.own_names if by_own_names else task.class_names):
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8), (label, 0, 0)).save(tmp_path / name / "1.png")
    images = open_images(tmp_path, task.class_names, task.own_names)
    found = [int(image[0, 0, 0]) for image in images.load(range(10))]
    assert found == images.labels.tolist() and sorted(found) == list(range(10))


def test_classes_of_neither_name_are_told_in_the_words_of_the_task(tmp_path):
    task = load_task("eurosat")
    for name in ("AnnualCrop", "Sahara"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / name / "1.png")
    with pytest.raises(FigmentError, match="Missing there: 'annual crop land'"):
        open_images(tmp_path, task.class_names, task.own_names)


@pytest.mark.parametrize("own", [["A"], ["A", "A"], ["A", "B", "C"]])
def test_own_names_must_be_one_for_each_class(own):
    with pytest.raises(ValidationError, match="own_names needs a different name for each of the 2 class_names"):
        Task(class_names=["a cat", "a dog"], own_names=own)


def test_an_ensemble_that_is_not_there_is_a_mistake():
    with pytest.raises(FigmentError, match="the task 'caltech256' has no ensemble"):
        validate({"task": "caltech256", "train": {"ensemble": True}}, "it")
    assert validate({"task": "eurosat", "train": {"ensemble": True}}, "it").train.ensemble


@pytest.mark.slow
def test_a_run_starts_from_the_ensemble_and_reads_photographs_by_their_own_names(tmp_path, clip):
    """The whole path on a small task: what the head was made from is in its card; the images' labels are the task's."""
    for i, own in enumerate(["n01", "n02"]):
        (tmp_path / "photos" / own).mkdir(parents=True)
        for k in range(3):
            Image.new("RGB", (32, 32), (200 * i, 40 * k, 0)).save(tmp_path / "photos" / own / f"{k}.png")
    recipe = {
        "task": {
            "class_names": ["dark", "red"],
            "own_names": ["n01", "n02"],
            "ensemble": ["a {} thing.", "one {} thing."],
            "real": {"test": str(tmp_path / "photos")},
        },
        "prompts": {"kind": "templates"},
        "generate": {"kind": "procedural", "images_per_class": 4},
        "filters": [],
        "train": {"encoder": str(clip), "ensemble": True, "epochs": 1, "seeds": 1},
    }
    outcome = run_recipe(validate(recipe, "it"), tmp_path / "run")
    head = json.loads((tmp_path / "run" / "model" / "head.json").read_text())
    assert head["templates"] == ["a {} thing.", "one {} thing."] and head["class_names"] == ["dark", "red"]
    assert outcome.results and all(result.n == 6 for result in outcome.results.values())


# ---- where a reader finds them ---------------------------------------------------------------------------------------


def test_the_page_on_tasks_agrees_with_them():
    page = (Path(__file__).parents[1] / "docs" / "tasks.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| `")]
    assert {row[0].strip("`") for row in rows} == set(builtin_names())
    for name, _, count, sentence, ensemble in rows:
        task = load_task(name.strip("`"))
        assert (int(count), [sentence]) == (len(task.class_names), task.templates)
        assert (int(ensemble) if ensemble.isdecimal() else 0) == len(task.ensemble)


@pytest.mark.slow
def test_the_command_lists_every_task_and_its_size():
    said = CliRunner().invoke(app, ["tasks"]).stdout
    rows = [line.split()[:2] for line in said.splitlines()]
    for name in builtin_names():
        assert [name, f"{len(load_task(name).class_names):,}"] in rows


def test_a_built_in_task_with_ones_own_images():
    task = {"like": "eurosat", "real": {"test": "photos/test"}}
    recipe = validate({"task": task}, "the recipe")
    assert recipe.task.class_names == load_task("eurosat").class_names and recipe.task.real.test == "photos/test"
    with pytest.raises(FigmentError, match="no built-in task 'eurosta'. Did you mean 'eurosat'"):
        validate({"task": {"like": "eurosta"}}, "the recipe")

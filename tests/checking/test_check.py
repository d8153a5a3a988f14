"""What is wrong with real images is found before anything is spent: each thing is planted in real files."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

import rasters
from figment.checking.check import Checked, check
from figment.checking.findings import Limits
from figment.checking.places import places_of
from figment.cli import app
from figment.errors import FigmentError
from figment.images_in import same

NAMES = ["cat", "dog"]


def pixels(seed: int, side: int = 40) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side + 2, 3), np.uint8)


def put(folder: Path, name: str, seed: int = 0, side: int = 40, **saved: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(seed, side)).save(folder / name, **saved)  # type: ignore[arg-type]
    return folder / name


def photos(root: Path, n: int = 3, start: int = 0, names: list[str] = NAMES) -> Path:
    for c, name in enumerate(names):
        for i in range(n):
            put(root / name, f"{i}.png", start + 100 * c + i)
    return root


def both(root: Path) -> Path:
    """``train`` and ``test``, nothing wrong with them."""
    photos(root / "train", start=0)
    photos(root / "test", start=1000)
    return root


def said(found: Checked, state: str) -> list[str]:
    return [f"{one.subject}: {one.text}" for one in found.findings if one.state == state]


def noted(found: Checked) -> list[str]:
    """But for the test images, which are few in all of these tests."""
    return [text for text in said(found, "note") if "too few to say anything" not in text]


def test_nothing_is_wrong_with_plain_photographs(tmp_path):
    found = check([str(both(tmp_path))])
    assert found.ok and said(found, "wrong") == []
    assert found.counts == {"test": {"cat": 3, "dog": 3}, "train": {"cat": 3, "dog": 3}}
    (few,) = said(found, "note")
    assert few.startswith(
        "test: There are 6 real test images: too few to say anything. Give 20 at the least; a gain of 1 "
    )
    assert found.real is None is found.split


def test_a_variant_of_a_recipe_has_photographs_of_its_own(tmp_path):
    photos(tmp_path / "some")
    photos(tmp_path / "more", 5)
    recipe = tmp_path / "recipe.yaml"
    task = {"class_names": NAMES, "real": {"test": "some"}}
    recipe.write_text(yaml.safe_dump({"task": task, "variants": {"large": {"task.real.test": "more"}}}))
    assert check([str(recipe)]).counts == {"test": {"cat": 3, "dog": 3}}
    assert check([str(recipe)], variant="large").counts == {"test": {"cat": 5, "dog": 5}}
    with pytest.raises(FigmentError, match="--variant is of a recipe"):
        check([str(tmp_path / "some")], variant="large")


@pytest.mark.parametrize("split", [True, False])
def test_a_file_is_read_once_for_its_content_and_once_for_all_that_is_said_of_it(tmp_path, monkeypatch, split):
    where, counts = both(tmp_path) if split else photos(tmp_path / "whole"), Counter[Path]()
    read_bytes = Path.read_bytes

    def counting(path: Path) -> bytes:
        counts[path] += 1
        return read_bytes(path)

    monkeypatch.setattr(same, "_KNOWN", {})
    monkeypatch.setattr(Path, "read_bytes", counting)
    assert check([str(where)]).counts
    images = [n for path, n in counts.items() if path.suffix == ".png" and path.is_relative_to(tmp_path)]
    assert len(images) == (12 if split else 6) and set(images) == {2}


def test_twenty_photographs_that_nobody_has_split_are_told_that_a_share_of_them_is_too_few(tmp_path):
    photos(tmp_path / "photos", 10)
    found = check([str(tmp_path / "photos")])
    (few,) = (text for text in said(found, "note") if text.startswith("test: There are 6 real test images"))
    assert f"real: {{test: {tmp_path / 'photos'}}} all" in few
    all_of_them = check([f"test={tmp_path / 'photos'}"])
    assert any(text.startswith("test: 20 real test images show a gain") for text in said(all_of_them, "ok"))
    photos(tmp_path / "fewer", 4)
    assert not any("test_share" in text for text in said(check([str(tmp_path / "fewer")]), "note"))


def test_every_unusual_kind_is_counted_with_what_becomes_of_it(tmp_path):
    root = both(tmp_path)
    cat = root / "train/cat"
    image = Image.fromarray(pixels(50))
    image.quantize(8).save(cat / "palette.png")
    image.convert("RGBA").save(cat / "alpha.png")
    image.convert("CMYK").save(cat / "ink.jpg")
    image.save(cat / "frames.gif", save_all=True, append_images=[Image.fromarray(pixels(51))])
    turned = image.getexif()
    turned[0x0112] = 6
    image.save(cat / "turned.jpg", exif=turned)
    (cat / "deep.tif").write_bytes(rasters.tiff(np.full((40, 40), 4000, np.uint16), {262: 1}))
    told = {text.partition(" with ")[2] for text in said(check([str(root)]), "note") if text.startswith("train pixels")}
    assert told == {
        "more than 8 bits (cat/deep.tif): read as 8, white being 4,095, the lowest usual level that no pixel of the whole split"
        " exceeds",
        "a palette (cat/frames.gif, cat/palette.png): read as the colours that it stands for",
        "transparency (cat/alpha.png): laid on white",
        "CMYK (cat/ink.jpg): converted to sRGB, by the file's profile where it has one",
        "grey alone (cat/deep.tif): read as three equal channels",
        "several pages or frames (cat/frames.gif): the first one is read, the others are not",
        "a turn in EXIF (cat/turned.jpg): turned upright",
    }


def test_unreadable_and_tiny_files_fail_beyond_a_share(tmp_path):
    root = both(tmp_path)
    (root / "train/cat/broken.jpg").write_bytes(b"\xff\xd8\xff not a photograph")
    put(root / "test/dog", "small.png", 70, side=8)
    found = check([str(root)])
    assert [text for text in said(found, "wrong") if "cannot be read" in text] == [
        "train files: 1 of the 7 images cannot be read and are left out: cat/broken.jpg (of no format known here)"
    ]
    assert any(
        "the shorter side has 8 to 40 pixels" in text and "1 of 7 have fewer than 32" in text
        for text in said(found, "wrong")
    )
    patient = check([str(root)], Limits(max_unreadable=0.2, max_tiny=0.2))
    assert patient.ok and len(noted(patient)) == 2
    assert noted(check([str(root)], Limits(max_unreadable=0.2, min_side=8))) == noted(patient)[:1]


def test_a_class_that_is_missing_small_or_uneven(tmp_path):
    root = photos(tmp_path / "train", names=[*NAMES, "owl"]).parent
    photos(root / "test", start=1000)
    put(root / "train/dog", "more.png", 80)
    put(root / "test/Emu", "0.png", 81)
    found = check([str(root)], Limits(min_images=2, max_imbalance=1.2))
    assert said(found, "wrong") == [
        "classes: train has no image of 'Emu': every class has images in every split",
        "balance: train: 3 to 4 images a class; 40 % are of 'dog'",
        "classes: test has no image of 'owl': every class has images in every split",
        "classes: test has fewer than 2 images of 'Emu (1)'",
        "balance: test: 1 to 3 images a class; 43 % are of 'cat'",
    ]


def test_the_same_photograph_in_two_splits_twice_in_one_and_under_two_classes(tmp_path):
    root = both(tmp_path)
    put(root / "test/cat", "9.bmp", 2)  # train/cat/2.png
    put(root / "train/cat", "8.bmp", 0)
    put(root / "train/dog", "7.bmp", 0)
    found = check([str(root)])
    assert said(found, "wrong") == [
        "leaks: 1 of the 7 images in task.real.test is in task.real.train too: cat/9.bmp is cat/2.png there. What is learnt from would be"
        " tested on."
    ]
    assert noted(found) == [
        "train repeats: 2 of the 8 images are the same as an earlier one, such as cat/8.bmp as cat/0.png",
        "train repeats: 1 image is there under two classes or more, such as cat/0.png (cat) and dog/7.bmp (dog). One of the labels is wrong",
    ]
    assert "train repeats" in said(check([str(root)], Limits(max_repeated=0.1)), "wrong")[0]


def test_one_folder_is_split_and_the_split_is_told(tmp_path):
    folder = photos(tmp_path / "holiday", n=10)
    found = check([str(folder)], test_share=0.2, val_share=0.1)
    assert found.ok and found.counts["test"] == {"cat": 2, "dog": 2} and found.counts["val"] == {"cat": 1, "dog": 1}
    assert found.real == {"folder": str(folder), "test_share": 0.2, "val_share": 0.1}
    assert found.split is not None and len(found.split["images"]) == 20
    too_much = check([str(folder)], test_share=0.6, val_share=0.5)
    assert "test_share and val_share leave nothing to learn from" in said(too_much, "wrong")[0]
    assert check([str(folder)]).counts["test"] == {"cat": 3, "dog": 3}
    one = check([str(photos(tmp_path / "one", names=["cat"]))])
    assert said(one, "wrong") == [
        "split: No recipe can have these images: a recogniser needs two classes or more; class_names has 1."
    ]
    alone = check([str(photos(tmp_path / "alone", n=1))])
    assert not alone.ok and "cannot be dealt into test and train" in said(alone, "wrong")[0]


def test_a_recipe_says_what_the_classes_are_called(tmp_path):
    both(tmp_path / "photos")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("task: {class_names: [cat, hound], real: {train: photos/train, test: photos/test}}")
    found = check([str(recipe)])
    assert sum("Not in the task: 'dog'" in text for text in said(found, "wrong")) == 2
    recipe.write_text(
        "task: {class_names: [feline, hound], own_names: [cat, dog], real: {folder: photos/train, test_share: 0.34}}"
    )
    found = check([str(recipe)])
    assert found.ok and found.counts == {"train": {"feline": 2, "hound": 2}, "test": {"feline": 1, "hound": 1}}


def test_too_few_test_images_for_an_effect(tmp_path):
    found = check([str(both(tmp_path))], Limits(effect=0.02))
    assert said(found, "wrong")[0].startswith("test: 6 images are too few. A gain of 2 points takes about ")


@pytest.mark.parametrize(
    ("named", "places"),
    [
        (["test=a/b"], {"test": "a/b"}),
        (["pets-train.csv", "pets.csv:val"], {"train": "pets-train.csv", "val": "pets.csv:val"}),
        (["holiday"], {"folder": "holiday"}),
    ],
)
def test_splits_are_told_by_what_places_are_called(named, places):
    assert places_of(named).places == places


@pytest.mark.parametrize(
    ("named", "told"),
    [(["holiday", "test=a"], "Which split is holiday"), (["train=a", "train=b"], "are both called train")],
)
def test_a_split_that_is_not_known_is_asked_for(named, told):
    with pytest.raises(FigmentError, match=told):
        places_of(named)


def test_the_command_fails_in_ci_and_writes_what_it_found(tmp_path):
    root = both(tmp_path / "photos")
    run = CliRunner().invoke
    fine = run(app, ["check", str(root), "--json", str(tmp_path / "found.json")])
    assert fine.exit_code == 0, fine.output
    assert json.loads((tmp_path / "found.json").read_text())["ok"] is True
    assert run(app, ["check", str(root), "--min-images", "4"]).exit_code == 1
    alone = run(app, ["check", str(root / "train"), "--test-share", "0.4"])  # its name says which split it is
    assert isinstance(alone.exception, FigmentError)
    split = run(app, ["check", f"folder={root / 'train'}", "--test-share", "0.4"])
    told = split.output.partition("this very split:")[2]
    assert split.exit_code == 0
    assert yaml.safe_load(told)["task"]["real"] == {"folder": str(root / "train"), "test_share": 0.4}


def test_an_encoder_says_what_it_cannot_tell_apart(tmp_path, clip):
    root = both(tmp_path)
    put(root / "train/dog", "9.bmp", 0)  # train/cat/0.png
    told = [text for text in said(check([str(root)], encoder=str(clip)), "note") if text.startswith("encoder")]
    assert told and "cat/0.png (cat)" in told[0] and "dog/9.bmp (dog)" in told[0]


def test_class_folders_whose_names_begin_like_splits_are_classes(tmp_path):
    photos(tmp_path / "lab", n=10, names=["test_tube", "train_station", "bench"])
    found = check([str(tmp_path / "lab")])
    assert set(found.counts["train"]) == {"test_tube", "train_station", "bench"}
    assert places_of([str(photos(tmp_path / "test_tube"))]).places == {"folder": str(tmp_path / "test_tube")}


def test_a_split_of_other_classes_than_the_recipes_is_told(tmp_path):
    photos(tmp_path / "test", names=["Katze", "Hund"])
    (tmp_path / "r.yaml").write_text(
        yaml.safe_dump({"task": {"class_names": NAMES, "real": {"test": str(tmp_path / "test")}}})
    )
    with pytest.raises(FigmentError, match="Katze|Hund"):
        check([str(tmp_path / "r.yaml")])

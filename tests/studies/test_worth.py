"""Sets of images from elsewhere, judged: a good one, a placebo, copies of the photographs; and what cannot be judged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from counting import counting
from figment.errors import FigmentError
from figment.evaluate.placebo import spread_labels
from figment.images_in import open_images
from figment.images_in.open import class_names_in
from figment.images_in.real import open_real
from figment.images_in.whole import splits_in
from figment.report.worth import WorthPage
from figment.studies.worth import ask, run_worth
from figment.task import load_task, real_folder
from test_cli import figment

pytestmark = pytest.mark.slow

NAMES = load_task("fashion").class_names


def write(folder: Path, images: Iterable[np.ndarray], labels: Iterable[int], suffix: str = "png") -> Path:
    """Class folders."""
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        own = folder / NAMES[label].replace(" ", "_")
        own.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(own / f"{i:04d}.{suffix}")
    return folder


@pytest.fixture(scope="module")
def sets(tmp_path_factory) -> Path:
    """``real`` with 2 training and 60 test images a class; ``good``, 30 others of each class rendered otherwise; ``placebo``, those under
    labels that say nothing; ``memorised``, the training images again and again, encoded anew."""
    root, rng = tmp_path_factory.mktemp("sets"), np.random.default_rng(0)
    pool, test = (
        open_images(f"starter/sketch/{split}", NAMES) for split in ("pool", "test")
    )  # which the words know little of

    def of_each(images, first: int, n: int) -> np.ndarray:
        return np.concatenate([np.flatnonzero(images.labels == c)[first : first + n] for c in range(len(NAMES))])

    train = of_each(pool, 0, 2)
    write(root / "real" / "train", pool.load(train), pool.labels[train])
    tested = of_each(test, 0, 60)
    write(root / "real" / "test", test.load(tested), test.labels[tested])
    other = of_each(pool, 10, 30)
    drawn = [(0.9 * image + rng.normal(8, 4, image.shape)).clip(0, 255).astype(np.uint8) for image in pool.load(other)]
    write(root / "good", drawn, pool.labels[other])
    write(root / "placebo", drawn, spread_labels(pool.labels[other], rng))
    again = np.repeat(train, 6)
    copies = [(image + rng.integers(0, 3, image.shape)).clip(0, 255).astype(np.uint8) for image in pool.load(again)]
    write(root / "memorised", copies, pool.labels[again])
    return root


@pytest.fixture(scope="module")
def judged(sets, tmp_path_factory) -> tuple[WorthPage, Path]:
    out = tmp_path_factory.mktemp("worth") / "out"
    asked = ask(str(sets / "real"), [str(sets / name) for name in ("good", "placebo", "memorised")], "starter/clip")
    return run_worth(asked, out), out


def test_a_good_set_a_placebo_and_a_memorised_one_get_three_answers(judged):
    page, out = judged
    words = {one.name: one.answer.word for one in page.judged}
    assert words == {"good": "helps", "placebo": "hurts", "memorised": "copies"}, (out / "worth.md").read_text()
    good, _, memorised = page.judged
    assert "copies of your 20 training photographs" in memorised.answer.sentence
    assert good.beside["memorisation"].value < 0.5 < memorised.beside["memorisation"].value
    assert good.alone["top1/synthetic"].value > good.alone["top1/placebo"].value + 0.2
    assert good.over_augmented.ci[0] > 0 > memorised.over_augmented.ci[0]
    assert {"top1/real_only", "top1/augmented", "top1/placebo", "exchange_rate", "leaks/generated"} <= set(good.beside)


def test_every_two_sets_are_compared_and_the_page_has_it_all(judged):
    page, out = judged
    assert {what: len(own) for what, own in page.pairs.items()} == {"beside the real images": 3, "alone": 3}
    of_placebo = page.pairs["alone"][0]
    assert (of_placebo.first, of_placebo.second) == ("good", "placebo") and of_placebo.holds
    assert of_placebo.difference.ci[1] < 0
    html, told = (out / "worth.html").read_text(), json.loads((out / "worth.json").read_text())
    for row in ("real images, augmented more", "synthetic alone, labels spread (placebo)", "real and synthetic"):
        assert row in html
    assert "good: To a learner that never sees the class names it is worth" in html
    assert [one["answer"]["word"] for one in told["sets"]] == ["helps", "hurts", "copies"]
    assert told["sets"][0]["beside"]["top1/real_only"]["n"] == 600


def test_the_command_says_it_and_does_nothing_twice(sets, judged):
    _, out = judged
    with counting() as spent:
        said = figment(
            *("worth", "--real", sets / "real", "--encoder", "starter/clip", "--out", out),
            *(part for name in ("good", "placebo", "memorised") for part in ("--synthetic", sets / name)),
        )
    assert said.returncode == 0, said.stdout + said.stderr
    text = " ".join(said.stdout.split())
    assert "good: helps; placebo: hurts; memorised: copies" in text and "worth.html" in text
    assert "placebo against good, alone: −" in text and spent.encoded == 0


def test_photographs_that_nobody_has_split_are_dealt(sets):
    whole = sets / "real" / "test"
    made = [str(sets / "good")]
    (alone,) = ask(str(whole), made, "starter/clip").recipes.values()
    (dealt,) = ask(str(whole), made, "starter/clip", test_share=0.25).recipes.values()
    assert alone.few_shot is None and "train" not in open_real(alone.task)
    given = open_real(dealt.task)
    assert dealt.few_shot.shots == "all" and {split: len(own) for split, own in given.items()} == {
        "train": 450,
        "test": 150,
    }
    refused("is split already \\(train, test\\)", sets / "real", *made, test_share=0.25)
    with pytest.raises(FigmentError, match="test_share: input should be less than 1"):
        ask(str(whole), made, "starter/clip", test_share=1.5)
    refused("the very images of the real images", whole, shutil.copytree(whole, sets / "copy"), test_share=0.25)
    only = str(sets / "real" / "train")
    (of_train,) = ask(only, made, "starter/clip", test_share=0.5).recipes.values()
    assert of_train.task.real.folder == only
    refused("the very images of the real test set", whole, write_of(given["test"], sets / "held"), test_share=0.25)


def write_of(images, folder: Path) -> Path:
    return folder if folder.exists() else write(folder, images.load(range(len(images))), images.labels)


# ---- what cannot be judged -------------------------------------------------------------------------------------------


def refused(
    match: str, real: Path | str, *synthetic: Path | str, encoder: str | None = "starter/clip", **given
) -> None:
    with pytest.raises(FigmentError, match=match) as told:
        ask(str(real), [str(where) for where in synthetic], encoder, **given)
    assert "\n" not in str(told.value)


def test_without_an_encoder_two_are_named(sets):
    refused("starter/clip is embedded.*openai/clip-vit-base-patch32", sets / "real", sets / "good", encoder=None)


def test_the_same_images_on_both_sides_are_refused(sets, tmp_path):
    for same in (sets / "real", sets / "real" / "train", sets / "good" / ".." / "real" / "test"):
        refused("what --real names already", sets / "real", same)
    refused("another --synthetic", sets / "real", sets / "good", sets / "placebo" / ".." / "good")
    shutil.copytree(sets / "real" / "train", tmp_path / "made")
    refused("the very images of the real train set", sets / "real", tmp_path / "made")


def test_images_are_no_place_to_write_to(sets):
    asked = ask(str(sets / "real"), [str(sets / "good")], "starter/clip")
    for place in ("real", "good"):
        with pytest.raises(FigmentError, match="is a place of images, which are never written to"):
            run_worth(asked, sets / place)


def test_an_empty_side_and_other_classes_are_refused_by_name(sets, tmp_path):
    (tmp_path / "none").mkdir()
    refused("none is an empty folder", sets / "real", tmp_path / "none")
    refused("none is an empty folder", tmp_path / "none", sets / "good")
    refused("away does not exist", sets / "real", tmp_path / "away")
    shutil.copytree(sets / "good", tmp_path / "made")
    (tmp_path / "made" / "coat").rename(tmp_path / "made" / "zebra")
    refused("Missing there: 'coat'. Not in the task: 'zebra'.*those of --real", sets / "real", tmp_path / "made")
    for image in (tmp_path / "made" / "zebra").iterdir():
        image.unlink()
    refused("zebra|coat|no images", sets / "real", tmp_path / "made")
    shutil.copytree(sets / "real" / "train", tmp_path / "photos" / "train")
    refused("has no test images.*beside train", tmp_path / "photos", sets / "good")
    refused("no built-in task 'nope'", sets / "real", sets / "good", task="nope")
    refused("has no '='", sets / "real", sets / "good", changes=["train.seeds"])


def test_sizes_that_differ_and_missing_photographs_are_said(sets, tmp_path, capsys):
    for path in (sets / "good").rglob("*.png"):
        large = tmp_path / "large" / path.relative_to(sets / "good")
        large.parent.mkdir(parents=True, exist_ok=True)
        Image.open(path).resize((48, 60)).save(large)
    asked = ask(str(sets / "real" / "test"), [str(tmp_path / "large")], "starter/clip")
    notes = " ".join(asked.notes["large"])
    assert "300 images, 30 a class" in notes and "48 pixels, that of the test images 32 pixels" in notes
    assert "judged alone" in notes
    own = asked.recipes["large"]
    assert own.few_shot is None and not own.arms and not own.evaluate.exchange_rate


def test_a_network_learns_from_the_same_images(sets, tmp_path):
    few = ["train.steps=4", "train.seeds=1", "train.batch_size=16"]
    asked = ask(str(sets / "real"), [str(sets / "good")], "starter/clip", network="small_cnn", changes=few)
    own = asked.recipes["good"].train
    assert (own.kind, own.image_size, own.steps) == ("network", 32, 4)
    page = run_worth(asked, tmp_path / "out")
    (good,) = page.judged
    assert {"top1/augmented", "top1/real_repeated", "top1/placebo", "memorisation"} <= set(good.beside)
    assert "exchange_rate" not in good.beside and not page.pairs


# ---- what a data set says of itself ----------------------------------------------------------------------------------


def test_splits_and_classes_are_told_by_whatever_form_a_set_has(sets, tmp_path):
    real = sets / "real"
    assert splits_in(str(real)) == {split: str(real / split) for split in ("train", "test")}
    assert splits_in(str(real / "test")) == {"test": str(real / "test")}
    assert splits_in("starter/sketch") == {"train": "starter/sketch/pool", "test": "starter/sketch/test"}
    assert splits_in("starter") == {"train": "starter/catalogue/pool", "test": "starter/catalogue/test"}
    rows = [
        f"{split},{split}/{p.parent.name}/{p.name},{p.parent.name}"
        for split in ("train", "test")
        for p in (real / split).rglob("*.png")
    ]
    table = tmp_path / "photos.csv"
    table.write_text("split,path,class\n" + "".join(f"{row.replace(',', f',{real}/', 1)}\n" for row in rows))
    assert splits_in(str(table)) == {split: f"{table}:{split}" for split in ("train", "test")}
    names = [name.replace(" ", "_") for name in NAMES]
    assert sorted(class_names_in(f"{table}:test")) == sorted(class_names_in(str(real / "train"))) == sorted(names)
    assert class_names_in(real_folder("starter/test")) == NAMES  # Parquet


def test_classes_that_have_numbers_alone_are_called_by_them(sets, tmp_path):
    rows = [
        f"{path},{NAMES.index(path.parent.name.replace('_', ' '))}" for path in (sets / "real" / "test").rglob("*.png")
    ]
    (tmp_path / "real.csv").write_text("path,label\n" + "".join(f"{row}\n" for row in rows))
    for path in (sets / "good").rglob("*.png"):
        own = tmp_path / "made" / str(NAMES.index(path.parent.name.replace("_", " ")))
        own.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, own)
    asked = ask(str(tmp_path / "real.csv"), [str(tmp_path / "made")], "starter/clip")
    assert sorted(asked.recipes["made"].task.class_names) == [str(i) for i in range(10)]

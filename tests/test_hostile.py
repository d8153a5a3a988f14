"""Bad input of every kind: a clear error, a counted and named skip, or it works. The table is in ``hostile.py``."""

from __future__ import annotations

import io
import json
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import hostile
from figment import encoders
from figment.errors import FigmentError
from figment.generate.diffusers import DiffusersGenerator
from figment.images_in import Unreadable, decode, open_images
from figment.recipe import Recipe, load_recipe
from figment.report.folder import report_of
from figment.run import run_recipe
from figment.words import comparable, printable, storable

pytestmark = pytest.mark.slow

WRITTEN = hostile.written()


@pytest.mark.parametrize("case", hostile.CASES, ids=lambda case: case.id)
def test_bad_input_gets_a_clear_answer_and_the_page_has_it(case, clip):
    if case.skip:
        pytest.skip("nothing is forbidden to root")
    with tempfile.TemporaryDirectory() as folder:  # of a short name, as the page's: answers shorten long paths
        got = hostile.row(case, hostile.attempt(case, Path(folder), clip))
    told = WRITTEN.get(case.id, "")
    assert hostile.NOT_TRIED in told or hostile.say_the_same(got, told), f"the page says {told}, and it got {got}"


def test_the_page_is_what_the_cases_make_of_it():
    assert len({case.id for case in hostile.CASES}) == len(hostile.CASES) >= 60
    assert "\n".join(hostile.page(WRITTEN)) + "\n" == hostile.PAGE.read_text(encoding="utf-8")


# ---- the table can fail ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "html",
    [
        "<script>1</script>",
        "<p onclick='x'>a</p>",
        "<a href='javascript:x'>a</a>",
        "<img src='http://x/y.png'>",
        "<p style='background:url(x)'>a</p>",
        "<p><b></p></b>",
        "<p>",
        "<!-- a -->",
        "<?php ?>",
        "<meta http-equiv='refresh' content='0;url=x'>",
        "<p>\x07</p>",
        '<p title=""b"c>a</p>',
    ],
)
def test_a_page_that_something_escaped_into_is_found(html):
    with pytest.raises(hostile.Lost):
        hostile.check_page(f"<!DOCTYPE html><html><body>{html}</body></html>")


def test_other_losses_are_found(tmp_path, clip):
    def lost(do) -> None:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        with pytest.raises(hostile.Lost):
            hostile.attempt(hostile.Case("g", "k", do, "works"), folder, clip)

    def overwrite(bench):
        path = bench.file("a", "mine")
        with bench.untouched():
            path.write_text("yours")
        return "works: it"

    lost(overwrite)
    lost(lambda bench: hostile.outcome(1, "Traceback (most recent call last)"))
    lost(lambda bench: hostile.outcome(0, "a \x1b[31m name"))
    lost(lambda bench: "something else")
    lost(lambda bench: bench.shell("touch pwned"))


# ---- all of them at once ---------------------------------------------------------------------------------------------

BROKEN = {
    "cut.jpg": hostile.cut(hostile.JPEG, 0.5),
    "empty.png": b"",
    "page.jpg": b"<html>404",
    "lies.png": hostile.lying_png(90, 90),
    "photo.heic": b"\0\0\0\x18ftypheic" + bytes(64),
    "\x1b[31m<script>\udcff.png": b"zip? no",
}


def test_a_run_leaves_broken_photographs_out_counts_and_names_them(tmp_path, clip, capsys):
    bench = hostile.Bench(tmp_path, clip)
    for split, blue in (("train", 99), ("test", 98)):
        for i in range(40):
            for label, name in enumerate(hostile.CLASSES):
                bench.file(f"{split}/{name}/{i}.png", hostile.png(hostile.solid(200 * label, i, blue, size=(9, 9))))
    for name, data in BROKEN.items():
        bench.file(f"test/cat/{name}", data)
    real = {split: str(bench.inputs / split) for split in ("train", "test")}
    recipe = Recipe.model_validate({**bench.data(real=real), "evaluate": {"exchange_rate": False}})
    with bench.untouched():
        outcome = run_recipe(recipe, tmp_path / "out")
    said = capsys.readouterr().out
    hostile.check_terminal(said)
    assert "6 of the 86 images in task.real.test cannot be read and are left out: " in said and "and 1 more" in said
    assert {outcome.results[name].n for name in ("top1/zero_shot", "top1/synthetic", "top1/real_all")} == {80}
    unreadable = json.loads((tmp_path / "out" / "stage.json").read_text())["unreadable"]
    assert list(unreadable) == ["test"] and unreadable["test"].keys() == {
        f"cat/{printable(storable(name))}" for name in BROKEN
    }
    assert any("6 real test images could not be read" in caveat for caveat in report_of(tmp_path / "out").caveats)
    hostile.check_page((tmp_path / "out" / "report.html").read_text())
    again = run_recipe(recipe, tmp_path / "out")
    assert again.results == outcome.results  # and nothing was trained a second time
    assert "tune on" not in capsys.readouterr().out


def test_a_run_on_names_that_are_not_utf8_and_on_what_looks_wrong_says_so(tmp_path, clip, capsys):
    bench = hostile.Bench(tmp_path, clip)
    for split, most in (("train", 200), ("test", 4)):  # the test images are all but black
        for label, name in enumerate(hostile.CLASSES):
            for i in range(2):
                bench.file(f"{split}/{name}/{i}\udcff.png", hostile.png(hostile.solid(label * most, i, most // 2)))
    real = {split: str(bench.inputs / split) for split in ("train", "test")}
    names = {"class_names": ["BigCat", "dog"], "own_names": hostile.CLASSES}
    recipe = {**bench.data(real=real, **names), "few_shot": {"shots": 2}, "evaluate": {"exchange_rate": False}}
    with bench.untouched():
        run_recipe(Recipe.model_validate(recipe), tmp_path / "out")
    said = capsys.readouterr().out
    hostile.check_terminal(said)
    assert "nearly every image in task.real.test is black (4 of 4" in said and "task.real.train is black" not in said
    assert "1 of 2 class names are spelt for programs, such as 'BigCat': the models read 'a photo of a BigCat.'" in said
    shots = json.loads((tmp_path / "out" / "shots.json").read_text())["images"]
    assert {shot["id"] for shot in shots} == {f"{name}/{i}\\udcff.png" for name in hostile.CLASSES for i in range(2)}


def test_photographs_are_decoded_once_and_a_few_at_a_time(tmp_path, clip, monkeypatch):
    bench = hostile.Bench(tmp_path, clip)
    bench.photographs()
    bench.file("cat/broken.png", b"")
    images, loaded, batches = open_images(bench.inputs, hostile.CLASSES), [], []

    class Counted(hostile.MeanColour):
        def images(self, decoded):
            batches.append(len(decoded))
            return super().images(decoded)

    class Watched(type(images)):
        def load(self, indices):
            loaded.extend(indices)
            return super().load(indices)

    monkeypatch.setattr("figment.encoders.reading.PORTION_BYTES", 5 * 6 * 4 * 3)
    watched = Watched(images.paths, images.labels, images.ids)
    features = encoders.Features(Counted())
    left, unreadable = features.readable(watched)
    assert loaded == list(range(25)) and sum(batches) == 24 and max(batches) == 6
    assert unreadable == {"cat/broken.png": "an empty file"} and len(left) == 24
    assert features(left).tolist() == Counted().images(left.load(range(24))).tolist()
    assert len(loaded) == 25
    with pytest.raises(Unreadable, match="broken.png"):
        features(watched)


def test_prompts_that_are_cut_are_counted_without_opening_the_model(sd15, clip):
    generator = DiffusersGenerator(model=str(sd15))
    texts = ["a" * 75, "a" * 76, "a" * 500, "a" * 500]  # this tokenizer makes a token of each letter, and two more
    assert generator.count_cut(texts) == 3 and "pipe" not in vars(generator)
    assert encoders.ClipEncoder(str(clip)).count_cut(texts) == 3
    assert generator.count_cut([]) == 0


# ---- fuzzers ---------------------------------------------------------------------------------------------------------

QUICK = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
WHOLE = [hostile.JPEG, hostile.PNG, *(hostile.noise(kind, 16) for kind in ("GIF", "WEBP", "TIFF", "BMP", "PPM"))]
EDITS = st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=6), st.integers(0, 40)), max_size=6)


@QUICK
@given(st.sampled_from(WHOLE), EDITS)
def test_a_damaged_image_is_pixels_or_a_clear_error(data, edits):
    for share, inserted, dropped in edits:
        at = int(share * len(data))
        data = data[:at] + inserted + data[at + dropped :]
    try:
        image = decode(data, "it.png")
    except Unreadable as error:
        assert str(error).startswith("it.png is not an image that can be read: ") and 0 < len(error.reason) < 200
        assert "0x" not in error.reason  # an address would differ each time
    else:
        assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3


@QUICK
@given(st.binary(max_size=200))
def test_any_bytes_are_a_recipe_or_a_clear_error(tmp_path, data):
    (tmp_path / "recipe.yaml").write_bytes(data)
    with suppress(FigmentError):
        load_recipe(tmp_path / "recipe.yaml")


RESOLVED = Recipe.model_validate({"task": {"class_names": ["cat", "dog"]}}).to_yaml()
LINES = st.sampled_from(RESOLVED.splitlines())


@QUICK
@given(EDITS, st.lists(st.tuples(st.floats(0, 1), LINES), max_size=3))
def test_a_changed_recipe_is_a_recipe_or_a_clear_error(tmp_path, edits, moved):
    lines = RESOLVED.splitlines()
    for share, line in moved:
        lines.insert(int(share * len(lines)), line)
    text = "\n".join(lines).encode()
    for share, inserted, dropped in edits:
        at = int(share * len(text))
        text = text[:at] + inserted + text[at + dropped :]
    (tmp_path / "recipe.yaml").write_bytes(text)
    try:
        recipe = load_recipe(tmp_path / "recipe.yaml")
    except FigmentError as error:
        assert str(error).strip()
    else:
        (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
        assert load_recipe(tmp_path / "recipe.yaml") == recipe


@QUICK
@given(st.text(max_size=12))
def test_any_class_name_is_shown_safely_or_refused(name):
    shown = printable(name)
    io.TextIOWrapper(io.BytesIO(), encoding="utf-8").write(shown)  # no half of a surrogate pair
    hostile.check_terminal(shown)
    assert comparable(comparable(name)) == comparable(name)
    try:
        recipe = Recipe.model_validate({"task": {"class_names": [name, "another one"]}})
    except ValueError:
        return
    assert printable(name) == name and comparable(name)
    assert yaml.safe_load(recipe.to_yaml())["task"]["class_names"][0] == name

"""A recipe that starts from captions that one has: without classes to a backbone and its report, with classes to a classifier's images."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from figment import judge_backbone, open_backbone
from figment.errors import FigmentError
from figment.exports.export import export
from figment.forecast import forecast
from figment.images_in.captions import captions_of
from figment.images_in.shards import open_run_images
from figment.layout import Run
from figment.recipe import validate
from figment.repair import repair
from figment.report.folder import report_of
from figment.run import make_images, run_recipe
from figment.shards import prompts_in
from figment.studies.pilot import run_pilot
from figment.trained import open_trained
from figment.verify import verify
from folders import rows

NAMES = ["red thing", "green thing", "blue thing"]
SMALL = {
    "backbone": "test_vit",
    "options": {"patch_size": 8},
    "image_size": 16,
    "epochs": 1,
    "batch_size": 6,
    "seeds": 1,
}


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "captions.tsv"
    path.write_text("".join(f"a scene with {i} things\thttps://e.org/{i}\n" for i in (0, 1, 2, 3, 1)))
    return path


@pytest.fixture
def recipe(photos, source):
    def make(**changes):
        data = {
            "task": {"class_names": NAMES, "real": {split: str(photos / split) for split in ("train", "test")}},
            "prompts": {"kind": "caption_set", "source": str(source)},
            "generate": {
                "kind": "procedural", "images_per_class": 12, "shard_size": 5, "height": 24, "width": 20, "save_size": 16, "format": "jpeg",
            },
            "filters": [{"kind": "blank"}],
            "train": {"kind": "simclr", "projector": [16], **SMALL},
            "evaluate": {"real_all": False},
        }  # fmt: skip
        return validate(data, "test").changed(changes)

    return make


@pytest.mark.slow
def test_from_captions_without_classes_to_a_report(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr("figment.probe.MIN_STEPS", 20)
    monkeypatch.setattr("figment.probe.EPOCHS", 20)
    own = recipe(train={"kind": "stablerep", "images_per_caption": 2, "projector": [16], **SMALL})
    outcome = run_recipe(own, tmp_path / "run")
    assert {"top1/zero_shot", "top1/synthetic", "gain/synthetic"} <= set(outcome.results)
    assert not {"top1/placebo", "content"} & set(outcome.results) and outcome.verdict == "not judged"
    page = report_of(tmp_path / "run")
    assert (page.counts.attempted, page.counts.kept, dict(page.counts.kept_by_class)) == (12, 12, {})
    assert {tile.label for tile in page.kept} == {"no class"}
    assert "Its images are of no class" in page.verdict.sentence
    facts = json.loads((tmp_path / "run" / "model" / "stage.json").read_text())["facts"]
    assert facts["captions"] == 4
    found = verify(tmp_path / "run")
    assert found.ok and not [f for f in found.findings if f.severity != "note" or "balance" in f.text]
    assert run_recipe(own, tmp_path / "run").results == outcome.results


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["simclr", "stablerep"])
def test_captions_alone_are_enough_for_a_backbone(kind, recipe, photos, tmp_path, monkeypatch):
    """No photograph is there: what needs labels is left out and said to be, what needs none is told, and it can be judged."""
    monkeypatch.setattr("figment.probe.MIN_STEPS", 20)
    m = {"images_per_caption": 2} if kind == "stablerep" else {}
    own = recipe(**{"task.real": {}, "train": {"kind": kind, "projector": [16], **SMALL, **m}})
    forecast(own, tmp_path / "run")
    outcome = run_recipe(own, tmp_path / "run")
    assert not outcome.results and verify(tmp_path / "run").ok
    page = report_of(tmp_path / "run")
    assert page.verdict.word == "not measured"
    why, health = page.verdict.notes
    assert "figment judge" in why and "no linear probe" in why and "RankMe" in health
    told = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "figment judge" in told and "uniformity of" in told
    facts = json.loads((tmp_path / "run" / "model" / "stage.json").read_text())["facts"]
    assert facts["health"].keys() == {"rankme", "alignment", "uniformity"}
    assert not (tmp_path / "run" / "model" / "probe.safetensors").exists()
    card = (tmp_path / "run" / "model" / "README.md").read_text(encoding="utf-8")
    assert "Nobody knows" in card and "probe.safetensors" not in card
    with pytest.raises(FigmentError, match=r"classifies nothing.*figment judge"):
        open_trained(tmp_path / "run")
    (one,) = judge_backbone(open_backbone(str(tmp_path / "run"), device="cpu"), [f"knn={photos}"], tmp_path / "judged")
    assert one.numbers.n == 36


@pytest.mark.parametrize("kind", ["simclr", "clip"])
def test_a_test_without_anything_to_learn_a_probe_from_is_refused(kind, recipe, photos):
    with pytest.raises(FigmentError, match=r"Set task.real.train too, or leave task.real.test out"):
        recipe(**{"task.real": {"test": str(photos / "test")}, "train": {"kind": kind, **SMALL}})


def test_all_images_of_a_caption_share_a_group_and_have_no_class(recipe, tmp_path):
    make_images(recipe(), tmp_path / "run")
    images = open_run_images(Run(tmp_path / "run"))
    assert set(images.labels) == {-1} and len(images) == 12
    own = captions_of(images)
    assert np.bincount(own.groups).tolist() == [3] * 4 and set(own.texts) == {
        f"a scene with {i} things" for i in range(4)
    }
    assert {row["id"].rpartition("/")[0] for row in rows(tmp_path / "run" / "images")} == set(
        images.column("group").to_pylist()
    )
    make_images(recipe(**{"generate.images_per_class": 20}), tmp_path / "run")  # the set grows, caption by caption
    assert np.bincount(open_run_images(Run(tmp_path / "run")).groups).tolist() == [5] * 4
    found = verify(tmp_path / "run")
    assert found.ok and not [f for f in found.findings if "balance" in f.text]


def test_so_many_images_of_each_caption_however_many_there_are(recipe, tmp_path):
    """Six captions are asked for and four are there."""
    own = recipe(**{"prompts.per_class": 6, "generate.images_per_prompt": 3})
    assert forecast(own, tmp_path / "run").count("images") == 12
    make_images(own, tmp_path / "run")
    assert np.bincount(open_run_images(Run(tmp_path / "run")).groups).tolist() == [3] * 4
    make_images(own.changed({"generate.images_per_prompt": 5}), tmp_path / "run")
    assert np.bincount(open_run_images(Run(tmp_path / "run")).groups).tolist() == [5] * 4
    make_images(own, tmp_path / "run")  # the first of them again
    assert np.bincount(open_run_images(Run(tmp_path / "run")).groups).tolist() == [3] * 4
    found = verify(tmp_path / "run")
    assert found.ok and not [f for f in found.findings if f.severity != "note"]


def test_lost_prompts_are_written_again_from_the_captions(recipe, source, tmp_path):
    make_images(recipe(), tmp_path / "run")
    path = tmp_path / "run" / "prompts" / "train.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    assert "wrote them anew" in "\n".join(repair(tmp_path / "run")) and path.read_bytes() == whole


def test_other_captions_are_refused_and_the_same_elsewhere_are_not(recipe, source, tmp_path):
    make_images(recipe(), tmp_path / "run")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    moved = shutil.copy(source, elsewhere / source.name)
    make_images(recipe(**{"prompts.source": str(moved)}), tmp_path / "run")
    source.write_text(source.read_text().replace("3 things", "4 things"))
    with pytest.raises(FigmentError, match=r"writer was '[0-9a-f]+' and is now '[0-9a-f]+'"):
        make_images(recipe(), tmp_path / "run")


def test_captions_with_classes_make_as_many_images_of_each(recipe, source, tmp_path):
    lines = [f"{name}\t{name} number {i}" for i, name in enumerate(NAMES * 2)]
    source.write_text("\n".join(["class\tcaption", *lines]))
    own = recipe(**{"prompts.label_column": "class", "generate.images_per_class": 4})
    assert own.n_labels == 3
    make_images(own, tmp_path / "run")
    images = open_run_images(Run(tmp_path / "run"))
    assert np.bincount(images.labels).tolist() == [4, 4, 4] and np.bincount(images.groups).tolist() == [2] * 6
    assert all(text.startswith(NAMES[label]) for text, label in zip(images.prompts, images.labels, strict=True))
    assert [p.label for p in prompts_in(tmp_path / "run" / "prompts")] == [0, 0, 1, 1, 2, 2]


def test_a_forecast_counts_images_in_all(recipe, tmp_path):
    made = forecast(recipe(), tmp_path / "run")
    assert (made.count("prompts"), made.count("images")) == (4, 12)
    asked = {
        "kind": "synclr",
        "base_url": "http://127.0.0.1:1/v1",
        "model": "m",
        "per_class": 7,
        "concepts": {"dtd": 1},
    }
    made = forecast(recipe(prompts=asked), tmp_path / "run")  # asks nobody
    assert (made.count("prompts"), made.count("images")) == (7, 12)


@pytest.mark.parametrize("to", ["imagefolder", "coco", "webdataset", "parquet", "csv"])
def test_exports_of_images_without_classes(recipe, to, tmp_path):
    make_images(recipe(), tmp_path / "run")
    export(tmp_path / "run", to, tmp_path / "out", rejected=True)
    if to != "csv":
        card = (tmp_path / "out" / "README.md").read_text()
        assert "12 images of captions without classes" in card and "| -1 | none | 12 |" in card
    if to == "imagefolder":
        assert len(list((tmp_path / "out" / "no class").glob("*.jpg"))) == 12
        lines = (tmp_path / "out" / "metadata.jsonl").read_text().splitlines()
        assert {(json.loads(line)["label"], json.loads(line)["class_name"]) for line in lines} == {(-1, "")}
    if to == "coco":
        told = json.loads((tmp_path / "out" / "labels.json").read_text())
        assert len(told["images"]) == 12 and not told["annotations"]
    if to == "parquet":
        table = pq.read_table(next((tmp_path / "out").rglob("*.parquet")))
        assert set(table["label"].to_pylist()) == {-1} and set(table["class_name"].to_pylist()) == {""}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"filters": [{"kind": "clip"}]}, "the filter 'clip' reads the classes of generated images"),
        ({"train": {"kind": "network", "architecture": "resnet18"}}, "train.kind: network reads the classes"),
        ({"train": {"kind": "words_and_images"}}, "train.kind: words_and_images reads"),
        ({"train.kind": "supervised"}, "train.kind: supervised reads"),
        ({"filters": [{"kind": "argmax"}], "train": {"kind": "network"}}, "the filter 'argmax' and train.kind: network read the"),
        ({"generate.kind": "diffusers", "generate.finetune": {"per_class": True}}, "generate.finetune.per_class reads"),
        ({"generate.kind": "diffusers", "generate.real_guidance": {}, "few_shot": {"shots": 2}}, "generate.real_guidance reads"),
    ],
)  # fmt: skip
def test_what_reads_classes_is_refused_by_name(recipe, changes, said):
    for name in ("height", "width"):
        changes = {**changes, f"generate.{name}": 24} if "generate.kind" in changes else changes
    with pytest.raises(FigmentError, match=said):
        recipe(**changes)


def test_measures_of_classes_are_refused_where_asked_for(recipe, tmp_path):
    for name in ("recognisability", "fast_cas", "frechet"):
        with pytest.raises(FigmentError, match=f"The measure {name} needs .*generated images of the task's classes"):
            run_recipe(recipe(**{"evaluate.measures": [name]}), tmp_path / "run")


def test_a_pilot_says_why_it_has_nothing_to_ask(recipe, tmp_path):
    with pytest.raises(FigmentError, match="writes prompts of no class here, and a pilot asks"):
        run_pilot(recipe(), tmp_path / "run")

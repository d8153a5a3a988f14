"""The card of a backbone: what it is, how it came about, how good it is, and lines that open it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from conftest import write_photos
from figment import judge_backbone, open_backbone
from figment.exports.models.export import export_model
from figment.layout import Run
from figment.recipe import validate
from figment.repair import repair
from figment.run import run_recipe
from figment.stages.report import write_report
from figment.verify import verify

pytestmark = pytest.mark.slow  # one run, of which all is asked


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    """One that was pre-trained to read, in two steps."""
    root = tmp_path_factory.mktemp("card")
    photos = write_photos(root / "photos")
    data = {
        "name": "things",
        "task": {
            "class_names": ["red thing", "green thing", "blue thing"],
            "real": {split: str(photos / split) for split in ("train", "test")},
        },
        "generate": {"kind": "procedural", "images_per_class": 6, "height": 24, "width": 20},
        "filters": [{"kind": "blank"}],
        "train": {
            "kind": "clip", "backbone": "test_vit", "options": {"patch_size": 8}, "image_size": 32, "steps": 2, "batch_size": 6,
            "text_tower": [64, 1],
        },
        "evaluate": {"evidence": False, "real_all": False},
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("figment.probe.MIN_STEPS", 20)
        patch.setattr("figment.probe.EPOCHS", 5)
        run_recipe(validate(data, "test"), root / "run")
    return Run(root / "run")


def unescaped(path: Path) -> str:
    return path.read_text(encoding="utf-8").replace("\\", "")


def test_it_says_what_it_is_what_it_was_made_of_and_how_good_it_is(run):
    card = unescaped(run.card)
    assert "pipeline_tag: image-feature-extraction" in card and "# things: a backbone" in card
    assert "- Method: clip, 2 steps of 6 images of 32 pixels" in card and "'patch_size': 8" in card
    assert (
        re.search(r"18 generated images of \d+ captions", card)
        and "- Generator of the images: procedural, licence:" in card
    )
    assert re.search(r"\| this backbone \| \d+\.\d % \(\d+\.\d to \d+\.\d\) \| 36 real test images \|", card)
    assert "It reads too" in card and "## Intended use" in card and "judged by" not in card


def test_its_lines_open_it(run, monkeypatch):
    (lines,) = re.findall(r"```python\n(.*?)```", run.card.read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(run.model)
    there: dict = {}
    exec(lines, there)
    assert there["backbone"].num_features == 64 and there["tuned"].num_classes == 10


def test_it_is_vouched_for_and_mended(run):
    before = run.card.read_bytes()
    assert verify(run.folder).ok and not [f for f in verify(run.folder).findings if "unknown" in f.text]
    run.card.unlink()
    assert not verify(run.folder).ok
    repair(run.folder)
    assert verify(run.folder).ok and run.card.read_bytes() == before


def test_what_was_judged_of_it_stands_there_once_the_page_is_written_again(run, monkeypatch):
    monkeypatch.setattr("figment.probe.MIN_STEPS", 20)
    out = run.folder.parent / "judge-things"
    photos = run.folder.parent / "photos"
    judge_backbone(open_backbone(str(run.folder), device="cpu"), [f"knn,zero_shot={photos}"], out)
    (run.folder.parent / "judge-of-others").mkdir()
    (run.folder.parent / "judge-of-others" / "judge.json").write_text("[]")
    write_report(run)
    card = unescaped(run.card)
    assert re.search(r"\| knn, accuracy \| photos \| \d+\.\d % \(\d+\.\d to \d+\.\d\) \|", card)
    assert "zero_shot, accuracy" in card and verify(run.folder).ok
    (out / "judge.json").write_text("{")
    write_report(run)
    assert "judged by" not in run.card.read_text(encoding="utf-8")


@pytest.mark.parametrize("to", ["timm", "safetensors"])
def test_an_export_says_that_it_is_a_backbone_with_a_probe(run, to: str, tmp_path):
    export_model(run.folder, to, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "pipeline_tag: image-feature-extraction" in card and "- image-classification" in card
    assert "a backbone, and a linear probe" in card and "- Method: clip, 2 steps" in card
    assert ("num_classes=0" in card.split("## As a backbone")[1]) == (to == "timm")
    assert not Path(run.model / "head.json").exists()

"""What images were asked to show: from the prompts to the columns of a run, its exports and its report."""

from __future__ import annotations

import csv

import pyarrow.parquet as pq
import pytest

import figment
from figment import shards
from figment.exports.export import export
from figment.images_in.shards import open_run_images
from figment.layout import Run
from figment.recipe import validate
from figment.repair import repair
from figment.report.attributes import asked_of
from figment.verify import verify

RECIPE = {
    "task": {
        "class_names": ["shoe", "ankle boot"],
        "attributes": {"tone": ["dark", "light"], "the cut": ["wide"]},
        "contexts": ["on a table"],
    },
    "generate": {"kind": "procedural", "images_per_class": 8, "height": 8, "width": 8, "shard_size": 8},
    "filters": [],
}
COLUMNS = ["attribute_tone", "attribute_the cut", "attribute_context"]


def made(folder, **changes):
    figment.make_images(validate({**RECIPE, **changes}, "it"), folder)
    return Run(folder)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return made(tmp_path_factory.mktemp("attributes") / "run", prompts={"kind": "attributes", "per_class": 5})


def test_an_image_has_the_attributes_of_its_prompt_in_columns(run):
    prompts = {p.id: p for p in shards.prompts_in(run.prompts)}
    assert {kind for p in prompts.values() for kind, _ in p.attributes} == {"tone", "the cut", "context"}
    files = sorted(run.images.glob("*/*.parquet"))
    assert len(files) == 2 and all(pq.read_schema(path).names[-3:] == COLUMNS for path in files)
    for path in files:
        table = pq.read_table(path)
        for prompt_id, attributes in zip(table["prompt_id"].to_pylist(), shards.attributes_in(table), strict=True):
            assert attributes == prompts[prompt_id].attributes
    assert verify(run.folder).ok


def test_an_export_has_the_columns_too(run, tmp_path):
    export(run.folder, "csv", tmp_path / "csv")
    rows = list(csv.DictReader((tmp_path / "csv" / "labels.csv").open()))
    assert len(rows) == 16 and {row["attribute_tone"] for row in rows} == {"dark", "light", ""}
    export(run.folder, "parquet", tmp_path / "parquet")
    (path,) = (tmp_path / "parquet").rglob("*.parquet")
    assert pq.read_table(path)["attribute_context"].to_pylist() == [row["attribute_context"] for row in rows]


def test_the_report_counts_what_was_kept_of_each(run):
    images = open_run_images(run)
    tones = images.attributes["attribute_tone"].to_pylist()
    reasons = [("clip", "odd", {"p": 0.1}) if tone == "dark" else ("", "", {"p": 0.9}) for tone in tones]
    lines = {(line.kind, line.word): line for line in asked_of(images, reasons)}
    assert {kind for kind, _ in lines} == {"tone", "the cut", "context"}
    dark, light = lines["tone", "dark"], lines["tone", "light"]
    assert (dark.made, dark.kept, dark.scores) == (tones.count("dark"), 0.0, {"p": pytest.approx(0.1)})
    assert light.kept == 1 and light.ci[0] < 1 == light.ci[1]
    assert sum(line.made for (kind, _), line in lines.items() if kind == "tone") == 16
    assert asked_of(images, [("", "", {})] * len(images)) == []  # nothing was filtered


def test_a_lost_shard_is_made_again_with_its_columns(run):
    path = sorted(run.images.glob("*/*.parquet"))[1]
    before = path.read_bytes()
    path.unlink()
    repair(run.folder)
    assert path.read_bytes() == before and verify(run.folder).ok


def test_runs_whose_prompts_tell_none_have_no_such_columns(tmp_path):
    plain = made(tmp_path / "run", prompts={"kind": "templates"})
    (path, *_) = plain.images.glob("*/*.parquet")
    assert open_run_images(plain).attributes == {} and pq.read_schema(path).names[-1] == "error"


def test_words_of_an_earlier_version_are_kept_by_repair(tmp_path, monkeypatch):
    """Then a template was filled to the letter; the images were made from that."""
    with monkeypatch.context() as earlier:
        earlier.setattr("figment.prompts.templates.fill", lambda template, name: template.replace("{}", name))
        old = made(tmp_path / "run", prompts={"kind": "templates"})
    assert shards.prompts_in(old.prompts)[1].text == "a photo of a ankle boot."
    made(old.folder, prompts={"kind": "templates"})  # goes on as it was
    (old.prompts / "train.parquet").unlink()
    assert any(
        "took them from the images, since this version's templates writes others" in s for s in repair(old.folder)
    )
    assert shards.prompts_in(old.prompts)[1].text == "a photo of a ankle boot." and verify(old.folder).ok

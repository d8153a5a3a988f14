"""A run in the formats of others, each opened by its owner's own reader: the same images, labels and counts, whatever they are called."""

from __future__ import annotations

import csv
import glob
import json
import math
import re
import shutil
import sys
from contextlib import ExitStack
from pathlib import Path

import markdown_it
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

import damage
import folders
import hubs
from figment import claims, files, layout, png, records, shards
from figment.checking.check import check as look_through
from figment.errors import FigmentError
from figment.exports import source as source_module
from figment.exports.export import export, formats
from figment.exports.folder import STARTED
from figment.exports.names import Names, class_folders, safe_name
from figment.images_in import open_images, pixel_hash
from figment.images_in.open import class_names_in
from figment.images_in.real import open_real
from figment.records import Record
from figment.report.data_files import write_data_files
from figment.studies.worth import ask
from figment.types import Sample, Verdict
from figment.words import one_line
from hostile import snapshot

datasets = pytest.importorskip("datasets")

PLAIN = ["zebra", "ankle boot", "t-shirt"]
HOSTILE = [
    "a/b",
    "a_b",
    "..",
    ".hidden",
    "back\\slash",
    'quo"te\'s, ""',
    "new\nline\r\n\tand tab",
    "\u05e2\u05d1\u05e8\u05d9\u05ea",
    "\u202eevil\u202c",
    "\U0001f408 cat",
    "x" * 300,
    "x" * 299 + "y",
    "CON",
    "con.txt",
    "trailing. ",
    "train",
    "Test tube",
    "model-val-2",
    "=1+1",
    "a*b?[c]{d}",
    "__pycache__",
    "<b>&amp;</b>",
    "%41;rm -rf $HOME",
    "lone\rreturn",
    "README.md",
    "metadata.jsonl",
    "Classes.JSON",
    "labels.csv",
    "NA",
    "null",
    "nan",
    "ZEBRA",
    "Zebra",
]
PAGE = Path(__file__).parents[2] / "docs" / "data.md"
FORMATS = ["coco", "csv", "imagefolder", "parquet", "ultralytics", "webdataset"]
FAILED, REJECTED = 1, 2  # of the images of each class, by number


def make_run(
    folder: Path,
    class_names: list[str],
    per_class: int = 5,
    filters: int = 2,
    early: int = 0,
    made_by: dict | None = None,
) -> list[Sample]:
    """A finished run, as run_recipe leaves one: of each class one failed, one rejected by the last filter. Returns the made ones.

    The first ``early`` images are rejected by the first filter, so that the others never score them; the last filter then has a
    score of its own, ``late``."""
    made_by = made_by or {"model": "m", "licence": "MIT"}
    rng = np.random.default_rng(0)
    samples = []
    for k in range(per_class):
        for label, name in enumerate(class_names):
            image = None if k == FAILED else rng.integers(0, 256, (6, 5, 3), np.uint8)
            id = f"{label:03d}-test/{k}/0" if k else f"{label:03d}-\u202e../{name[:40]}/0"
            samples.append(
                Sample(id, id, f'photo "{k}", of {name}', label, 2**62 + k, id, image, "NaN" if image is None else None)
            )
    half = len(samples) // 2
    parts = [samples[:half], samples[half:]]
    images = folders.write_images(folder / "images", parts, class_names, generator=made_by)
    seen = made = [s for s in samples if s.image is not None]
    steps = [f"{i}-f{i}" for i in range(filters)]
    for i, step in enumerate(steps):
        last = i == filters - 1
        name = "late" if early and last else "s"
        verdicts = [
            Verdict(False, "too <odd>", {name: 0.1})
            if (last and _rejected(s)) or (not i and n < early)
            else Verdict(True, "", {name: 1 + i})
            for n, s in enumerate(seen)
        ]
        table = shards.score_table([s.id for s in seen], [s.label for s in seen], verdicts, class_names)
        counts = {"seen": len(seen), "kept": sum(v.keep for v in verdicts)}
        folders.write_scores(folder / "scores" / step, images, table, counts=counts)
        seen = [s for s, v in zip(seen, verdicts, strict=True) if v.keep]
    folders.write_selection(folder, steps)
    (folder / "resolved.yaml").write_text(yaml.safe_dump({"filters": [{"kind": "blank"}] * filters}))
    return made


def _rejected(sample: Sample) -> bool:
    return sample.id.split("/")[1] == str(REJECTED)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain") / "run"
    return folder, make_run(folder, PLAIN)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile") / "run"
    return folder, make_run(folder, HOSTILE)


@pytest.fixture(params=["plain", "hostile"])
def case(request):
    """Run folder, its class names, and the samples that are to be exported, by id."""
    folder, made = request.getfixturevalue(request.param)
    names = {"plain": PLAIN, "hostile": HOSTILE}[request.param]
    return folder, names, {s.id: s for s in made if not _rejected(s)}


def check(rows, expected: dict[str, Sample], names: list[str]) -> None:
    """``rows`` of (pixels, label, what is known): those of the expected samples, each once, nothing changed."""
    rows = list(rows)
    assert sorted(known["id"] for _, _, known in rows) == sorted(expected)
    for pixels, label, known in rows:
        sample = expected[known["id"]]
        assert (np.asarray(pixels) == sample.image).all()
        assert int(label) == sample.label and known["class_name"] == names[sample.label]
        assert known["prompt"] == sample.prompt and int(known["seed"]) == sample.seed and known["group"] == sample.group
        assert known["digest"] == records.digest(png.encode(sample.image))
        assert str(known["kept"]) == str(not _rejected(sample))
        assert known["reason"] == ("too <odd>" if _rejected(sample) else "")
        assert float(known["score_s"]) == (0.1 if _rejected(sample) else 2)


def content(root: Path) -> dict[str, bytes]:
    """What an export holds for its readers: hidden files are ours."""
    found = (p for p in root.rglob("*") if p.is_file() and not p.name.startswith("."))
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in found}


def opened(*args, tmp_path: Path, **options):
    found = datasets.load_dataset(*args, cache_dir=str(tmp_path / "cache"), **options)
    assert list(found) == ["train"]
    return found["train"]


def unfiltered(to: str) -> list[str]:
    """The configuration of an export with rejected images that has all of them."""
    return ["with_rejected"] if to == "parquet" else []


# ---- each by its owner's reader --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_imagefolder_by_datasets(case, tmp_path):
    folder, names, expected = case
    done = export(folder, "imagefolder", tmp_path / "out")
    assert sum(done.counts.values()) == len(expected) and done.left_out == len(names) and done.written
    for args, options in (((str(tmp_path / "out"),), {}), (("imagefolder",), {"data_dir": str(tmp_path / "out")})):
        rows = opened(*args, tmp_path=tmp_path, **options)
        check(((r["image"], r["label"], r) for r in rows), expected, names)


def test_imagefolder_labels_of_folders_by_datasets(case, tmp_path):
    """Without the metadata, the class folders alone say the same."""
    folder, _, expected = case
    export(folder, "imagefolder", tmp_path / "out")
    options = {"data_dir": str(tmp_path / "out"), "drop_metadata": True, "drop_labels": False}
    (tmp_path / "out" / "metadata.jsonl").unlink()
    rows = opened("imagefolder", tmp_path=tmp_path, **options)
    classes = {c["folder"]: c["label"] for c in json.loads((tmp_path / "out" / "classes.json").read_text())}
    labels = [classes[rows.features["label"].int2str(r["label"])] for r in rows]
    assert sorted(labels) == sorted(s.label for s in expected.values())


def test_imagefolder_by_torchvision(case, tmp_path):
    from torchvision.datasets import ImageFolder

    folder, names, expected = case
    out = tmp_path / "out"
    export(folder, "imagefolder", out)
    classes = json.loads((out / "classes.json").read_text())
    assert [c["class_name"] for c in classes] == names and [c["label"] for c in classes] == list(range(len(names)))
    assert all(c["images"] == sum(s.label == c["label"] for s in expected.values()) for c in classes)
    label = {c["folder"]: c["label"] for c in classes}
    known = {r["file_name"]: r for r in map(json.loads, (out / "metadata.jsonl").read_text().splitlines())}
    found = ImageFolder(out)
    assert len(found) == len(expected) and sorted(found.classes) == sorted(label)
    rows = []
    for (path, index), (image, _) in zip(found.samples, found, strict=True):
        rows.append((image, label[found.classes[index]], known[Path(path).relative_to(out).as_posix()]))
    check(rows, expected, names)


def test_webdataset_by_webdataset(case, tmp_path, monkeypatch):
    wds = pytest.importorskip("webdataset")
    monkeypatch.setattr(source_module, "SHARD_IMAGES", 4)
    folder, names, expected = case
    export(folder, "webdataset", tmp_path / "out")
    tars = sorted(str(p) for p in (tmp_path / "out").glob("*.tar"))
    assert len(tars) == -(-len(expected) // 4) and tars[1].endswith("/train-00001.tar")
    rows = list(wds.WebDataset(tars, shardshuffle=False, empty_check=False).decode("rgb8"))
    check(((r["png"], r["cls"], r["json"]) for r in rows), expected, names)
    assert all(r["txt"] == r["json"]["caption"] == r["json"]["prompt"] for r in rows)
    assert [r["__key__"] for r in rows[:5]] == ["000000000", "000000001", "000000002", "000000003", "000010000"]
    assert {(r["json"]["width"], r["json"]["height"]) for r in rows} == {(5, 6)}


def test_webdataset_by_datasets(case, tmp_path):
    folder, names, expected = case
    export(folder, "webdataset", tmp_path / "out")
    for args, options in (((str(tmp_path / "out"),), {}), (("webdataset",), {"data_dir": str(tmp_path / "out")})):
        rows = opened(*args, tmp_path=tmp_path, **options)
        check(((r["png"], r["cls"], r["json"]) for r in rows), expected, names)


def test_csv_by_the_csv_module_and_pandas(case, tmp_path):
    pandas = pytest.importorskip("pandas")
    folder, names, expected = case
    out = tmp_path / "out"
    export(folder, "csv", out)
    with open(out / "labels.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    check(((Image.open(out / r["path"]), r["label"], r) for r in rows), expected, names)
    table = pandas.read_csv(out / "labels.csv", keep_default_na=False)
    check(((Image.open(out / r["path"]), r["label"], r) for r in table.to_dict("records")), expected, names)


def test_csv_by_datasets(case, tmp_path):
    """A class called NA or null is a class, as the card says."""
    folder, names, expected = case
    out = tmp_path / "out"
    export(folder, "csv", out)
    rows = opened(str(out), tmp_path=tmp_path)
    check(((Image.open(out / r["path"]), r["label"], r) for r in rows), expected, names)


def test_csv_by_pandas_as_the_card_says(tmp_path):
    pandas = pytest.importorskip("pandas")
    names = ["NA", "null", "nan", "None", "n/a"]
    made = make_run(tmp_path / "run", names, early=6)
    export(tmp_path / "run", "csv", tmp_path / "out", rejected=True)
    card = (tmp_path / "out" / "README.md").read_text()
    (call,) = re.findall(r"^pandas\.read_csv\(.*\)$", card, re.MULTILINE)
    read = eval(call.replace('"labels.csv"', repr(str(tmp_path / "out" / "labels.csv"))), {"pandas": pandas})
    assert read["class_name"].tolist() == [names[s.label] for s in made] and read["reason"].isna().sum() == 0
    assert read["score_late"].dtype == float and read["score_late"].isna().sum() == 6


def test_parquet_by_datasets(case, tmp_path, monkeypatch):
    monkeypatch.setattr(source_module, "SHARD_IMAGES", 4)
    folder, names, expected = case
    export(folder, "parquet", tmp_path / "out")
    rows = opened(str(tmp_path / "out"), tmp_path=tmp_path)
    assert rows.features["label"].names == names
    check(((r["image"], r["label"], r) for r in rows), expected, names)


def test_parquet_by_pandas_and_only_the_kept_ones_unasked(plain, tmp_path):
    """Rejected images that were taken along are left out by ``datasets`` unless somebody asks for them."""
    pandas = pytest.importorskip("pandas")
    folder, made = plain
    export(folder, "parquet", tmp_path / "out", rejected=True)
    table = pandas.read_parquet(tmp_path / "out" / "data")
    assert len(table) == len(made) and set(table["id"][~table["kept"]]) == {s.id for s in made if _rejected(s)}
    rows = opened(str(tmp_path / "out"), tmp_path=tmp_path)
    check(((r["image"], r["label"], r) for r in rows), {s.id: s for s in made if not _rejected(s)}, PLAIN)
    streamed = datasets.load_dataset(str(tmp_path / "out"), split="train", streaming=True)
    assert {r["kept"] for r in streamed} == {True}


def test_parquet_has_a_field_of_croissant_for_every_column(hostile, tmp_path):
    folder, _ = hostile
    export(folder, "parquet", tmp_path / "out")
    told = json.loads((tmp_path / "out" / "croissant.json").read_text())
    (shards_in,), (records_in,) = told["distribution"], told["recordSet"]
    files = sorted((tmp_path / "out").glob(shards_in["includes"]))
    schema = pq.read_schema(files[0])
    columns = [field["source"]["extract"]["column"] for field in records_in["field"]]
    assert columns == schema.names and all(
        f["source"]["fileSet"]["@id"] == shards_in["@id"] for f in records_in["field"]
    )
    types = {field["source"]["extract"]["column"]: field["dataType"] for field in records_in["field"]}
    assert types["image"] == "sc:ImageObject" and types["kept"] == "sc:Boolean" and types["score_s"] == "sc:Float"
    assert "synthetic" in told["keywords"] and "MIT License" in told["usageInfo"]


def test_webdataset_by_timm(plain, tmp_path, monkeypatch):
    """Which asks ``_info.json`` for the tars of a split, and how many samples they hold."""
    pytest.importorskip("webdataset")
    from timm.data import create_dataset

    monkeypatch.setattr(source_module, "SHARD_IMAGES", 4)
    folder, made = plain
    export(folder, "webdataset", tmp_path / "out")
    found = create_dataset("wds/", root=str(tmp_path / "out"), split="train")
    expected = {pixel_hash(s.image): s.label for s in made if not _rejected(s)}
    rows = [(pixel_hash(np.asarray(image)), label) for image, label in found]
    assert len(found) == len(rows) == len(expected) and dict(rows) == expected


def test_coco_by_its_own_words(case, tmp_path):
    folder, names, expected = case
    export(folder, "coco", tmp_path / "out")
    told = json.loads((tmp_path / "out" / "labels.json").read_text())
    assert told["categories"] == [{"id": i, "name": name} for i, name in enumerate(names)]
    assert min(a["id"] for a in told["annotations"]) == 1  # pycocotools takes 0 for none
    label = {a["image_id"]: a["category_id"] for a in told["annotations"]}
    lines = (tmp_path / "out" / "data" / "metadata.jsonl").read_text().splitlines()
    known = {record["file_name"]: record for record in map(json.loads, lines)}
    rows = []
    for one in told["images"]:
        image = Image.open(tmp_path / "out" / "data" / one["file_name"])
        assert image.size == (one["width"], one["height"])
        rows.append((image, label[one["id"]], known[one["file_name"]]))
    check(rows, expected, names)


def test_ultralytics_has_classes_below_train_and_none_of_it_for_validation(case, tmp_path):
    from torchvision.datasets import ImageFolder

    folder, _, expected = case
    out = tmp_path / "out"
    export(folder, "ultralytics", out)
    assert [path.name for path in out.iterdir() if path.is_dir()] == [
        "train"
    ]  # images that were generated measure nothing
    label = {c["folder"]: c["label"] for c in json.loads((out / "classes.json").read_text())}
    found = ImageFolder(out / "train")
    assert sorted(found.classes) == sorted(label) and len(found) == len(expected)


#: Where else figment reads an export again, beside its folder.
PLACES = {"csv": "labels.csv", "coco": "data", "ultralytics": "train"}


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("to", FORMATS)
def test_there_and_back(case, tmp_path, to, inside):
    """What was taken elsewhere is what figment reads again, also for a task whose classes come in another order."""
    folder, names, expected = case
    export(folder, to, tmp_path / "out")
    where, turned = tmp_path / "out" / (PLACES.get(to, "") if inside else ""), names[::-1]
    assert class_names_in(where) == names
    images = open_images(where, turned)
    assert len(set(images.ids)) == len(images) == len(expected)
    by_pixels = {pixel_hash(s.image): s for s in expected.values()}
    for image, label in zip(images.load(range(len(images))), images.labels, strict=True):
        assert turned[label] == names[by_pixels[pixel_hash(image)].label]


@pytest.mark.parametrize("to", FORMATS)
def test_all_that_is_exported_is_of_the_split_train(plain, tmp_path, to):
    export(plain[0], to, tmp_path / "out")
    assert len(open_images(f"{tmp_path / 'out'}:train", PLAIN)) == 3 * len(PLAIN)
    with pytest.raises(FigmentError, match="holds no split 'val'"):
        open_images(f"{tmp_path / 'out'}:val", PLAIN)


def test_photographs_that_were_put_beside_train_are_a_split_of_their_own(plain, tmp_path):
    """As the page says to do with Ultralytics' folders."""
    export(plain[0], "ultralytics", tmp_path / "out")
    for name in PLAIN:
        (tmp_path / "out" / "val" / name).mkdir(parents=True)
        Image.new("RGB", (5, 6)).save(tmp_path / "out" / "val" / name / "0.png")
    assert len(open_images(f"{tmp_path / 'out'}:val", PLAIN)) == len(PLAIN)
    assert len(open_images(f"{tmp_path / 'out'}:train", PLAIN)) == 3 * len(PLAIN)


@pytest.mark.parametrize("to", PLACES)
def test_the_top_folder_is_all_that_worth_and_check_are_told(plain, tmp_path, to):
    folder, _ = plain
    out, photos = tmp_path / "out", tmp_path / "photos"
    export(folder, to, out)
    for label, name in enumerate(PLAIN):
        (photos / name).mkdir(parents=True)
        Image.new("RGB", (5, 6), (label, 0, 0)).save(photos / name / "0.png")
    asked = ask(str(photos), [str(out)], "starter/clip").recipes["out"]
    assert sorted(asked.task.class_names) == sorted(PLAIN) and asked.generate.images_per_class == 3
    asked = ask(str(out), [str(photos)], "starter/clip", test_share=0.3).recipes["photos"]
    assert asked.task.class_names == PLAIN
    given = open_real(asked.task)
    assert {split: len(images) for split, images in given.items()} == {"train": 6, "test": 3}
    assert look_through([str(out)]).counts == {
        split: dict.fromkeys(PLAIN, n) for split, n in (("train", 2), ("test", 1))
    }


@pytest.mark.parametrize("to", FORMATS)
@pytest.mark.parametrize("early", [1, 6])
def test_scores_that_the_first_images_lack_are_not_lost(tmp_path, to, early):
    """Readers take fields and their types from the first rows."""
    made = make_run(tmp_path / "run", PLAIN, early=early)
    export(tmp_path / "run", to, tmp_path / "out", rejected=True)
    rows = opened(str(tmp_path / "out"), *unfiltered(to), tmp_path=tmp_path)
    known = {r["id"]: r for r in (row["json"] if to == "webdataset" else row for row in rows)}
    assert set(known) == {s.id for s in made}
    late = [known[s.id]["score_late"] for s in made]
    assert all(value is None or math.isnan(value) for value in late[:early])
    assert late[early:] == [0.1 if _rejected(s) else 2.0 for s in made[early:]]


@pytest.mark.parametrize("to", FORMATS)
def test_a_card_shows_what_others_wrote_as_text(tmp_path, to):
    """A model's licence is what its own card says, and may say anything."""
    odd = "[MIT](https://example.org) <b>bold</b> `code`\n\n# More | \U0001f408"
    make_run(tmp_path / "run", HOSTILE, made_by=dict.fromkeys(("model", "licence", "sampler"), odd))
    export(tmp_path / "run", to, tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    front, _, body = text.removeprefix("---\n").partition("\n---\n")
    assert yaml.safe_load(front)["tags"] == ["synthetic", "figment"]
    tokens = markdown_it.MarkdownIt("commonmark").enable("table").parse(body)
    inline = [child for t in tokens for child in t.children or ()]
    assert not any(t.type.startswith("html") for t in [*tokens, *inline])
    assert not any(t.type in ("link_open", "image", "strong_open", "em_open") for t in inline)
    assert sum(t.type == "heading_open" for t in tokens) == 1
    assert sum(t.type == "tr_open" for t in tokens) == 1 + len(HOSTILE)
    shown = "\n".join("".join(c.content for c in t.children) for t in tokens if t.children)
    assert shown.count(one_line(odd)[:60]) == 3 and "<b>&amp;</b>" in shown


def test_a_card_names_every_stage_of_a_cascade(tmp_path):
    models = ", then ".join(
        ["DeepFloyd/IF-I-M-v1.0", "DeepFloyd/IF-II-M-v1.0", "stabilityai/stable-diffusion-x4-upscaler"]
    )
    make_run(tmp_path / "run", PLAIN, made_by={"model": models})
    export(tmp_path / "run", "csv", tmp_path / "out")
    assert "stable-diffusion-x4-upscaler, licence" in (tmp_path / "out" / "README.md").read_text()


# ---- a run's own folder ----------------------------------------------------------------------------------------------


def test_the_folder_of_a_run_opens_with_datasets(tmp_path):
    """Its tables are of several kinds, which ``datasets`` would take for one: the images are what it opens unasked."""
    run = layout.Run(tmp_path / "run")
    made = make_run(run.folder, PLAIN)
    write_data_files(run)
    rows = opened(str(run.folder), tmp_path=tmp_path)
    by_id = {s.id: s for s in made}  # an attempt that failed is none of them
    assert rows.features["label"].names == PLAIN and sorted(rows["id"]) == sorted(by_id)
    assert all((np.asarray(row["image"]) == by_id[row["id"]].image).all() for row in rows)
    verdicts = opened(str(run.folder), "verdicts-1-f1", tmp_path=tmp_path)
    assert {row["id"] for row in verdicts if not row["keep"]} == {s.id for s in made if _rejected(s)}


def test_pandas_opens_the_images_of_a_run_as_the_page_says(plain):
    """Not by their folder, where other files lie too: should pandas pass over them one day, the page may say so."""
    pandas = pytest.importorskip("pandas")
    folder, _ = plain
    with pytest.raises(pa.ArrowInvalid, match="not a parquet file|magic bytes"):
        pandas.read_parquet(folder / "images")
    (line,) = re.findall(r"`(pandas\.read_parquet\(sorted.*?)`", PAGE.read_text(encoding="utf-8"))
    table = eval(line.replace("runs/pets", str(folder)), {"pandas": pandas, "glob": glob})
    assert len(table) == 15 and table.to_dict("records") == folders.rows(folder / "images")


def test_an_arm_tells_nothing_of_images_that_lie_with_another_run(plain, tmp_path):
    folder = shutil.copytree(plain[0] / "scores", tmp_path / "arm" / "scores").parent
    write_data_files(layout.Run(folder, made_at=plain[0]))
    told = yaml.safe_load((folder / ".huggingface.yaml").read_text())["configs"]
    assert [(one["config_name"], one.get("default", False)) for one in told] == [
        ("verdicts-0-f0", True),
        ("verdicts-1-f1", False),
    ]


# ---- what is exported ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("to", FORMATS)
def test_all_takes_the_rejected_along_and_never_the_failed(plain, tmp_path, to):
    folder, made = plain
    done = export(folder, to, tmp_path / "out", rejected=True)
    assert sum(done.counts.values()) == len(made) == 4 * len(PLAIN) and done.left_out == 0
    if to != "csv":
        rows = opened(str(tmp_path / "out"), *unfiltered(to), tmp_path=tmp_path)
        image, known, label = {"webdataset": ("png", "json", "cls")}.get(to, ("image", None, "label"))
        check(((r[image], r[label], r[known] if known else r) for r in rows), {s.id: s for s in made}, PLAIN)


def test_an_exported_file_says_in_iptcs_words_that_it_was_generated(plain, tmp_path):
    """Pillow reads it back; `test_saving.py` has the other formats of files."""
    export(plain[0], "imagefolder", tmp_path / "out")
    for path in (tmp_path / "out").rglob("*.png"):
        with Image.open(path) as opened:
            told = opened.info["XML:com.adobe.xmp"]
        said = re.findall(r'Iptc4xmpExt:DigitalSourceType="(.*?)"', told)
        assert said == ["http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"]


def test_a_folder_of_images_alone_and_one_inside_a_run(plain, tmp_path):
    import shutil

    folder, made = plain
    assert sum(export(folder / "images", "csv", tmp_path / "a").counts.values()) == 3 * len(PLAIN)
    shutil.copytree(folder / "images", tmp_path / "images")
    assert sum(export(tmp_path / "images", "csv", tmp_path / "b").counts.values()) == len(made)


def test_images_that_no_filter_judged_are_not_taken_for_kept(tmp_path):
    make_run(tmp_path / "run", PLAIN)
    (tmp_path / "run" / "scores" / "stage.json").unlink()
    (tmp_path / "run" / "scores" / "1-f1" / "stage.json").unlink()
    with pytest.raises(FigmentError, match="have not judged all its images.*figment run"):
        export(tmp_path / "run", "csv", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert sum(export(tmp_path / "run", "csv", tmp_path / "out", rejected=True).counts.values()) == 4 * len(PLAIN)


def test_images_made_after_the_filters_ran_are_not_taken_for_kept(tmp_path):
    make_run(tmp_path / "run", PLAIN)
    found = records.read(tmp_path / "run" / "scores" / "0-f0")
    counts = {**found.data["counts"], "seen": found.data["counts"]["seen"] - 1}  # one that had failed was made since
    found.record.finish(found.files, counts=counts)
    with pytest.raises(FigmentError, match="have not judged all its images"):
        export(tmp_path / "run", "csv", tmp_path / "out")


def test_a_run_without_filters_keeps_everything(tmp_path):
    made = make_run(tmp_path / "run", PLAIN, filters=0)
    assert sum(export(tmp_path / "run", "csv", tmp_path / "out").counts.values()) == len(made)


def test_folders_that_cannot_be_exported(plain, tmp_path):
    with pytest.raises(FigmentError, match="holds no finished images"):
        export(tmp_path / "nothing", "csv", tmp_path / "out")
    with pytest.raises(FigmentError, match=r"no format 'imagefoler'\. Did you mean 'imagefolder'"):
        export(plain[0], "imagefoler", tmp_path / "out")


@pytest.mark.parametrize("at", [0, 45])  # in the signature, which the files' names are taken from, and behind it
def test_a_damaged_image_stops_the_export(tmp_path, at):
    made = make_run(tmp_path / "run", PLAIN)
    path = layout.shard_path(tmp_path / "run" / "images", 0)
    whole, image = path.read_bytes(), png.encode(made[0].image)
    at += whole.index(image)
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    with pytest.raises(FigmentError, match="damaged since it was made.*figment verify"):
        export(tmp_path / "run", "webdataset", tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.tar"))


@pytest.mark.parametrize("column", ["label", "group"])
def test_a_damaged_column_stops_the_export(tmp_path, column):
    make_run(tmp_path / "run", PLAIN)
    path = layout.shard_path(tmp_path / "run" / "images", 0)
    data, own = bytearray(path.read_bytes()), pq.ParquetFile(path).metadata.row_group(0)
    chunk = next(own.column(i) for i in range(own.num_columns) if own.column(i).path_in_schema == column)
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    data[start : start + chunk.total_compressed_size] = bytes(chunk.total_compressed_size)
    path.write_bytes(bytes(data))
    with pytest.raises(FigmentError, match="is not a Parquet file that can be read"):
        export(tmp_path / "run", "webdataset", tmp_path / "out")


# ---- never over anything, finished by the same command ---------------------------------------------------------------


@pytest.mark.parametrize("to", FORMATS)
def test_what_is_there_is_never_overwritten(plain, tmp_path, to):
    out = tmp_path / "out"
    out.mkdir()
    (out / "metadata.jsonl").write_text("mine")
    with pytest.raises(FigmentError, match=r"is not empty: it holds 'metadata\.jsonl'"):
        export(plain[0], to, out)
    assert (out / "metadata.jsonl").read_text() == "mine"
    (out / "metadata.jsonl").unlink()
    assert export(plain[0], to, out).written
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in out.rglob("*") if p.is_file()}
    assert not export(plain[0], to, out).written
    for other in ({"rejected": True}, {"to": "webdataset" if to == "csv" else "csv"}):
        with pytest.raises(FigmentError, match="holds another export"):
            export(plain[0], **{"to": to, **other}, out=out)
    # Nothing but the lock of the refused ones has come.
    assert {
        p: (p.stat().st_mtime_ns, p.read_bytes()) for p in out.rglob("*") if p.is_file() and p.name != ".lock"
    } == before


@pytest.mark.parametrize("to", FORMATS)
def test_an_interrupted_export_is_finished_by_the_same_command(plain, tmp_path, monkeypatch, to):
    monkeypatch.setattr(source_module, "SHARD_IMAGES", 2)
    folder, _ = plain
    export(folder, to, tmp_path / "whole")
    read, calls = source_module.Source.data, []

    def fails_at_the_sixth(self, index):
        calls.append(index)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return read(self, index)

    monkeypatch.setattr(source_module.Source, "data", fails_at_the_sixth)
    with pytest.raises(KeyboardInterrupt):
        export(folder, to, tmp_path / "out")
    left = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*") if p.suffix in (".png", ".tar", ".parquet")}
    assert left and not (tmp_path / "out" / "README.md").exists()
    if to not in ("parquet", "webdataset"):
        half = next(iter(left))
        half.write_bytes(half.read_bytes()[:40])  # as a power cut leaves it
        del left[half]
    assert export(folder, to, tmp_path / "out").written
    assert all(p.stat().st_mtime_ns == at for p, at in left.items())  # what was whole was not written again
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert content(whole) == content(out)
    told = [records.read(root, layout.EXPORT) for root in (whole, out)]
    assert told[0].files == told[1].files and told[0].record.fingerprint == told[1].record.fingerprint


@pytest.mark.parametrize("to", FORMATS)
def test_the_record_of_an_export_vouches_for_every_file_and_is_hidden_from_readers(plain, tmp_path, to):
    out = tmp_path / "out"
    export(plain[0], to, out)
    found = records.read(out, layout.EXPORT)
    assert found.state == "finished" and found.data["settings"] == {"format": to}
    assert not records.problems(found) and set(found.files) == set(content(out))
    assert [p.name for p in out.iterdir() if p.name.startswith(".")] == [
        layout.EXPORT
    ]  # no lock, no mark of a beginning
    lost = out / next(iter(found.files))
    lost.unlink()
    assert export(plain[0], to, out).written and lost.is_file()  # what is lost is written again


@pytest.mark.parametrize("to", ["imagefolder", "parquet"])
def test_an_export_that_was_stopped_before_its_record_goes_on(plain, tmp_path, monkeypatch, to):
    out = tmp_path / "out"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Record, "finish", stop)
        export(plain[0], to, out)
    assert (out / STARTED).is_file() and records.read(out, layout.EXPORT).state == "none"
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.suffix in (".png", ".parquet")}
    with pytest.raises(FigmentError, match="holds another export.*Nothing was changed"):
        export(plain[0], to, out, rejected=True)  # not the one that was begun here
    assert export(plain[0], to, out).written and records.read(out, layout.EXPORT).state == "finished"
    assert before and {p: p.stat().st_mtime_ns for p in before} == before and not (out / STARTED).exists()


def test_a_folder_of_another_and_an_export_whose_record_is_damaged_are_left_alone(plain, tmp_path):
    theirs, out = tmp_path / "theirs", tmp_path / "out"
    make_run(theirs, PLAIN)
    with pytest.raises(FigmentError, match="is not empty: it holds"):
        export(plain[0], "csv", theirs)
    export(plain[0], "csv", out)
    damage.flip(out / layout.EXPORT, 40)
    for folder in (theirs, out):
        before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != ".lock"}
        with pytest.raises(FigmentError, match="Nothing was (written|changed)"):
            export(plain[0], "csv", folder)
        assert before == {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != ".lock"}


# ---- the user's files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mine", [".lock", ".lockfile", ".gitkeep", ".notes.tmp", ".x.0123abcd.tmp", STARTED, layout.EXPORT, "notes"]
)
def test_a_folder_with_a_file_of_the_users_is_refused_whatever_it_is_called(plain, tmp_path, mine):
    out = tmp_path / "out"
    out.mkdir()
    (out / mine).write_text("mine")
    before = snapshot(tmp_path)
    with pytest.raises(FigmentError, match="Nothing was (written|changed)"):
        export(plain[0], "csv", out)
    assert snapshot(tmp_path) == before  # no lock has come either


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize(
    "below", ["", "images", "images/00000", "images/new", "model", "model/new", "features/a", "arms/b"]
)
def test_an_export_does_not_go_among_the_files_of_a_run(plain, tmp_path, own, below):
    run = shutil.copytree(plain[0], tmp_path / "run")
    (run / claims.MARK).write_bytes(claims.RUN.mark)
    before = snapshot(tmp_path)
    with pytest.raises(FigmentError, match="Nothing was written"):
        export(run if own else plain[0], "csv", run / below)
    assert snapshot(tmp_path) == before


def test_an_export_beside_the_files_of_a_run_is_let_be(plain, tmp_path):
    run = shutil.copytree(plain[0], tmp_path / "run")
    before = snapshot(run)
    assert export(run, "csv", run / "exported").written
    assert {name: told for name, told in snapshot(run).items() if name in before} == before


@pytest.mark.parametrize("left", [0, 1, 20, -1, None])
def test_an_export_that_was_stopped_while_it_marked_the_folder_goes_on(plain, tmp_path, left):
    """``left`` bytes of the mark; None: its temporary file, with the lock still empty."""
    out = tmp_path / "out"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Record, "finish", stop)
        export(plain[0], "csv", out)
    mark = (out / STARTED).read_bytes()
    shutil.rmtree(out)
    out.mkdir()
    (out / ".lock").touch()
    place = files.temporary_of(out / STARTED) if left is None else out / STARTED
    place.write_bytes(mark[:left])
    assert export(plain[0], "csv", out).written
    assert records.read(out, layout.EXPORT).state == "finished" and not place.exists()


def stop(*args, **kwargs):
    raise KeyboardInterrupt


def test_a_format_is_a_file_in_the_folder_of_formats(plain, tmp_path, monkeypatch):
    """Found by what it defines: no list names it."""
    import figment.exports

    assert sorted(formats()) == FORMATS  # helpers and the Hub are none
    code = "def write(out, source, resuming):\n    (out / 'ids.txt').write_text('\\n'.join(source.images.ids))\n"
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "listing.py").write_text(code)
    monkeypatch.setattr(figment.exports, "__path__", [*figment.exports.__path__, str(tmp_path / "more")])
    assert "listing" in formats()
    done = export(plain[0], "listing", tmp_path / "out")
    assert len((tmp_path / "out" / "ids.txt").read_text().splitlines()) == sum(done.counts.values())
    sys.modules.pop("figment.exports.listing")


@pytest.mark.parametrize("to", FORMATS)
def test_an_object_store(plain, s3, to):
    where = f"{s3}/exports/{to}"
    assert export(plain[0], to, where).written and not export(plain[0], to, where).written
    with pytest.raises(FigmentError, match="holds another export"):
        export(plain[0], to, where, rejected=True)
    images = open_images(f"{where}/{PLACES[to]}" if to in PLACES else where, PLAIN)
    assert len(images.load(range(len(images)))) == 3 * len(PLAIN)


# ---- names -----------------------------------------------------------------------------------------------------------


def test_names_that_are_safe_stay():
    for name in [
        "zebra",
        "T-shirt",
        "ankle boot",
        "b\u00e9b\u00e9",
        "\u732b",
        "St. Bernard",
        "shoe trees",
        "trainer",
        "1,000 (big)",
    ]:
        assert safe_name(name) == name


def test_names_are_safe_and_never_alike():
    names = class_folders(
        [*HOSTILE, "Coat", "coat", "COAT", "caf\u00e9", "cafe\u0301", "", "   ", "\ud800", "a_b", "a_b~"]
    )
    assert len({n.casefold() for n in names}) == len(names)
    for name in names:
        assert name and len(name.encode()) <= 255 and name == name.strip(" .") and not name.startswith((".", "_"))
        assert not set(name) & set('/\\:*?"<>|[]{}#%$\n\r\t\0\u202e')
        assert name.split(".")[0].upper() not in ("CON", "NUL", "PRN", "AUX")
    assert class_folders(["a/b", "a_b"]) == ["a_b~", "a_b"]  # the one that is safe keeps its name, whatever came first


def test_many_ids_that_are_cut_to_the_same_name_stay_apart():
    names = Names()
    given = [names("p" * 400 + str(i)) for i in range(50)]
    assert len(set(given)) == 50 and all(len(n.encode()) < 200 for n in given)


# ---- the Hub ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(monkeypatch):
    """``hub(files)`` starts one that holds these files."""
    with ExitStack() as stack:
        yield lambda holds, **options: stack.enter_context(hubs.taking(monkeypatch, holds, **options))


def test_the_hub_gets_what_datasets_opens(hub, tmp_path):
    made = make_run(tmp_path / "run", HOSTILE)
    server = hub([".gitattributes"])
    done = export(tmp_path / "run", "parquet", push="me/pets")
    ((asked, token),) = server.created
    assert asked["name"] == "pets" and asked["organization"] == "me" and asked["type"] == "dataset"
    assert hubs.is_private(asked)
    assert token == "Bearer hf_secret" and done.where.endswith("/datasets/me/pets")
    (files,) = server.commits
    assert sorted(files) == ["README.md", "croissant.json", "data/train-00000-of-00001.parquet"]
    for name, data in files.items():
        (tmp_path / "there" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "there" / name).write_bytes(data)
    rows = opened(str(tmp_path / "there"), tmp_path=tmp_path)
    assert rows.features["label"].names == HOSTILE
    check(((r["image"], r["label"], r) for r in rows), {s.id: s for s in made if not _rejected(s)}, HOSTILE)


def test_the_hub_is_never_written_over_and_nothing_is_public_by_accident(hub, tmp_path):
    make_run(tmp_path / "run", PLAIN)
    server = hub([".gitattributes", "theirs.parquet"])
    with pytest.raises(FigmentError, match=r"holds files already, such as theirs\.parquet"):
        export(tmp_path / "run", "parquet", push="me/pets")
    assert not server.commits
    server = hub([], private=False)
    with pytest.raises(FigmentError, match="public.*say --public"):
        export(tmp_path / "run", "parquet", push="me/pets")
    assert not server.commits
    export(tmp_path / "run", "parquet", push="me/pets", public=True)
    assert not hubs.is_private(server.created[-1][0]) and len(server.commits) == 1


def test_without_a_network_the_hub_says_what_is_ready(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    make_run(tmp_path / "run", PLAIN)
    with pytest.raises(FigmentError, match="did not take me/pets.*hf auth login.*is ready in") as error:
        export(tmp_path / "run", "parquet", push="me/pets")
    ready = Path(str(error.value).split("is ready in ")[1].split("; ")[0])
    assert len(opened(str(ready), tmp_path=tmp_path)) == 3 * len(PLAIN)
    with pytest.raises(FigmentError, match="no name on the Hub"):
        export(tmp_path / "run", "parquet", push="a b/../c")


def test_nothing_is_made_for_a_hub_that_cannot_take_it(tmp_path, monkeypatch):
    make_run(tmp_path / "run", PLAIN)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    for given, said in (
        ({"push": "me/pets"}, r"takes a token of the Hub that may write, and there is none here: hf auth login"),
        ({}, "Say where it goes: --out WHERE, a new folder, or --push"),
        ({"push": "me/pets", "out": tmp_path / "out"}, "One of them"),
        ({"out": tmp_path / "out", "public": True}, "--public is of what is pushed"),
    ):
        with pytest.raises(FigmentError, match=said):
            export(tmp_path / "run", "parquet", **given)
    with pytest.raises(FigmentError, match="pushed to the Hub as --to parquet.*For --to coco give --out"):
        export(tmp_path / "run", "coco", push="me/pets")
    assert not (tmp_path / "run/hub").exists() and not (tmp_path / "out").exists()


def test_the_hubs_name_in_0_1_is_read(hub, tmp_path, caplog):
    make_run(tmp_path / "run", PLAIN)
    server = hub([])
    export(tmp_path / "run", "hub", "me/pets")
    assert "now --to parquet --push me/pets" in caplog.text and len(server.commits) == 1


# ---- the command -----------------------------------------------------------------------------------------------------


def test_the_command_counts_what_it_wrote(hostile, tmp_path):
    from figment.cli import app

    folder, _ = hostile
    result = CliRunner().invoke(app, ["export", str(folder), "--to", "csv", "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert f"{3 * len(HOSTILE)} images; {len(HOSTILE)} rejected ones left out (--all" in result.output
    assert "Exported to" in result.output and "\u202e" not in result.output
    again = CliRunner().invoke(app, ["export", str(folder), "--to", "csv", "--out", str(tmp_path / "out")])
    assert again.exit_code == 0 and "All of it was there already" in again.output

"""Captions as published data sets hand them out, each in a small file of its own layout."""

from __future__ import annotations

import csv
import io
import json
import tarfile
import tracemalloc
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from figment import shards
from figment.errors import FigmentError
from figment.prompts.caption_files import CaptionFiles
from figment.prompts.caption_set import EVERY, CaptionSet
from figment.prompts.check import check_prompts
from figment.task import Task

TASK = Task(class_names=["cat", "dog"])
SAID = ["a cat, a mat, a chair", "two dogs, running", 'the "old" harbour at night']
URLS = [f"https://example.org/{i}.jpg" for i in range(3)]


def write_rows(path: Path, rows: list, delimiter: str = ",", **options) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=delimiter, **options).writerows(rows)
    return path


def write_bare(path: Path, rows: list[tuple[str, ...]]) -> Path:
    """Tabs and nothing else: no headings, no quotes."""
    path.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_tar(path: Path, samples: list[dict[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as tar:
        for i, sample in enumerate(samples):
            for extension, data in sample.items():
                info = tarfile.TarInfo(f"{i:09d}.{extension}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return path


def img2dataset(said: list[str], **more) -> list[dict[str, bytes]]:
    """Samples as img2dataset writes them. The images are none: nobody is to decode them."""
    return [
        {
            "jpg": b"not a jpeg",
            "json": json.dumps({"caption": text, "url": url, "key": f"{i:09d}", "status": "success", **more}).encode(),
            "txt": text.encode(),
        }
        for i, (text, url) in enumerate(zip(said, URLS, strict=True))
    ]


def cc3m(folder: Path) -> Path:
    return write_bare(folder / "Train_GCC-training.tsv", list(zip(SAID, URLS, strict=True)))


def cc3m_labels(folder: Path) -> Path:
    rows = [(text, url, "animal,fur", "/m/01,/m/02", "0.9,0.8") for text, url in zip(SAID, URLS, strict=True)]
    return write_bare(folder / "Image-Labels_Subset_Train.tsv", rows)


def cc12m(folder: Path) -> Path:
    return write_bare(folder / "cc12m.tsv", list(zip(URLS, SAID, strict=True)))


def with_headings(folder: Path) -> Path:
    return write_rows(folder / "list.tsv", [("url", "caption"), *zip(URLS, SAID, strict=True)], "\t")


def paths_and_captions(folder: Path) -> Path:
    rows = [(f"00000/{i}.jpg", text) for i, text in enumerate(SAID)]
    return write_rows(folder / "stablerep.csv", rows)


def spreadsheet(folder: Path) -> Path:
    return write_rows(folder / "semicolons.csv", [("id", "Caption"), *enumerate(SAID)], ";")


def redcaps(folder: Path) -> Path:
    rows = [
        {"image_id": f"i{i}", "author": "a", "raw_caption": text.upper(), "caption": text, "subreddit": 0}
        for i, text in enumerate(SAID)
    ]
    own = folder / "annotations"
    own.mkdir()
    (own / "cats_2020.json").write_text(json.dumps({"info": {"url": "x"}, "annotations": rows[:1]}))
    (own / "dogs_2020.json").write_text(json.dumps({"info": {"url": "x"}, "annotations": rows[1:]}))
    return own


def coco(folder: Path) -> Path:
    rows = [{"image_id": 7, "id": i, "caption": text} for i, text in enumerate(SAID)]
    path = folder / "captions_val2017.json"
    path.write_text(json.dumps({"images": [{"id": 7}], "annotations": rows}))
    return path


def json_lines(folder: Path) -> Path:
    path = folder / "metadata.jsonl"
    path.write_text("\n".join(json.dumps({"file_name": f"{i}.png", "text": t}) for i, t in enumerate(SAID)) + "\n\n")
    return path


def laion(folder: Path) -> Path:
    table = pa.table(
        {"SAMPLE_ID": [1, 2, 3], "URL": URLS, "TEXT": SAID, "NSFW": ["UNLIKELY"] * 3, "similarity": [0.3] * 3}
    )
    pq.write_table(table, folder / "part-00000.parquet")
    return folder / "part-00000.parquet"


def several_a_row(folder: Path) -> Path:
    pq.write_table(pa.table({"caption": [SAID[:2], SAID[2:]]}), folder / "flickr.parquet")
    return folder / "flickr.parquet"


def tar(folder: Path) -> Path:
    return write_tar(folder / "00000.tar", img2dataset(SAID))


def tars_as_img2dataset_leaves_them(folder: Path) -> Path:
    """With a table of the same captions, and statistics, beside each tar."""
    own = folder / "cc3m"
    own.mkdir()
    write_tar(own / "00000.tar", img2dataset(SAID)[:2])
    write_tar(own / "00001.tar", img2dataset(SAID)[2:])
    pq.write_table(pa.table({"caption": [*SAID, "of an image that is gone"]}), own / "00000.parquet")
    (own / "00000_stats.json").write_text('{"count": 4}')
    return own


def tar_of_json(folder: Path) -> Path:
    return write_tar(folder / "texts.tar", [{"json": sample["json"]} for sample in img2dataset(SAID)])


def saved(folder: Path) -> Path:
    images = [{"bytes": b"not an image", "path": None}] * 3
    features = datasets.Features({"image": datasets.Image(), "caption": datasets.Value("string")})
    datasets.Dataset.from_dict({"image": images, "caption": SAID}, features=features).save_to_disk(folder / "saved")
    return folder / "saved"


def quoted_without_headings(folder: Path) -> Path:
    """An address with a comma among them."""
    urls = ["https://example.org/0,a.jpg", *URLS[1:]]
    return write_rows(folder / "quoted.csv", list(zip(urls, SAID, strict=True)), quoting=csv.QUOTE_ALL)


def numbered_without_headings(folder: Path) -> Path:
    return write_bare(folder / "numbered.tsv", [(str(i), URLS[i], text) for i, text in enumerate(SAID)])


def beside_a_folder(folder: Path) -> Path:
    """Which is called like a file: a tar that was unpacked."""
    own = folder / "own"
    (own / "00001.tar").mkdir(parents=True)
    write_tar(own / "00000.tar", img2dataset(SAID))
    return own


def tar_with_gaps(folder: Path) -> Path:
    """What could not be downloaded has a record without a caption."""
    samples = [{"json": sample["json"]} for sample in img2dataset(SAID)]
    return write_tar(folder / "gaps.tar", [*samples[:2], {"json": b'{"status": "failed_to_download"}'}, samples[2]])


LAYOUTS = [
    quoted_without_headings, numbered_without_headings, beside_a_folder, tar_with_gaps, cc3m, cc3m_labels, cc12m, with_headings, paths_and_captions, spreadsheet, redcaps, coco, json_lines, laion, several_a_row, tar,
    tars_as_img2dataset_leaves_them, tar_of_json, saved,
]  # fmt: skip


def write(files: CaptionFiles, n: int = EVERY):
    return CaptionSet(files)(TASK, n, np.random.default_rng(0))


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda f: f.__name__)
def test_captions_come_as_they_are_from_every_layout(layout, tmp_path, capsys):
    prompts = write(CaptionFiles(str(layout(tmp_path))))
    assert [p.text for p in prompts] == SAID and {p.label for p in prompts} == {-1}
    assert [p.id for p in prompts] == [f"captions/{i:07d}" for i in range(3)]
    assert [p.group for p in prompts] == [p.id for p in prompts]  # all images of a caption share it
    check_prompts(prompts, TASK.class_names, has_classes=False)
    assert "3 captions" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["", ":train"])
def test_a_data_set_of_the_datasets_library_by_name_and_split(name, tmp_path):
    both = datasets.DatasetDict({"train": datasets.Dataset.from_dict({"caption": SAID, "other": [1, 2, 3]})})
    if name:
        both["test"] = datasets.Dataset.from_dict({"caption": ["not this"], "other": [4]})
    both.save_to_disk(tmp_path / "both")
    assert [p.text for p in write(CaptionFiles(f"datasets:{tmp_path / 'both'}{name}"))] == SAID


def test_several_splits_are_not_mixed(tmp_path):
    own = datasets.Dataset.from_dict({"caption": SAID})
    datasets.DatasetDict({"train": own, "test": own}).save_to_disk(tmp_path / "both")
    with pytest.raises(FigmentError, match=r"several splits: train, test\. Choose one, such as .*both:train"):
        write(CaptionFiles(f"datasets:{tmp_path / 'both'}"))


# ---- classes ---------------------------------------------------------------------------------------------------------


def labelled_csv(folder: Path) -> tuple[Path, str]:
    rows = [("caption", "class"), ("a", "dog"), ("b", "Cat"), ("c", ""), ("d", "dog"), ("e", "cat")]
    return write_rows(folder / "own.csv", rows), "class"


def labelled_parquet(folder: Path) -> tuple[Path, str]:
    """Numbers that stand for names in another order than the task's."""
    features = datasets.Features(
        {"caption": datasets.Value("string"), "label": datasets.ClassLabel(names=["dog", "cat"])}
    )
    own = datasets.Dataset.from_dict({"caption": list("abcde"), "label": [0, 1, -1, 0, 1]}, features=features)
    own.to_parquet(folder / "own.parquet")
    return folder / "own.parquet", "label"


def labelled_saved(folder: Path) -> tuple[Path, str]:
    path, column = labelled_parquet(folder)
    datasets.Dataset.from_parquet(str(path), cache_dir=str(folder / "cache")).save_to_disk(folder / "saved")
    return folder / "saved", column


def labelled_tar(folder: Path) -> tuple[Path, str]:
    classes = [b"dog", b"cat\n", b"", b"dog", b"cat"]
    samples = [{"txt": text.encode(), "cls": own} for text, own in zip("abcde", classes, strict=True)]
    return write_tar(folder / "own.tar", samples), "cls"


def labelled_tar_of_json(folder: Path) -> tuple[Path, str]:
    """Captions in one file of a sample, classes in another."""
    classes = [b"dog", b"cat", b"", b"dog", b"cat"]
    samples = [
        {"json": json.dumps({"caption": text}).encode(), "cls": own} for text, own in zip("abcde", classes, strict=True)
    ]
    return write_tar(folder / "own.tar", samples), "cls"


def labelled_in_json(folder: Path) -> tuple[Path, str]:
    """One sample lacks a class."""
    rows = [{"caption": text, "of": own} for text, own in zip("abde", ["dog", "cat"] * 2, strict=True)]
    rows.insert(2, {"caption": "c"})
    return write_tar(folder / "own.tar", [{"json": json.dumps(row).encode()} for row in rows]), "of"


def labelled_lines(folder: Path) -> tuple[Path, str]:
    classes = ["dog", "cat", None, "dog", "cat"]
    rows = [{"prompt": text, "label": own} for text, own in zip("abcde", classes, strict=True)]
    (folder / "own.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder / "own.jsonl", "label"


@pytest.mark.parametrize(
    "layout",
    [
        labelled_csv,
        labelled_parquet,
        labelled_saved,
        labelled_tar,
        labelled_tar_of_json,
        labelled_in_json,
        labelled_lines,
    ],
    ids=lambda f: f.__name__,
)
def test_classes_come_from_a_column(layout, tmp_path, capsys):
    path, column = layout(tmp_path)
    files = CaptionFiles(str(path), label_column=column)
    prompts = write(files)
    assert [(p.label, p.text) for p in prompts] == [(0, "b"), (0, "e"), (1, "a"), (1, "d")]
    assert prompts[2].id == "001-dog/00000"
    check_prompts(prompts, TASK.class_names)
    assert "1 without a class" in capsys.readouterr().out
    assert [(p.label, p.text) for p in write(files, 1)] == [(0, "b"), (1, "a")]  # the first of each


def test_a_class_that_is_not_the_tasks_or_has_no_caption(tmp_path):
    path = write_rows(tmp_path / "own.csv", [("caption", "class"), ("a", "dog"), ("b", "cow")])
    with pytest.raises(FigmentError, match=r"Missing there: 'cat'\. Not in the task: 'cow'"):
        write(CaptionFiles(str(path), label_column="class"))


def test_two_spellings_of_a_class_are_one(tmp_path):
    rows = [("caption", "class"), ("a", "cat"), ("b", "CAT"), ("c", "dog"), ("d", "cat")]
    path = write_rows(tmp_path / "own.csv", rows)
    prompts = write(CaptionFiles(str(path), label_column="class"), 2)
    assert [(p.label, p.text) for p in prompts] == [(0, "a"), (0, "b"), (1, "c")]


def test_a_caption_under_two_spellings_of_its_class_is_kept_once(tmp_path):
    rows = [("caption", "class"), ("a", "cat"), ("A.", "CAT"), ("b", "CAT"), ("a", "dog")]
    path = write_rows(tmp_path / "own.csv", rows)
    assert [(p.label, p.text) for p in write(CaptionFiles(str(path), label_column="class"))] == [
        (0, "a"), (0, "b"), (1, "a"),
    ]  # fmt: skip


@pytest.mark.parametrize("shown_as", ["numpy", "torch", "pandas", "arrow"])
def test_what_a_data_set_was_saved_to_be_shown_as_does_not_matter(shown_as, tmp_path):
    """Its classes are in another order than the task's: as a frame, their numbers were taken for the task's."""
    features = datasets.Features(
        {"caption": datasets.List(datasets.Value("string")), "label": datasets.ClassLabel(names=["dog", "cat"])}
    )
    own = datasets.Dataset.from_dict({"caption": [["a", "b"], ["c"]], "label": [0, 1]}, features=features)
    own.with_format(shown_as, columns=["label"]).save_to_disk(tmp_path / "saved")
    prompts = write(CaptionFiles(str(tmp_path / "saved"), label_column="label"))
    assert [(p.label, p.text) for p in prompts] == [(0, "c"), (1, "a"), (1, "b")]


# ---- what is left out ------------------------------------------------------------------------------------------------


def test_repeats_and_what_is_no_caption_are_counted_and_said(tmp_path, capsys):
    texts = ["A dog.", "a dog", "", "   ", "!!!", "two\nlines", "word " * 81, "A DOG!", "half \ud83d", None]
    path = tmp_path / "odd.jsonl"
    path.write_text("\n".join(json.dumps({"caption": text}) for text in texts))
    prompts = write(CaptionFiles(str(path)))
    assert [p.text for p in prompts] == ["A dog", "two lines", "half"]
    check_prompts(prompts, TASK.class_names, has_classes=False)
    said = " ".join(capsys.readouterr().out.split())
    assert "3 captions; left out: 4 empty, 2 repeated, 1 too long" in said


QUOTING = ['"old" harbour, by night', '"a dog', "a cat on a mat", 'a "b" c', 'two dogs"']


def test_quotation_marks_of_captions_between_tabs_swallow_no_rows(tmp_path):
    rows = [("url", "caption"), *((f"https://e.org/{i}", text) for i, text in enumerate(QUOTING))]
    assert [p.text for p in write(CaptionFiles(str(write_bare(tmp_path / "own.tsv", rows))))] == QUOTING
    path = write_rows(tmp_path / "quoted.tsv", rows, "\t", quoting=csv.QUOTE_ALL)  # the table's own
    assert [p.text for p in write(CaptionFiles(str(path)))] == QUOTING
    assert [p.text for p in write(CaptionFiles(str(write_bare(tmp_path / "bare.tsv", rows[1:]))))] == QUOTING


def test_the_first_captions_are_taken_and_few_are_said(tmp_path, capsys):
    path = cc3m(tmp_path)
    assert [p.text for p in write(CaptionFiles(str(path)), 2)] == SAID[:2]
    assert "fewer" not in capsys.readouterr().out
    assert len(write(CaptionFiles(str(path)), 9)) == 3
    assert "per_class is 9, and there are fewer captions (3)" in " ".join(capsys.readouterr().out.split())


def test_more_captions_than_are_held_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("figment.limits.PROMPTS", 2)
    path = cc3m(tmp_path)
    with pytest.raises(FigmentError, match=r"more than 2 captions.*prompts\.per_class"):
        write(CaptionFiles(str(path)))
    assert len(write(CaptionFiles(str(path)), 2)) == 2


def test_captions_are_held_once(tmp_path):
    """Reading costs what is kept, about 400 bytes a caption here, not the file besides."""
    path = tmp_path / "many.tsv"
    with path.open("w") as file:
        file.writelines(
            f"a caption of about sixty characters, the number of which is {i}\thttps://e.org/{i}\n"
            for i in range(3_000)
        )
    tracemalloc.start()
    prompts = write(CaptionFiles(str(path)))
    kept, peak = tracemalloc.get_traced_memory()
    table = shards.prompt_table(prompts, TASK.class_names)
    with_table = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(table) == 3_000 and peak < 600 * 3_000 + 200_000
    assert with_table < kept + 250 * 3_000 + 200_000  # rows as objects would be 1,000 bytes each
    assert shards.read_prompts(table) == prompts


# ---- bad input -------------------------------------------------------------------------------------------------------


def no_column(folder: Path) -> CaptionFiles:
    return CaptionFiles(str(write_rows(folder / "a.csv", [("words", "n"), ("x", "1")])))


def no_such_column(folder: Path) -> CaptionFiles:
    return CaptionFiles(str(write_rows(folder / "a.csv", [("caption", "n"), ("x", "1")])), column="alt")


def no_such_label(folder: Path) -> CaptionFiles:
    return CaptionFiles(str(write_rows(folder / "a.csv", [("caption", "n"), ("x", "1")])), label_column="class")


def no_headings_and_a_label(folder: Path) -> CaptionFiles:
    return CaptionFiles(str(cc3m(folder)), label_column="class")


def nothing_there(folder: Path) -> CaptionFiles:
    return CaptionFiles(str(folder / "nowhere"))


def another_kind(folder: Path) -> CaptionFiles:
    (folder / "a.txt").write_text("a cat")
    return CaptionFiles(str(folder / "a.txt"))


def not_utf8(folder: Path) -> CaptionFiles:
    (folder / "a.csv").write_bytes("caption\ncaf\xe9 au lait\n".encode("latin-1"))
    return CaptionFiles(str(folder / "a.csv"))


def no_parquet(folder: Path) -> CaptionFiles:
    (folder / "a.parquet").write_bytes(b"caption\n")
    return CaptionFiles(str(folder / "a.parquet"))


def json_of_another_shape(folder: Path) -> CaptionFiles:
    (folder / "a.json").write_text('{"captions": 3}')
    return CaptionFiles(str(folder / "a.json"))


def a_line_that_is_no_object(folder: Path) -> CaptionFiles:
    (folder / "a.jsonl").write_text('{"caption": "x"}\n["y"]\n')
    return CaptionFiles(str(folder / "a.jsonl"))


def a_broken_line(folder: Path) -> CaptionFiles:
    (folder / "a.jsonl").write_text('{"caption": "x"}\n{"caption": \n')
    return CaptionFiles(str(folder / "a.jsonl"))


def a_tar_of_images_alone(folder: Path) -> CaptionFiles:
    return CaptionFiles(str(write_tar(folder / "a.tar", [{"jpg": b"x"}])))


def a_tar_cut_short(folder: Path) -> CaptionFiles:
    path = tar(folder)
    path.write_bytes(path.read_bytes()[:2_000])
    return CaptionFiles(str(path))


def quotes_that_swallow_rows(folder: Path) -> CaptionFiles:
    (folder / "a.csv").write_text('caption,n\n"a dog,1\na cat,2\n"b" c,3\n')
    return CaptionFiles(str(folder / "a.csv"))


def a_link_to_nothing(folder: Path) -> CaptionFiles:
    (folder / "own").mkdir()
    (folder / "own" / "a.csv").symlink_to(folder / "gone.csv")
    files = CaptionFiles(str(folder / "own"))
    _ = files.fingerprint  # worked out before anything is read
    return files


def empty_texts(folder: Path) -> CaptionFiles:
    return CaptionFiles(str(write_rows(folder / "a.csv", [("caption", "n"), ("", "1")])))


BAD = {
    no_column: "has no column called caption or text or prompt; there are: words, n. Name one in prompts.column",
    no_such_column: "has no column 'alt'; there are: caption, n. Name one in prompts.column",
    no_such_label: "has no column 'class'; there are: caption, n. Name one in prompts.label_column",
    no_headings_and_a_label: "has no headings: prompts.label_column cannot name a column",
    nothing_there: "nowhere holds no captions. Name a file",
    another_kind: "a.txt is of no kind that captions are read from. Kinds: .tar, .parquet",
    not_utf8: "a.csv cannot be read as captions: .* UTF-8",
    no_parquet: "a.parquet cannot be read as captions",
    json_of_another_shape: "a.json holds no captions: a list of objects is wanted, or 'annotations'",
    a_line_that_is_no_object: "a.jsonl, line 2: each row must be an object",
    a_broken_line: "a.jsonl cannot be read as captions: line 2: no JSON",
    a_tar_of_images_alone: "a.tar holds no captions: a sample's is its .txt",
    a_tar_cut_short: "00000.tar is not a whole, uncompressed tar",
    quotes_that_swallow_rows: "a.csv cannot be read as captions: .* expected after",
    a_link_to_nothing: "a.csv cannot be read as captions: .*No such file",
    empty_texts: "no caption that can be a prompt. .*0 captions; left out: 1 empty",
}


@pytest.mark.parametrize("make", BAD, ids=lambda f: f.__name__)
def test_what_cannot_be_read_gets_one_clear_paragraph(make, tmp_path):
    with pytest.raises(FigmentError, match=BAD[make]):
        write(make(tmp_path))


# ---- which captions they are -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", [cc3m, redcaps, laion, tar], ids=lambda f: f.__name__)
def test_files_are_known_by_their_content_not_their_place(layout, tmp_path):
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    one, other = (layout(tmp_path / name) for name in "ab")
    first = CaptionSet(CaptionFiles(str(one))).fingerprint
    assert CaptionSet(CaptionFiles(str(other))).fingerprint == first
    changed = next(p for p in [other, *other.rglob("*")] if p.is_file())
    data = bytearray(changed.read_bytes())
    data[len(data) // 2] ^= 1
    changed.write_bytes(bytes(data))
    assert CaptionSet(CaptionFiles(str(other))).fingerprint != first


def test_parts_of_a_split_are_told_apart(tmp_path, monkeypatch):
    """They lie in the same file of the library's cache."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "train.jsonl").write_text("".join(json.dumps({"caption": text}) + "\n" for text in SAID))
    parts = {"train": SAID, "train[:1]": SAID[:1], "train[1:2]": SAID[1:2], "train[1:]": SAID[1:]}
    sets = {part: CaptionFiles(f"datasets:{tmp_path / 'own'}:{part}") for part in parts}
    assert {part: [p.text for p in write(own)] for part, own in sets.items()} == parts
    assert len({own.fingerprint for own in sets.values()}) == len(parts)

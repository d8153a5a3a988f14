"""Which files of a source are its images, and which labels they have: as other programs leave them."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from figment.errors import FigmentError
from figment.images_in import open_images, splits
from figment.images_in.open import class_names_in
from figment.images_in.unlabelled import open_unlabelled
from figment.shots import read_split, write_split
from figment.words import is_code

NAMES = ["zebra", "t-shirt", "ankle boot"]  # not in the order of sorted folders


def png(label: int, k: int = 0) -> bytes:
    """The red of an image tells its class."""
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), (50 * label, k, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def class_folders(root: Path, names: Sequence[str] = NAMES) -> Path:
    for label, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for k in range(2):
            (root / name / f"{k}.png").write_bytes(png(label, k))
    return root


def cells(labels: Sequence[int]) -> list[dict[str, Any]]:
    return [{"bytes": png(label, k), "path": f"{k}.png"} for k, label in enumerate(labels)]


def parquet(path: Path, told: object = None, **columns: Any) -> Path:
    """``told``: class names, or what stands in the footer's ``huggingface`` as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns)
    if told is not None:
        features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": told}}
        raw = json.dumps({"info": {"features": features}}).encode() if isinstance(told, list) else told
        table = table.replace_schema_metadata({b"huggingface": raw})
    pq.write_table(table, path)
    return path.parent


def tar_of(path: Path, *members: tuple[str, bytes], format: int = tarfile.PAX_FORMAT, **pax: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=format) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size, info.pax_headers = len(data), dict(pax)
            tar.addfile(info, io.BytesIO(data))
    return path


def samples(labels: Sequence[object] = (0, 1, 2), prefix: str = "") -> list[tuple[str, bytes]]:
    return [
        member
        for i, label in enumerate(labels)
        for member in ((f"{prefix}{i}.png", png(i)), (f"{prefix}{i}.cls", str(label).encode()))
    ]


def table(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """A CSV or metadata.jsonl of images that are written beside it, in the order of the rows; their red is 50 times ``of``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    told = [{"file_name": f"{k}.png", **{c: v for c, v in row.items() if c != "of"}} for k, row in enumerate(rows)]
    for k, row in enumerate(rows):
        (path.parent / f"{k}.png").write_bytes(png(row.get("of", 0), k))
    with path.open("w", newline="") as file:
        if path.suffix == ".csv":
            writer = csv.DictWriter(file, list(told[0]))
            writer.writeheader()
            writer.writerows(told)
        else:
            file.writelines(json.dumps(row) + "\n" for row in told)
    return path


def check(images) -> None:
    """Every image has the label that its pixels tell."""
    assert [int(image[0, 0, 0]) // 50 for image in images.load(range(len(images)))] == images.labels.tolist()
    assert set(images.labels.tolist()) == {0, 1, 2}


# ---- Parquet ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64(), pa.int8(), pa.int32()])
def test_labels_of_every_type_of_whole_numbers(tmp_path, kind):
    check(open_images(parquet(tmp_path / "a.parquet", image=cells([2, 0, 1]), label=pa.array([2, 0, 1], kind)), NAMES))


LABEL = '{"info": {"features": {"label": %s}}}'
SHAPES = [
    "null",
    "[]",
    "1",
    '{"info": null}',
    '{"info": []}',
    '{"info": {"features": []}}',
    '{"info": {"features": null}}',
]
SHAPES += [LABEL % own for own in ("null", "[]", "{}", '{"names": null}', '{"_type": "ClassLabel", "names": null}')]
SHAPES += [
    LABEL % '{"_type": "ClassLabel", "names": [1, 2, 3]}',
    LABEL % '{"_type": "ClassLabel", "names": {"0": "a"}}',
    "no JSON",
    "",
]


@pytest.mark.parametrize("raw", [*(text.encode() for text in SHAPES), b"\xff\xfe"])
def test_metadata_of_any_shape_says_nothing_rather_than_stopping(tmp_path, raw):
    check(open_images(parquet(tmp_path / "a.parquet", raw, image=cells([2, 0, 1]), label=[2, 0, 1]), NAMES))


ORDER = [2, 0, 1]
CLASSES = [NAMES[label] for label in ORDER]


@pytest.mark.parametrize(
    "columns",
    [
        {"img": cells(ORDER), "label": ORDER},
        {"photo": cells(ORDER), "label": ORDER},
        {"image": [cell["bytes"] for cell in cells(ORDER)], "label": ORDER},
        {"image": pa.array([cell["bytes"] for cell in cells(ORDER)], pa.large_binary()), "label": ORDER},
        {"image": cells(ORDER), "label": CLASSES},
        {"image": cells(ORDER), "label": pa.array(CLASSES, pa.large_string())},
        {"image": cells(ORDER), "label": pa.array(CLASSES).dictionary_encode()},
        {"image": cells(ORDER), "class_name": CLASSES, "label": [0, 0, 0]},
        {"image": cells(ORDER), "class": CLASSES},
        {"image": ["2.png", "0.png", "1.png"], "label": ORDER},
        {"image": pa.array(["2.png", "0.png", "1.png"]).dictionary_encode(), "label": ORDER},
        {"image": [{"bytes": None, "path": f"{label}.png"} for label in ORDER], "label": ORDER},
        {"image": [{"path": f"{label}.png"} for label in ORDER], "label": ORDER},
    ],
    ids=lambda columns: "-".join(f"{name}_{getattr(values, 'type', type(values[0]).__name__)}"[:30] for name, values in columns.items()),
)  # fmt: skip
def test_images_and_classes_are_found_however_their_columns_are(tmp_path, columns):
    for label in ORDER:
        (tmp_path / f"{label}.png").write_bytes(png(label))
    images = open_images(parquet(tmp_path / "a.parquet", **columns), NAMES)
    check(images)
    assert len(set(images.digests)) == 3 and "" not in images.digests


def test_paths_as_the_datasets_library_writes_them(tmp_path):
    import datasets

    class_folders(tmp_path / "photos")
    paths = sorted(str(path) for path in (tmp_path / "photos").rglob("*.png"))
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)})
    made = datasets.Dataset.from_dict(
        {"image": paths, "label": [NAMES.index(Path(p).parent.name) for p in paths]}, features
    )
    (tmp_path / "out").mkdir()
    made.to_parquet(tmp_path / "out" / "a.parquet")
    check(open_images(tmp_path / "out", NAMES))


def test_a_path_that_leads_nowhere_is_named(tmp_path):
    folder = parquet(tmp_path / "a.parquet", image=["gone.png", "0.png", "0.png"], label=[0, 1, 2])
    images = open_images(folder, NAMES)
    with pytest.raises(FigmentError, match="gone.png is not an image that can be read: no such file"):
        images.load([0])


@pytest.mark.parametrize("second", [["ankle boot", "zebra", "t-shirt"], ["t-shirt", "ankle boot", "unused", "zebra"]])
def test_each_file_of_parquet_is_read_by_its_own_names(tmp_path, second):
    parquet(tmp_path / "a.parquet", NAMES, image=cells([0, 1, 2]), label=[0, 1, 2])
    folder = parquet(
        tmp_path / "b.parquet", second, image=cells([0, 1, 2]), label=[second.index(name) for name in NAMES]
    )
    check(open_images(folder, NAMES))
    with pytest.raises(FigmentError, match=r"b\.parquet numbers the classes of 'label' differently from .*a\.parquet"):
        open_images(f"datasets:{folder}:train", NAMES)


def test_names_in_some_files_and_none_in_others_are_refused(tmp_path):
    parquet(tmp_path / "a.parquet", NAMES, image=cells([0, 1, 2]), label=[0, 1, 2])
    with pytest.raises(FigmentError, match=r"b\.parquet has no class names, and .*a\.parquet has"):
        open_images(parquet(tmp_path / "b.parquet", image=cells([0, 1, 2]), label=[0, 1, 2]), NAMES)


def test_what_a_mac_leaves_beside_a_file_of_parquet_is_none(tmp_path):
    folder = parquet(tmp_path / "a.parquet", image=cells([2, 0, 1]), label=[2, 0, 1])
    (folder / "._a.parquet").write_bytes(b"Mac OS X")
    check(open_images(folder, NAMES))


# ---- hidden folders, splits, samples ---------------------------------------------------------------------------------

OF_PROGRAMS = [".ipynb_checkpoints", ".thumbnails", "@eaDir", "__MACOSX"]


@pytest.mark.parametrize("hidden", OF_PROGRAMS)
def test_what_programs_keep_for_themselves_is_no_image_and_no_class(tmp_path, hidden):
    root = class_folders(tmp_path / "real")
    for folder in (root / hidden, root / "zebra" / hidden, root / "zebra" / "more" / hidden / "deep"):
        folder.mkdir(parents=True)
        (folder / "0-checkpoint.png").write_bytes(png(2))
    images = open_images(root, NAMES)
    check(images)
    assert len(images) == len(open_unlabelled(root)) == 6
    extra = [
        (f"{folder}{hidden}/9.{end}", data) for folder in ("", "./a/") for end, data in (("png", png(0)), ("cls", b"1"))
    ]
    check(tars := open_images(tar_of(tmp_path / "a.tar", *samples(prefix="./"), *extra), NAMES))
    assert len(tars) == 3


def parquet_splits(root: Path) -> Path:
    parquet(root / "train-00000-of-00001.parquet", NAMES, image=cells([1, 1, 1]), label=[0, 1, 2])
    return parquet(root / "test-00000-of-00001.parquet", NAMES, image=cells([0, 1, 2]), label=[0, 1, 2])


def tar_splits(root: Path) -> Path:
    tar_of(root / "pets-train-000000.tar", *samples([1, 2, 0]))
    return tar_of(root / "pets-test-000000.tar", *samples()).parent


ROWS = [{"of": 1, "label": name, "split": "train"} for name in NAMES]
ROWS += [{"of": label, "label": name, "split": " Test"} for label, name in enumerate(NAMES)]


@pytest.mark.parametrize(
    "make",
    [
        parquet_splits,
        tar_splits,
        lambda root: table(root / "a.csv", ROWS),
        lambda root: table(root / "metadata.jsonl", ROWS).parent,
        lambda root: table(root / "metadata.csv", ROWS).parent,
    ],
    ids=["parquet", "tars", "csv", "metadata.jsonl", "metadata.csv"],
)  # fmt: skip
def test_splits_that_lie_together_are_asked_for_by_name(tmp_path, make):
    where = make(tmp_path / "real")
    with pytest.raises(FigmentError, match=r"holds several splits: test, train\. Name the one that is meant: .*:test"):
        open_images(where, NAMES)
    check(images := open_images(f"{where}:test", NAMES))
    assert len(images) == 3 == len(open_images(f"{where}:train", NAMES))
    with pytest.raises(FigmentError, match=r"holds no split 'val'\. There are: test, train"):
        open_images(f"{where}:val", NAMES)


@pytest.mark.parametrize("split", ["0", "fold 2", "v1.0", "test"])
def test_a_split_may_be_called_by_a_number(tmp_path, split):
    table = tmp_path / "photos.csv"
    table.touch()
    assert splits.parted(f"{table}:{split}") == (str(table), split)
    (tmp_path / "photos.csv:0").touch()  # a colon in a file's name
    assert splits.parted(f"{table}:0") == (f"{table}:0", "")
    assert splits.parted(f"{tmp_path}/gone:0") == (f"{tmp_path}/gone:0", "")


def test_one_split_alone_needs_no_name_and_folders_of_splits_are_named(tmp_path):
    check(
        open_images(
            parquet(tmp_path / "a" / "validation-00000-of-1.parquet", NAMES, image=cells(ORDER), label=ORDER), NAMES
        )
    )
    check(open_images(f"{tmp_path / 'a'}:val", NAMES))
    class_folders(tmp_path / "b" / "train")
    check(open_images(tmp_path / "b", NAMES))
    class_folders(tmp_path / "b" / "test")
    with pytest.raises(FigmentError, match="b holds several splits: 'test', 'train'. Name the folder"):
        open_images(tmp_path / "b", NAMES)
    check(images := open_images(f"{tmp_path / 'b'}:test", NAMES))
    assert all(str(path).startswith(f"{tmp_path / 'b' / 'test'}/") for path in images.paths)
    (tmp_path / "b" / "train").rename(tmp_path / "b" / "valid")
    assert open_images(f"{tmp_path / 'b'}:val", NAMES).paths[0].parts[-3] == "valid"
    with pytest.raises(FigmentError, match="holds no split 'val'"):
        open_images(f"{tmp_path / 'b' / 'test'}:val", NAMES)


def test_a_table_called_labels_is_read_where_there_are_no_class_folders(tmp_path):
    labels = table(tmp_path / "labels.csv", [{"label": NAMES[of], "of": of} for of in ORDER])
    check(open_images(tmp_path, NAMES))
    folder = class_folders(tmp_path / "b")
    labels.rename(folder / "labels.csv").write_bytes(b"id,label\n7,\xe9\n")  # as contests have them
    check(open_images(folder, NAMES))


@pytest.mark.parametrize(
    "text", ["name,colour\nzebra,striped\n", "id;label\n7;\xe9\n"], ids=["another", "of a contest"]
)
def test_a_table_about_something_else_does_not_hide_the_one_class_folder_beside_it(tmp_path, text):
    class_folders(tmp_path, NAMES[:1])
    (tmp_path / "labels.csv").write_text(text, encoding="latin-1")
    assert len(open_images(tmp_path, NAMES[:1])) == 2 and class_names_in(tmp_path) == NAMES[:1]
    with pytest.raises(FigmentError, match="Missing there: 't-shirt', 'ankle boot'"):
        open_images(tmp_path, NAMES)
    (tmp_path / "labels.csv").write_text("path,colour\nzebra/0.png,striped\n")  # it names images, but not their classes
    with pytest.raises(FigmentError, match=r"labels\.csv has no column for the class of each image"):
        open_images(tmp_path, NAMES)


@pytest.mark.parametrize("extra", [["a.png"], ["mask.png", "left.jpg"], ["x.webp"]])
def test_of_several_images_of_a_sample_the_one_without_a_prefix_is_it(tmp_path, extra):
    more = [(f"0.{end}", png(1)) for end in extra]
    check(open_images(tar_of(tmp_path / "a.tar", *samples(), *more), NAMES))


@pytest.mark.parametrize(
    "names", [["0.left.png", "0.right.png"], ["0.png", "0.jpg"], ["a.1.png", "a.2.png", "a.10.png"]]
)
def test_samples_whose_image_is_not_known_are_refused_by_name(tmp_path, names):
    members = [(name, png(0)) for name in names] + [(f"{names[0][0]}.cls", b"0")]
    with pytest.raises(
        FigmentError, match=f"the sample {names[0][0]} has several images.*{names[0].partition('.')[2]}"
    ):
        open_images(tar_of(tmp_path / "a.tar", *members), NAMES)


# ---- tars and names of files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
@pytest.mark.parametrize("name", ["é" * 40 + "/", "a" * 90 + "/" + "b" * 40, "odd\udcff"])
def test_tars_of_every_format_and_names(tmp_path, format, name):
    path = tar_of(tmp_path / "a.tar", *samples(prefix=name), format=format, comment="mine")
    images = open_images(path, NAMES)
    check(images)
    assert all(id.isprintable() and id.encode() for id in images.ids) and len(set(images.ids)) == 3


def sparse(name: str, data: bytes) -> bytes:
    """A member in GNU's old sparse format: ``data`` and then as many zeros that are not stored."""
    info = tarfile.TarInfo(name)
    info.type, info.size = tarfile.GNUTYPE_SPARSE, len(data)
    head = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    numbers = b"".join(b"%011o\0" % n for n in (0, len(data), 2 * len(data), 0))
    head[386 : 386 + len(numbers)] = numbers
    head[483:495] = b"%011o\0" % (2 * len(data))
    head[148:156] = b"%06o\0 " % (sum(head[:148]) + 8 * 32 + sum(head[156:512]))
    return bytes(head) + data + bytes(-len(data) % 512)


def test_sparse_members_and_links_are_named_not_misread_or_lost(tmp_path):
    whole = tar_of(tmp_path / "a.tar", *samples()).read_bytes()
    (tmp_path / "b.tar").write_bytes(sparse("notes.bin", b"x" * 600) + whole)
    check(open_images(tmp_path / "b.tar", NAMES))  # what is no image does not matter, not even as the last member
    (tmp_path / "c.tar").write_bytes(sparse("9.png", png(0)) + whole)
    with pytest.raises(FigmentError, match=r"9\.png is a sparse file, which cannot be read in place"):
        open_images(tmp_path / "c.tar", NAMES)
    for kind in (tarfile.LNKTYPE, tarfile.SYMTYPE):
        link = tarfile.TarInfo("9.png")
        link.type, link.linkname = kind, "0.png"
        (tmp_path / "d.tar").write_bytes(link.tobuf() + whole)
        with pytest.raises(FigmentError, match=r"9\.png is a link, which cannot be read in place"):
            open_images(tmp_path / "d.tar", NAMES)
    (tmp_path / "e.tar").write_bytes(whole.rstrip(b"\0") + sparse("z.bin", b"x" * 600)[:700])
    with pytest.raises(FigmentError, match="not a whole"):
        open_images(tmp_path / "e.tar", NAMES)


def test_names_of_files_that_are_not_utf8_can_be_written_down_and_found_again(tmp_path):
    root = class_folders(tmp_path / "real")
    for name in (b"\xff.png", b"\xfe.png", b"caf\xe9.png"):
        Path(os.fsdecode(os.fsencode(root / "zebra") + b"/" + name)).write_bytes(png(0, name[0]))
    images = open_images(root, NAMES)
    check(images)
    assert len(set(images.ids)) == 9 and pa.array(images.ids, pa.string()).to_pylist() == images.ids
    write_split(tmp_path / "shots.json", images, range(9))
    assert read_split(tmp_path / "shots.json", images).tolist() == list(range(9))
    assert sorted(open_unlabelled(root).ids) == sorted(images.ids)


# ---- labels ----------------------------------------------------------------------------------------------------------


def csv_of(tmp_path: Path, labels: Sequence[object]) -> Path:
    return table(tmp_path / "a.csv", [{"of": k, "label": label} for k, label in enumerate(labels)])


def saved_of(tmp_path: Path, labels: Sequence[Any]) -> Path:
    import datasets

    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    datasets.Dataset.from_dict({"image": cells(range(len(labels))), "label": labels}, features).save_to_disk(
        tmp_path / "saved"
    )
    return tmp_path / "saved"


NUMBERED = {
    "csv": csv_of,
    "parquet": lambda p, labels: parquet(p / "a.parquet", image=cells(range(len(labels))), label=labels),
    "tar": lambda p, labels: tar_of(p / "a.tar", *samples(labels)),
    "jsonl": lambda p, labels: table(p / "metadata.jsonl", [{"of": k, "label": label} for k, label in enumerate(labels)]).parent,
    "saved": saved_of,
}  # fmt: skip


@pytest.mark.parametrize("source", NUMBERED)
def test_numbers_are_positions_which_is_said_and_every_class_has_an_image(tmp_path, caplog, source):
    with caplog.at_level(logging.INFO, "figment"):
        check(open_images(NUMBERED[source](tmp_path / "a", [0, 1, 2]), NAMES))
    assert "read as positions in task.class_names from 0: 0 is zebra, 1 is t-shirt, 2 is ankle boot" in caplog.text
    with pytest.raises(FigmentError, match="They count from 1, it seems"):
        open_images(NUMBERED[source](tmp_path / "b", [1, 2, 3]), NAMES)
    with pytest.raises(
        FigmentError, match=r"label 3, .*in the order of class_names: task\.own_names: \['3', '7', '12'\]"
    ):
        open_images(NUMBERED[source](tmp_path / "f", [7, 12, 3]), NAMES)
    with pytest.raises(FigmentError, match="of 'zebra' there is no image.*If the numbers count from 1"):
        open_images(NUMBERED[source](tmp_path / "c", [1, 2, 2]), NAMES)
    check(open_images(where := NUMBERED[source](tmp_path / "d", [1, 2, 3]), NAMES, own_names=["1", "2", "3"]))
    for ids in ([2, 0, 1], [7, 12, 3]):
        own_names = [str(id) for id in ids]
        check(open_images(NUMBERED[source](tmp_path / f"e{ids[0]}", ids), NAMES, own_names=own_names))
    assert open_images(where, ["1", "2", "3"]).labels.tolist() == [0, 1, 2]


@pytest.mark.parametrize("source", ["parquet", "datasets", "saved", "names"])
def test_a_class_without_images_is_missing_whatever_the_source(tmp_path, source):
    import datasets

    folder = parquet(tmp_path / "a" / "a.parquet", NAMES, image=cells([0, 1, 1]), label=[0, 1, 1])
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)})
    datasets.Dataset.from_dict({"image": cells([0, 1]), "label": [0, 1]}, features).save_to_disk(tmp_path / "saved")
    where = {
        "parquet": folder,
        "datasets": f"datasets:{folder}:train",
        "saved": tmp_path / "saved",
        "names": csv_of(tmp_path, ["zebra", "t-shirt"]),
    }[source]
    with pytest.raises(FigmentError, match="Missing there: 'ankle boot'"):
        open_images(where, NAMES)


def test_class_names_that_no_image_has_need_not_be_the_tasks(tmp_path):
    more = ["t-shirt", "background", "ankle boot", "zebra"]
    check(open_images(parquet(tmp_path / "a.parquet", more, image=cells([1, 2, 0]), label=[0, 2, 3]), NAMES))


def test_folders_called_by_numbers_are_told_apart_by_own_names(tmp_path):
    class_folders(tmp_path / "real", ["0", "1", "2"])
    with pytest.raises(FigmentError, match=r"say so in the order of class_names: task\.own_names: \['0', '1', '2'\]"):
        open_images(tmp_path / "real", NAMES)
    check(open_images(tmp_path / "real", NAMES, own_names=["0", "1", "2"]))


ONE_HOT = [{"of": k, **{f" {n}": f" {int(n == name)}" for n in sorted(NAMES)}} for k, name in enumerate(NAMES)]


@pytest.mark.parametrize("name", ["_classes.csv", "any.csv"])
def test_a_column_for_each_class_as_annotation_tools_export_them(tmp_path, name):
    path = table(tmp_path / name, ONE_HOT)
    path.write_text(path.read_text().replace("file_name", "filename"))
    check(open_images(path, NAMES))
    check(open_images(tmp_path, NAMES)) if name == "_classes.csv" else None
    for line, said in (("3.png, 1, 1, 0", "'ankle boot', 't-shirt' does"), ("3.png, 0, 0, 0", "none does")):
        path.write_text(path.read_text().partition("2.png")[0] + line + "\n")
        (tmp_path / "3.png").write_bytes(png(0))
        with pytest.raises(FigmentError, match=rf"line 4: one column must hold 1, that of the image's class; {said}"):
            open_images(path, NAMES)
        path.write_text(path.read_text().partition("3.png")[0] + "2.png, 0, 0, 1\n")


@pytest.mark.parametrize(
    "name, code",
    [("AnkleBoot", True), ("ankle_boot", True), ("003.ankle boot", True), ("class 3", True), ("Class3", True), ("n01440764", True), ("17", True)]
    + [(name, False) for name in ("ankle boot", "McDonald", "DeLorean", "t-shirt", "A300B4", "F-16", "707-320", "3", "St. John", "cat")],
)  # fmt: skip
def test_class_names_that_are_spelt_for_programs(name, code):
    assert is_code(name) == code

"""Real images from files that others wrote, by their own writers; and every way these can be wrong."""

from __future__ import annotations

import csv
import io
import json
import pickle
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from figment.errors import FigmentError
from figment.images_in import open_images
from figment.recipe import load_recipe
from figment.task import real_folder

NAMES = ["zebra", "t-shirt", "ankle boot"]
THEIRS = ["Ankle_Boot", "zebra", "T-Shirt"]  # another order, another spelling
OF_THEIRS = [2, 0, 1]
PER_CLASS = 3


def pixels(label: int, k: int) -> np.ndarray:
    """An image whose first grey level says its class of the task."""
    rng = np.random.default_rng([label, k])
    image = rng.integers(0, 256, (5, 4, 3), np.uint8)
    image[0, 0] = 80 * label
    return image


def file_of(label: int, k: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels(label, k)).save(buffer, "PNG")
    return buffer.getvalue()


def rows() -> list[tuple[int, int]]:
    """(label, k), mixed."""
    return [(label, k) for k in range(PER_CLASS) for label in (1, 0, 2)]


def check(images, n: int = PER_CLASS * len(NAMES)) -> None:
    """All images are there, each with the label its pixels say."""
    for own in (images, pickle.loads(pickle.dumps(images))):
        assert len(own) == n and own.labels.dtype == np.int64
        decoded = own.load(range(n))
        assert [int(image[0, 0, 0]) for image in decoded] == [80 * label for label in own.labels]
        assert len({image.tobytes() for image in decoded}) == n == len(set(own.ids)) == len(set(own.digests))
        some = own.take([n - 1, 0])
        assert some.ids == [own.ids[n - 1], own.ids[0]] and some.labels.tolist() == [own.labels[n - 1], own.labels[0]]
        assert (some.load([0])[0] == decoded[n - 1]).all() and some.digests == [own.digests[n - 1], own.digests[0]]
        assert some.data(1) == own.data(0) and len(own.take([])) == 0


# ---- tables of paths -------------------------------------------------------------------------------------------------


def write_files(folder: Path) -> list[tuple[str, int]]:
    """Images in folders that say nothing of classes: path and label of each."""
    (folder / "all of them").mkdir(parents=True)
    named = []
    for label, k in rows():
        name = f"all of them/{k}, {label}.png"
        (folder / name).write_bytes(file_of(label, k))
        named.append((name, label))
    return named


def write_csv(path: Path, header: list[str], lines, **options) -> Path:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, **options)
        writer.writerows([header, *lines])
    return path


@pytest.mark.parametrize("path_column", ["path", "file_name", "image"])
@pytest.mark.parametrize("class_column", ["label", "class", "class_name"])
def test_csv_of_paths_and_names(tmp_path, path_column, class_column):
    lines = [(name, THEIRS[OF_THEIRS.index(label)]) for name, label in write_files(tmp_path)]
    check(open_images(write_csv(tmp_path / "photos.csv", [path_column, class_column], lines), NAMES))


def test_csv_of_numbers_as_spreadsheets_write_it(tmp_path):
    lines = [("x", label, name) for name, label in write_files(tmp_path)]
    path = write_csv(tmp_path / "photos.csv", ["note", " Label", "PATH "], lines, delimiter=";")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    check(open_images(path, NAMES))


def test_csv_that_pandas_wrote(tmp_path):
    pandas = pytest.importorskip("pandas")
    named = write_files(tmp_path)
    table = pandas.DataFrame({"path": [str(tmp_path / n) for n, _ in named], "label": [NAMES[y] for _, y in named]})
    table.to_csv(tmp_path / "photos.csv")
    check(open_images(tmp_path / "photos.csv", NAMES))


def test_digits_are_names_where_the_task_has_such_classes(tmp_path):
    lines = [(name, ["7", "0", "1"][label]) for name, label in write_files(tmp_path)]
    check(open_images(write_csv(tmp_path / "photos.csv", ["path", "label"], lines), ["7", "0", "1"]))
    with pytest.raises(FigmentError, match="label -1"):
        lines[0] = (lines[0][0], "-1")
        open_images(write_csv(tmp_path / "photos.csv", ["path", "label"], lines), ["7", "0", "1"])


@pytest.mark.parametrize(
    "header, change, message",
    [
        (["path", "label"], lambda lines: [], r"names no images"),
        (["path", "kind"], None, r"no column for the class.*class_name, class, label; there are: path, kind"),
        (
            ["where", "label"],
            None,
            r"no column for the path.*path, file_name, filename, image; there are: where, label",
        ),
        (
            ["path", "label"],
            lambda x: [(x[0][0], "zebbra"), *x[1:]],
            r"Not in the task: 'zebbra'\. Did you mean 'zebra'",
        ),
        (["path", "label"], lambda x: [(x[0][0], ""), *x[1:]], r"an image without a class"),
        (["path", "label"], lambda x: [(n, 3) for n, _ in x], r"label 3.*0 to 2"),
        (["path", "label"], lambda x: [y for y in x if y[1] != "zebra"], r"Missing there: 'zebra'"),
        (
            ["path", "label"],
            lambda x: [*x, ("gone/away.png", "zebra")],
            r"line 11: there is no image .*gone/away\.png",
        ),
        (["path", "label"], lambda x: [*x, ("y" * 300, "zebra")], r"line 11: there is no image"),
        (["path", "label"], lambda x: [*x, ("all of them", "zebra")], r"line 11: there is no image"),
        (["path", "label"], lambda x: [*x, ("", "zebra")], r"line 11: 'path' must be the path"),
        (["path", "label"], lambda x: [*x, x[0]], r"line 11: .*named in line 2 already"),
    ],
)
def test_tables_that_are_wrong(tmp_path, header, change, message):
    lines = [(name, NAMES[label]) for name, label in write_files(tmp_path)]
    path = write_csv(tmp_path / "photos.csv", header, change(lines) if change else lines)
    with pytest.raises(FigmentError, match=message) as error:
        open_images(path, NAMES)
    assert str(path) in str(error.value) and len(str(error.value)) < 1000


def test_files_that_are_no_table(tmp_path):
    (tmp_path / "empty.csv").write_bytes(b"")
    with pytest.raises(FigmentError, match="names no images"):
        open_images(tmp_path / "empty.csv", NAMES)
    (tmp_path / "latin.csv").write_bytes("path,label\nB\u00e4r.png,zebra\n".encode("latin-1"))
    with pytest.raises(FigmentError, match="Save it again as UTF-8"):
        open_images(tmp_path / "latin.csv", NAMES)
    (tmp_path / "huge.csv").write_text("path,label\n" + "x" * 200_000 + ",zebra\n")
    with pytest.raises(FigmentError, match="this is not CSV"):
        open_images(tmp_path / "huge.csv", NAMES)
    (tmp_path / "photos.xlsx").write_bytes(b"PK")
    with pytest.raises(FigmentError, match="is a file that real images cannot be read from"):
        open_images(tmp_path / "photos.xlsx", NAMES)


def test_imagefolder_with_metadata(tmp_path):
    named = write_files(tmp_path)
    lines = [json.dumps({"file_name": name, "label": NAMES[label], "other": None}) for name, label in named]
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines) + "\n\n")
    check(open_images(tmp_path, NAMES))
    (tmp_path / "metadata.jsonl").unlink()
    write_csv(tmp_path / "metadata.csv", ["file_name", "label"], named)
    check(open_images(tmp_path, NAMES))


def test_metadata_that_names_no_classes_leaves_them_to_the_folders(tmp_path):
    for label, k in rows():
        (tmp_path / NAMES[label]).mkdir(exist_ok=True)
        (tmp_path / NAMES[label] / f"{k}.png").write_bytes(file_of(label, k))
    (tmp_path / "metadata.jsonl").write_text(json.dumps({"file_name": "zebra/0.png", "text": "a zebra"}))
    check(open_images(tmp_path, NAMES))


@pytest.mark.parametrize(
    "line, message",
    [
        ("{", "line 2: this is not JSON"),
        ("[1]", "line 2: each line must be an object"),
        ('{"label": 1}', "line 2: 'file_name' must be the path"),
        ('{"file_name": 7, "label": 1}', "line 2: 'file_name' must be the path"),
        ('{"file_name": "../secret.png", "label": 1}', r"line 2: \.\./secret\.png lies outside"),
        ('{"file_name": "/etc/hostname", "label": 1}', "line 2: /etc/hostname lies outside"),
        ('{"file_name": "b.png", "label": 1}', r"line 2: there is no image .*b\.png"),
    ],
)
def test_metadata_that_is_wrong(tmp_path, line, message):
    (tmp_path / "secret.png").write_bytes(file_of(0, 0))
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.png").write_bytes(file_of(0, 0))
    (folder / "metadata.jsonl").write_text('{"file_name": "a.png", "label": 0}\n' + line + "\n")
    with pytest.raises(FigmentError, match=message):
        open_images(folder, NAMES)


# ---- WebDataset ------------------------------------------------------------------------------------------------------


def write_tars(folder: Path, fields, extension: str = "png") -> Path:
    """Two tars by webdataset's own writer; ``fields(label)`` are those that say the class."""
    wds = pytest.importorskip("webdataset")
    folder.mkdir()
    with wds.ShardWriter(str(folder / "%05d.tar"), maxcount=5, verbose=0) as sink:
        for label, k in rows():
            sink.write({"__key__": f"some/{k}-{label}", extension: file_of(label, k), "txt": "a text", **fields(label)})
    return folder


@pytest.mark.parametrize(
    "fields",
    [
        lambda label: {"cls": label},
        lambda label: {"cls": NAMES[label].upper()},
        lambda label: {"json": {"class_name": NAMES[label], "label": 99}, "cls": 98},
        lambda label: {"json": {"label": label}},
        lambda label: {"json": {"label": NAMES[label]}, "mask.png": b"not of interest"},
    ],
)
def test_webdataset_shards(tmp_path, fields):
    folder = write_tars(tmp_path / "tars", fields)
    assert len(list(folder.iterdir())) == 2
    check(open_images(folder, NAMES))


def test_one_tar(tmp_path):
    write_tars(tmp_path / "tars", lambda label: {"cls": label}, extension="PNG")
    check(open_images(tmp_path / "tars" / "00000.tar", NAMES), n=5)


def test_a_tar_that_gnu_tar_made_of_a_folder(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for label, k in rows():
        (folder / f"{label}-{k}.png").write_bytes(file_of(label, k))
        (folder / f"{label}-{k}.cls").write_text(f"{NAMES[label]}\n")
    (folder / "._0-0.png").write_bytes(b"what a Mac leaves")
    with tarfile.open(tmp_path / "photos.tar", "w", format=tarfile.GNU_FORMAT) as tar:
        tar.add(folder, "photos")
    check(open_images(tmp_path / "photos.tar", NAMES))


def test_a_image_is_read_without_the_rest_of_its_tar(tmp_path):
    folder = write_tars(tmp_path / "tars", lambda label: {"cls": label})
    images = open_images(folder, NAMES)
    first = images.load([0])[0]
    path = folder / "00000.tar"
    start, length = (int(x) for x in images.source.places[0, 1:])
    data = path.read_bytes()
    path.write_bytes(bytes(start) + data[start : start + length] + bytes(len(data) - start - length))
    assert (images.load([0])[0] == first).all()


def test_tars_that_are_wrong(tmp_path):
    path = write_tars(tmp_path / "tars", lambda label: {"cls": label}) / "00001.tar"
    whole = path.read_bytes()
    with tarfile.open(path) as tar:
        last = tar.getmembers()[-1]
    for size in (0, 700, last.offset + 100, last.offset, last.offset_data, len(whole) // 2):
        path.write_bytes(whole[:size])
        with pytest.raises(FigmentError, match=r"00001\.tar is not a whole, uncompressed tar.*Copy it again"):
            open_images(tmp_path / "tars", NAMES)
    import gzip

    path.write_bytes(gzip.compress(whole))
    with pytest.raises(FigmentError, match="unpack it from .gz"):
        open_images(tmp_path / "tars", NAMES)


def tar_of(path: Path, **files: bytes) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name.replace("_", "."))
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize(
    "files, message",
    [
        ({"0_txt": b"a text", "0_cls": b"1"}, "holds no images"),
        ({}, "holds no images"),
        ({"0_png": b"x", "0_txt": b"a text"}, r"the sample 0 has no class. Put it into 0\.cls"),
        ({"0_png": b"x", "0_json": b"{"}, r"0\.json is not JSON"),
        ({"0_png": b"x", "0_json": b"[]"}, "the sample 0 has no class"),
        ({"0_png": b"x", "0_cls": b"7"}, "label 7"),
        ({"0_png": b"x", "0_cls": b"9" * 40}, "Not in the task: '999"),
        ({"0_png": b"x", "0_json": b'{"label": true}'}, "Not in the task: 'True'"),
        ({"0_png": b"x", "0_json": b'{"label": [1]}'}, "Not in the task: '.1.'"),
        ({"0_png": b"x", "0_cls": b"cat"}, "Not in the task: 'cat'"),
        ({"0_png": b"x", "0_cls": b"1", "0_PNG": b"x"}, r"holds 0\.PNG twice"),
    ],
)
def test_samples_that_are_wrong(tmp_path, files, message):
    with pytest.raises(FigmentError, match=message):
        open_images(tar_of(tmp_path / "a.tar", **files), NAMES)


# ---- datasets --------------------------------------------------------------------------------------------------------


def data_set(label_column: str = "label", image_column: str = "image", **more):
    datasets = pytest.importorskip("datasets")
    columns = {
        "text": ["x"] * len(rows()),
        image_column: [Image.fromarray(pixels(label, k)) for label, k in rows()],
        label_column: [OF_THEIRS.index(label) for label, _ in rows()],
    }
    features = {
        "text": datasets.Value("string"),
        image_column: datasets.Image(),
        label_column: datasets.ClassLabel(names=THEIRS),
        **{name: feature for name, (_, feature) in more.items()},
    }
    return datasets.Dataset.from_dict({**columns, **{n: v for n, (v, _) in more.items()}}, datasets.Features(features))


def test_save_to_disk(tmp_path):
    data_set(label_column="fine", image_column="img").save_to_disk(str(tmp_path / "saved"))
    check(open_images(tmp_path / "saved", NAMES))
    check(open_images(f"datasets:{tmp_path / 'saved'}", NAMES))


def test_a_choice_of_rows_that_was_saved(tmp_path):
    chosen = data_set().shuffle(seed=1).filter(lambda row: row["label"] != 5)
    chosen.save_to_disk(str(tmp_path / "saved"), num_shards=2)
    check(open_images(tmp_path / "saved", NAMES))


def test_splits_have_to_be_chosen(tmp_path):
    datasets = pytest.importorskip("datasets")
    both = datasets.DatasetDict({"train": data_set(), "test": data_set().select(range(3))})
    both.save_to_disk(str(tmp_path / "saved"))
    with pytest.raises(FigmentError, match="several splits: train, test. Choose one, such as .*saved/train"):
        open_images(tmp_path / "saved", NAMES)
    check(open_images(tmp_path / "saved" / "train", NAMES))
    where = f"datasets:{tmp_path / 'saved'}"
    with pytest.raises(FigmentError, match="several splits: train, test. Choose one, such as datasets:.*saved:train"):
        open_images(where, NAMES)
    check(open_images(f"{where}:test", NAMES), n=3)
    with pytest.raises(FigmentError, match="no split 'val'. There are: train, test"):
        open_images(f"{where}:val", NAMES)
    datasets.DatasetDict({"train": data_set()}).save_to_disk(str(tmp_path / "one"))
    check(open_images(tmp_path / "one", NAMES))


def test_what_load_dataset_opens(tmp_path, monkeypatch):
    """A folder of Parquet in splits, as it lies on the Hub."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "pets" / "data").mkdir(parents=True)
    data_set().to_parquet(str(tmp_path / "pets" / "data" / "train-00000-of-00001.parquet"))
    data_set().select(range(3)).to_parquet(str(tmp_path / "pets" / "data" / "test-00000-of-00001.parquet"))
    where = f"datasets:{tmp_path / 'pets'}"
    check(open_images(f"{where}:train", NAMES))
    check(open_images(f"{where}:train[:4]", NAMES), n=4)
    with pytest.raises(FigmentError, match="several splits: train, test"):
        open_images(where, NAMES)
    with pytest.raises(FigmentError, match=r"cannot open .*split 'val'.*Check the name and the split"):
        open_images(f"{where}:val", NAMES)


def test_a_data_set_that_cannot_be_had():
    pytest.importorskip("datasets")
    with pytest.raises(FigmentError, match="datasets cannot open 'nobody/nothing'.*network") as error:
        open_images("datasets:nobody/nothing", NAMES)
    assert len(str(error.value)) < 800


def test_of_several_columns_of_classes_the_one_with_the_tasks(tmp_path):
    datasets = pytest.importorskip("datasets")
    coarse = datasets.ClassLabel(names=["animal", "clothes"])
    found = data_set(coarse=([0] * len(rows()), coarse)).select_columns(["coarse", "label", "image"])
    found.save_to_disk(str(tmp_path / "saved"))
    check(open_images(tmp_path / "saved", NAMES))


def test_classes_as_words_and_as_numbers(tmp_path):
    datasets = pytest.importorskip("datasets")
    words = [NAMES[label] for label, _ in rows()]
    data_set(label_column="x", class_name=(words, datasets.Value("string"))).remove_columns("x").save_to_disk(
        str(tmp_path / "words")
    )
    check(open_images(tmp_path / "words", NAMES))
    numbers = [label for label, _ in rows()]
    found = data_set(label_column="x").remove_columns("x").add_column("label", numbers)
    found.save_to_disk(str(tmp_path / "numbers"))
    check(open_images(tmp_path / "numbers", NAMES))


def test_data_sets_that_are_wrong(tmp_path):
    datasets = pytest.importorskip("datasets")

    def refused(found, message: str) -> None:
        shutil.rmtree(tmp_path / "saved", ignore_errors=True)
        found.save_to_disk(str(tmp_path / "saved"), num_shards=1)
        with pytest.raises(FigmentError, match=message):
            open_images(tmp_path / "saved", NAMES)

    refused(data_set().remove_columns("image"), "no column of images; its columns are text, label")
    refused(data_set().remove_columns("label"), "no column of classes.*Its columns are text, image")
    two = data_set(image_column="a").add_column("b", [None] * len(rows()), feature=datasets.Image())
    refused(two, r"several columns of images \(a, b\) and none called image")
    refused(data_set().select([]), "the data set is empty")
    refused(data_set().cast_column("label", datasets.ClassLabel(names=["a", "b", "c"])), "Not in the task: 'a'")
    refused(data_set(label_column="x").remove_columns("x").add_column("label", [-1] * len(rows())), "label -1")
    shutil.rmtree(tmp_path / "saved" / "x", ignore_errors=True)
    next((tmp_path / "saved").glob("*.arrow")).write_bytes(b"cut off")
    with pytest.raises(FigmentError, match="datasets cannot open .*saved"):
        open_images(tmp_path / "saved", NAMES)


def test_without_the_package_the_extra_is_named(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(FigmentError, match=r"pip install 'figment-vision\[datasets\]'"):
        open_images("datasets:pets", NAMES)


# ---- in a recipe -----------------------------------------------------------------------------------------------------


def test_places_in_a_recipe_start_at_its_own_folder(tmp_path):
    (tmp_path / "pets").mkdir()
    recipe = tmp_path / "pets.yaml"
    places = {
        "photos.csv": str(tmp_path / "photos.csv"),
        "datasets:pets:test": f"datasets:{tmp_path / 'pets'}:test",  # there is such a folder
        "datasets:owner/pets:train[:10]": "datasets:owner/pets:train[:10]",
        "datasets:./gone": f"datasets:{tmp_path / 'gone'}",
        "s3://bucket/photos": "s3://bucket/photos",
        "starter/test": "starter/test",
    }
    for given, absolute in places.items():
        recipe.write_text(json.dumps({"task": {"class_names": NAMES, "real": {"test": given}}}))
        assert load_recipe(recipe).task.real.test == absolute
    assert real_folder("datasets:owner/pets:test") == "datasets:owner/pets:test"
    assert real_folder("photos") == Path("photos") and real_folder("starter/test") == "starter/test"


def test_an_object_store(s3, tmp_path):
    from figment.files import as_path

    write_tars(tmp_path / "tars", lambda label: {"cls": label})
    root = as_path(s3)
    for path in (tmp_path / "tars").iterdir():
        (root / "tars" / path.name).write_bytes(path.read_bytes())
    check(open_images(f"{s3}/tars", NAMES))
    named = write_files(tmp_path)
    for name, _ in named:
        (root / name).write_bytes((tmp_path / name).read_bytes())
    table = write_csv(tmp_path / "photos.csv", ["path", "label"], [*named, ("gone.png", 0)])
    (root / "photos.csv").write_bytes(table.read_bytes())
    images = open_images(f"{s3}/photos.csv", NAMES)
    check(images.take(range(len(named))))
    with pytest.raises(FigmentError, match=r"gone\.png"):
        images.load([len(named)])

"""Sets of images in other formats and sizes: made, grown, filtered, verified, mended, loaded and exported."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import damage
from damage import flip
from figment import layout
from figment.errors import FigmentError
from figment.exports.export import export
from figment.filters.blank import BlankFilter
from figment.filters.selection import select
from figment.forecast import forecast
from figment.generate.fill import generate_images
from figment.generate.procedural import ProceduralGenerator
from figment.images_in import open_images
from figment.images_in.shards import open_run_images
from figment.layout import Run
from figment.loading.loader import ImageDataset, Loader
from figment.loading.orders import Shuffled
from figment.recipe import validate
from figment.records import digest
from figment.repair import repair
from figment.run import make_images
from figment.saving import Saving, suffix
from figment.types import Prompt
from figment.verify import verify
from folders import rows

SAVED = [("jpeg", None), ("png", 12), ("webp", 12)]
NAMES = ["red thing", "green thing"]


def recipe(format: str, size: int | None, **changes):
    data = {
        "task": {"class_names": NAMES},
        "prompts": {"kind": "templates"},
        "generate": {
            "kind": "procedural", "images_per_class": 4, "shard_size": 6, "height": 24, "width": 20, "format": format, "save_size": size,
        },
        "filters": [{"kind": "blank"}],
    }  # fmt: skip
    return validate(data, "test").changed(changes)


@pytest.fixture(params=SAVED, ids=lambda p: f"{p[0]}-{p[1]}")
def made(request, tmp_path):
    own = recipe(*request.param)
    make_images(own, tmp_path / "run")
    return own, tmp_path / "run", Saving(*request.param)


def expected(row: dict, saving: Saving) -> bytes:
    """The file of one row, from the generator itself."""
    (image,) = ProceduralGenerator(height=24, width=20)([row["prompt"]], [row["seed"]])
    return saving.encode(image)


def test_a_set_holds_what_the_generator_made_as_it_was_to_be_written(made):
    _, run, saving = made
    found = rows(run / "images")
    assert len(found) == 8
    for row in found:
        data = row["image"]["bytes"]
        assert data == expected(row, saving) and row["digest"] == digest(data)
        assert row["image"]["path"] == f"{row['id']}{suffix(data)}"
    images = open_run_images(Run(run))
    sizes = {image.shape for image in images.load(range(8))}
    assert sizes == ({(24, 20, 3)} if saving.size is None else {(14, 12, 3)})
    assert len(select(images, [BlankFilter()]).kept) == 8
    batch, labels = next(iter(Loader(ImageDataset(images), Shuffled(8), 8)))
    assert batch.shape == (8, 3, *next(iter(sizes))[:2]) and sorted(labels.tolist()) == [0] * 4 + [1] * 4


def test_it_grows_is_verified_and_mended_byte_for_byte(made):
    own, run, _ = made
    more = own.changed({"generate.images_per_class": 6})
    before = {row["id"]: row["image"]["bytes"] for row in rows(run / "images")}
    make_images(more, run)
    grown = rows(run / "images")
    assert len(grown) == 12 and before.items() <= {row["id"]: row["image"]["bytes"] for row in grown}.items()
    assert verify(run).ok
    path = layout.shard_path(run / "images", 1)
    whole = path.read_bytes()
    flip(path, damage.image_at(path, 2) + 40)
    assert not verify(run).ok
    said = "\n".join(repair(run))
    assert "re-made 1 of 6 rows" in said and "byte for byte" in said
    assert path.read_bytes() == whole and verify(run).ok


def test_images_are_salvaged_by_their_paths_where_ids_are_lost(made):
    from figment.integrity import salvage

    _, run, _ = made
    path = layout.shard_path(run / "images", 0)
    assert sorted(salvage(path.read_bytes()).images) == sorted(row["id"] for row in rows(run / "images")[:6])


@pytest.mark.parametrize("to", ["imagefolder", "csv", "webdataset", "parquet"])
@pytest.mark.parametrize("format", ["jpeg", "webp"])
def test_exports_call_files_what_they_are(format, to, tmp_path):
    from figment.images_in.provenance import maker_of

    own = recipe(format, 12)
    make_images(own, tmp_path / "run")
    export(tmp_path / "run", to, tmp_path / "out", rejected=True)  # no filter has judged them
    end = {"jpeg": "jpg", "webp": "webp"}[format]
    files = {p.suffix for p in (tmp_path / "out").rglob("*") if p.is_file() and not p.name.startswith(".")}
    if to in ("imagefolder", "csv"):
        assert f".{end}" in files and ".png" not in files
        for path in (tmp_path / "out").rglob(f"*.{end}"):
            with Image.open(path) as image:
                assert image.size == (12, 14) and image.format == format.upper()
            assert maker_of(path.read_bytes()) == "figment"
    if to == "webdataset":
        with tarfile.open(next((tmp_path / "out").glob("*.tar"))) as tar:
            names = tar.getnames()
            told = json.loads(tar.extractfile(next(n for n in names if n.endswith(".json"))).read())
        assert {n.partition(".")[2] for n in names} == {end, "txt", "json", "cls"}
        assert (told["width"], told["height"]) == (12, 14)
    where = tmp_path / "out" / "labels.csv" if to == "csv" else tmp_path / "out"
    back, before = open_images(where, NAMES), open_run_images(Run(tmp_path / "run"))
    assert len(back) == 8
    assert sorted(i.tobytes() for i in back.load(range(8))) == sorted(i.tobytes() for i in before.load(range(8)))


def test_another_format_or_size_is_refused_and_named(tmp_path):
    make_images(recipe("png", None), tmp_path)
    for change, said in (
        ({"generate.format": "webp"}, "generate.format was 'png' and is now 'webp'"),
        ({"generate.save_size": 12}, "generate.save_size was None and is now 12"),
    ):
        with pytest.raises(FigmentError, match=said):
            make_images(recipe("png", None, **change), tmp_path)


def test_from_python(tmp_path):
    prompts = [Prompt(f"{c}/{i}", f"text {c} {i}", c, f"{c}/{i}") for c in range(2) for i in range(2)]

    def make(folder: Path, **options):
        return generate_images(
            prompts, ProceduralGenerator(height=24, width=24), folder, NAMES, images_per_class=3, **options
        )

    images = make(tmp_path / "a", save_size=8, format="webp")
    assert {image.shape for image in images.load(range(6))} == {(8, 8, 3)}
    with pytest.raises(FigmentError, match="save_size was 8 and is now None"):
        make(tmp_path / "a", format="webp")
    with pytest.raises(FigmentError, match="no image format 'tiff'"):
        make(tmp_path / "b", format="tiff")


def test_a_forecast_counts_the_bytes_of_the_format(tmp_path):
    sizes = [
        forecast(recipe(format, size), tmp_path).bytes for format, size in (("png", None), ("png", 8), ("jpeg", 8))
    ]
    assert sizes[0] > sizes[1] > 0 and sizes[2] > 0


def test_start_images_are_cut_to_the_generators_size_not_to_the_saved_one(tmp_path):
    """Real guidance starts from real images as large as what the generator makes."""
    from figment.images_in.memory import MemoryImages

    class Starting(ProceduralGenerator):
        def size(self):
            return 24, 24

        def __call__(self, prompts, seeds, init=None):
            assert init.shape[1:] == (24, 24, 3)
            return list(init)

    shots = MemoryImages([np.full((30, 30, 3), 100 + i, np.uint8) for i in range(2)], np.array([0, 1]))
    prompts = [Prompt(f"{c}/0", f"text {c}", c, f"{c}/0") for c in range(2)]
    images = generate_images(
        prompts, Starting(), tmp_path, NAMES, images_per_class=2, shots=shots, save_size=8, format="webp"
    )
    assert sorted(int(i[0, 0, 0]) for i in images.load(range(4))) == [100, 100, 101, 101]
    assert images.load([0])[0].shape == (8, 8, 3)

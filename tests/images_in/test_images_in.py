"""Real images as people have them: every format, wrong folders, broken files."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import folders
from figment import png, records, shards
from figment.errors import FigmentError
from figment.images_in import FileImages, decode, open_images, open_shards
from figment.types import Sample

NAMES = ["zebra", "t-shirt", "ankle boot"]  # not in the order of sorted folders


def solid(*colour: int, size: tuple[int, int] = (6, 4)) -> Image.Image:
    return Image.new("RGB", size, colour)


def folder_of(root: Path, names=NAMES) -> Path:
    for i, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for k in range(2):
            solid(50 * i, 10 * k, 0).save(root / name / f"{k}.png")
    return root


def data_of(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


# ---- decoding --------------------------------------------------------------------------------------------------------


def test_png_and_jpeg_and_others_are_rgb():
    for kind in ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM"):
        image = decode(data_of(solid(200, 100, 50), kind), kind)
        assert image.shape == (4, 6, 3) and image.dtype == np.uint8 and image.flags.writeable
        assert np.abs(image.astype(int) - (200, 100, 50)).max() <= 6, kind


def test_grey_becomes_three_equal_channels():
    image = decode(data_of(Image.new("L", (3, 3), 77)), "x")
    assert image.shape == (3, 3, 3) and (image == 77).all()
    assert (decode(data_of(Image.new("1", (3, 3), 1)), "x") == 255).all()


def test_16_bit_grey_keeps_its_tones():
    ramp = np.array([[0, 257 * 100, 65535]], np.uint16)
    assert decode(data_of(Image.fromarray(ramp)), "x")[0, :, 0].tolist() == [0, 100, 255]
    assert decode(data_of(Image.fromarray(ramp), "TIFF"), "x")[0, :, 0].tolist() == [0, 100, 255]


def test_transparency_is_laid_on_white():
    assert (decode(data_of(Image.new("RGBA", (2, 2), (255, 0, 0, 0))), "x") == 255).all()
    assert decode(data_of(Image.new("RGBA", (2, 2), (255, 0, 0, 255))), "x")[0, 0].tolist() == [255, 0, 0]
    assert (decode(data_of(Image.new("LA", (2, 2), (0, 0))), "x") == 255).all()
    half = decode(data_of(Image.new("RGBA", (2, 2), (0, 0, 0, 128))), "x")
    assert 120 < half[0, 0, 0] < 135


def test_palettes_with_and_without_transparency():
    palette = solid(10, 200, 30).quantize(4)
    assert np.abs(decode(data_of(palette), "x")[0, 0].astype(int) - (10, 200, 30)).max() <= 3
    assert (decode(data_of(palette, transparency=palette.getpixel((0, 0))), "x") == 255).all()


def test_cmyk_jpeg():
    image = decode(data_of(solid(220, 30, 30).convert("CMYK"), "JPEG"), "x")
    assert image[0, 0, 0] > 180 and image[0, 0, 1] < 80


def test_exif_turns_the_image_upright():
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:, :8] = 255  # white on the left
    exif = Image.Exif()
    exif[274] = 6  # turn by 90 degrees clockwise to see it upright: left goes to the top
    image = decode(data_of(Image.fromarray(pixels), "JPEG", exif=exif, quality=95), "x")
    assert image.shape == (16, 8, 3) and image[:6].mean() > 240 and image[-6:].mean() < 15


def test_the_first_frame_of_an_animation():
    frames = [solid(255, 0, 0), solid(0, 0, 255)]
    for kind in ("GIF", "WEBP"):
        data = data_of(frames[0], kind, save_all=True, append_images=frames[1:])
        assert decode(data, kind)[0, 0, 0] > 200


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not an image",
        b"<html>404</html>",
        data_of(Image.effect_noise((64, 64), 50).convert("RGB"), "JPEG")[:500],
        data_of(Image.effect_noise((64, 64), 50))[:700],
    ],
    ids=["empty", "text", "html", "truncated jpeg", "truncated png"],
)
def test_broken_files_are_named(tmp_path, data):
    root = folder_of(tmp_path / "real")
    bad = root / "zebra" / "0.png"
    bad.write_bytes(data)
    images = open_images(root, NAMES)
    with pytest.raises(FigmentError) as error:
        images.load(range(len(images)))
    assert str(bad) in str(error.value) and "not an image" in str(error.value)


def test_an_image_of_too_many_pixels_is_refused_before_it_fills_the_memory(monkeypatch):
    monkeypatch.setattr(sys.modules[decode.__module__], "MOST_PIXELS", 99)
    assert decode(data_of(Image.new("1", (9, 11))), "small.png").shape == (11, 9, 3)
    with pytest.raises(FigmentError, match="large.png is not an image that can be read: more than 99 pixels"):
        decode(data_of(Image.new("1", (10, 10))), "large.png")


# ---- class folders ---------------------------------------------------------------------------------------------------


def test_labels_follow_the_class_names_not_the_folders(tmp_path):
    images = open_images(folder_of(tmp_path / "real"), NAMES)
    assert isinstance(images, FileImages) and len(images) == 6
    for image, label, id in zip(images.load(range(6)), images.labels, images.ids, strict=True):
        assert image[0, 0, 0] == 50 * label and id.startswith(NAMES[label])
    assert sorted(images.labels.tolist()) == [0, 0, 1, 1, 2, 2] and images.labels.dtype == np.int64
    assert len(set(images.ids)) == 6 and len(set(images.digests)) == 6


def test_case_hyphens_and_underscores_of_folders_do_not_matter(tmp_path):
    images = open_images(folder_of(tmp_path / "real", ["Zebra", "T_Shirt", "ankle-boot"]), NAMES)
    assert [int(images.load([i])[0][0, 0, 0]) for i in range(6)] == [50 * x for x in images.labels]


def test_names_that_differ_by_a_hyphen_alone_keep_their_own_images(tmp_path):
    names = ["re-creation", "re creation"]
    images = open_images(folder_of(tmp_path / "real", names), names)
    assert [int(i[0, 0, 0]) for i in images.load(range(4))] == [50 * x for x in images.labels]
    assert sorted(images.labels.tolist()) == [0, 0, 1, 1]


def test_take_keeps_order_and_everything_else(tmp_path):
    images = open_images(folder_of(tmp_path / "real"), NAMES)
    for warm in (False, True):  # with and without digests that are known already
        if warm:
            assert images.digests
        some = images.take([4, 0])
        assert some.ids == [images.ids[4], images.ids[0]] and some.digests == [
            records.digest(images.paths[i].read_bytes()) for i in (4, 0)
        ]
        assert some.labels.tolist() == images.labels[[4, 0]].tolist()
        assert (some.load([0])[0] == images.load([4])[0]).all()
        assert len(images.take([])) == 0 and len(images.take(np.array([], np.int64))) == 0


def test_a_missing_class_is_named(tmp_path):
    with pytest.raises(FigmentError, match=r"Missing there: 'ankle boot'\. Rename"):
        open_images(folder_of(tmp_path / "real", ["zebra", "t-shirt"]), NAMES)


def test_a_strange_class_is_named_with_the_nearest(tmp_path):
    with pytest.raises(
        FigmentError, match=r"Missing there: 'zebra'\. Not in the task: 'zebbra'\. Did you mean 'zebra'\?"
    ):
        open_images(folder_of(tmp_path / "real", ["zebbra", "t-shirt", "ankle boot"]), NAMES)
    with pytest.raises(FigmentError, match=r"Not in the task: 'cat'\."):
        open_images(folder_of(tmp_path / "more", ["cat", *NAMES]), NAMES)


def test_a_message_about_a_thousand_classes_stays_short(tmp_path):
    (tmp_path / "real").mkdir()
    with pytest.raises(FigmentError, match="and 992 more") as error:
        open_images(tmp_path / "real", [f"class {i}" for i in range(1000)])
    assert len(str(error.value)) < 800


def test_folders_that_are_not_there_or_hold_nothing(tmp_path):
    with pytest.raises(FigmentError, match="does not exist"):
        open_images(tmp_path / "none", NAMES)
    root = folder_of(tmp_path / "real")
    (root / "t-shirt" / "0.png").unlink()
    (root / "t-shirt" / "1.png").rename(root / "t-shirt" / "1.txt")
    with pytest.raises(FigmentError, match="t-shirt holds no images"):
        open_images(root, NAMES)


def test_what_is_no_image_is_passed_over(tmp_path):
    root = folder_of(tmp_path / "real")
    (root / ".cache").mkdir()
    (root / "labels.csv").write_text("")
    (root / "zebra" / "Thumbs.db").write_bytes(b"")
    (root / "zebra" / "._0.png").write_bytes(b"what a Mac leaves in an archive")
    (root / "zebra" / "more.png").mkdir()
    solid(0, 5, 5).save(root / "zebra" / "more.png" / "SHOUTED.JPG")
    images = open_images(root, NAMES)
    assert len(images.load(range(len(images)))) == 7


# ---- shards ----------------------------------------------------------------------------------------------------------


def samples(n: int, failed: set[int] = frozenset()) -> list[Sample]:
    rng = np.random.default_rng(3)
    return [
        Sample(
            f"p/{i}",
            "p",
            f"text {i}",
            i % 3,
            i,
            "g",
            None if i in failed else rng.integers(0, 256, (5, 4, 3), np.uint8),
            "NaN" if i in failed else None,
        )
        for i in range(n)
    ]


def written(folder: Path, parts: list[list[Sample]], names=NAMES) -> Path:
    folders.write_images(folder, parts, names)
    return folder


def test_shards_give_back_what_was_made_without_the_failed(tmp_path):
    made = samples(10, failed={0, 5, 9})
    images, names = open_shards(written(tmp_path, [made[:4], made[4:8], made[8:]]))
    good = [s for s in made if s.image is not None]
    assert names == NAMES and len(images) == 7
    assert images.ids == [s.id for s in good] and images.prompts == [s.prompt for s in good]
    assert images.labels.tolist() == [s.label for s in good]
    for image, sample in zip(images.load(range(7)), good, strict=True):
        assert (image == sample.image).all()
    assert images.digests == [records.digest(png.encode(s.image)) for s in good]
    some = images.take(np.array([6, 1, 1]))
    assert some.ids == [good[6].id, good[1].id, good[1].id] and (some.load([0])[0] == good[6].image).all()
    assert some.prompts == [good[i].prompt for i in (6, 1, 1)]
    assert len(images.take([])) == 0


def test_a_rewritten_shard_is_read_anew(tmp_path):
    made = samples(3)
    before, _ = open_shards(written(tmp_path, [made]))
    first = before.load([0])[0]
    after, _ = open_shards(written(tmp_path, [[Sample("p/0", "p", "t", 0, 0, "g", 255 - first), *made[1:]]]))
    assert (after.load([0])[0] == 255 - first).all()
    assert (before.load([0])[0] == first).all()  # who opened the old file goes on with the old file


def test_real_shards_in_another_label_order(tmp_path):
    """Somebody's Parquet data set, with class names in another order and another spelling, and nothing but two columns."""
    rows = [{"image": {"bytes": data_of(solid(50 * i, 0, 0)), "path": None}, "label": i} for i in (0, 1, 2, 0)]
    schema = shards.with_features(shards.IMAGE_COLUMNS, ["Ankle_Boot", "zebra", "T-Shirt"])
    schema = pa.schema([schema.field("image"), schema.field("label")], schema.metadata)
    pq.write_table(pa.Table.from_pylist(rows, schema), tmp_path / "part.parquet")
    images = open_images(tmp_path, NAMES)
    assert images.labels.tolist() == [2, 0, 1, 2] and len(set(images.ids)) == 4
    with pytest.raises(FigmentError, match="Missing there: 'cat'"):
        open_images(tmp_path, [*NAMES, "cat"])


def parquet(folder: Path, **columns) -> Path:
    pq.write_table(pa.table(columns), folder / "data.parquet")
    return folder


def image_column(n: int) -> list[dict]:
    return [{"bytes": data_of(solid(i, 0, 0)), "path": f"{i}.png"} for i in range(n)]


def test_parquet_that_is_no_data_set_of_images_is_explained(tmp_path):
    with pytest.raises(FigmentError, match="lacks a column.*this has text"):
        open_images(parquet(tmp_path, text=["a"]), NAMES)
    with pytest.raises(FigmentError, match=r"data\.parquet does not hold images: 'image' must be .*list"):
        open_images(parquet(tmp_path, image=[[1], [2]], label=[0, 1]), NAMES)
    with pytest.raises(
        FigmentError, match=r"data\.parquet does not hold classes: 'label' must be names or whole .*double"
    ):
        open_images(parquet(tmp_path, image=image_column(2), label=[0.0, 1.0]), NAMES)
    (tmp_path / "data.parquet").write_bytes(b"PAR1 cut off")
    with pytest.raises(FigmentError, match=r"data\.parquet"):
        open_images(tmp_path, NAMES)
    with pytest.raises(FigmentError, match="holds no Parquet shards"):
        open_shards(tmp_path / "none")


@pytest.mark.parametrize("labels", [[0, 3], [-1, 0], [None, 0]])
def test_labels_outside_the_class_names_are_refused(tmp_path, labels):
    """-1 is how unlabelled rows are written: they must not become images of the last class."""
    with pytest.raises(FigmentError, match="label"):
        open_images(parquet(tmp_path, image=image_column(2), label=pa.array(labels, pa.int64())), NAMES)


def test_a_data_set_of_no_images_is_refused(tmp_path):
    empty = pa.table(
        {"image": pa.array([], shards.IMAGE_COLUMNS.field("image").type), "label": pa.array([], pa.int64())}
    )
    pq.write_table(empty, tmp_path / "data.parquet")
    with pytest.raises(FigmentError, match="no images"):
        open_images(tmp_path, NAMES)

"""What the numbers in a file stand for: bits, bands, and every tag that changes their meaning."""

from __future__ import annotations

import io
import logging
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from figment.errors import FigmentError
from figment.images_in import decode, open_images
from figment.images_in.black import warn_of_black
from figment.images_in.memory import MemoryImages
from figment.images_in.tones import warn_of_other_whites
from rasters import png16, tiff, with_chunk

NAMES = ["cat", "dog"]
RAMP = np.linspace(0, 4095, 48).astype(np.uint16).reshape(6, 8)  # 12 bits


def saved(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def folder_of(root: Path, *files: bytes, suffix: str = "png") -> Path:
    for i, data in enumerate(files):
        for name in NAMES:
            (root / name).mkdir(parents=True, exist_ok=True)
            (root / name / f"{i}.{suffix}").write_bytes(data + name.encode() * (suffix == "tif"))
    return root


# ---- more than 8 bits ------------------------------------------------------------------------------------------------

OF_12_BITS = {
    "PNG": png16(RAMP),
    "PNG with sBIT": with_chunk(png16(RAMP), b"sBIT", bytes([12])),
    "TIFF": tiff(RAMP, {262: 1}),
    "TIFF of int16": tiff(RAMP.astype(np.int16), {262: 1, 339: 2}),
    "TIFF of int32": tiff(RAMP.astype(np.int32), {262: 1, 339: 2}),
    "TIFF of uint32": tiff(RAMP.astype(np.uint32), {262: 1}),
    "JPEG 2000": saved(Image.fromarray(RAMP), "JPEG2000"),
}


@pytest.mark.parametrize("kind", OF_12_BITS)
def test_12_bits_in_a_container_of_16_or_32_are_read_as_12(tmp_path, capsys, kind):
    images = open_images(folder_of(tmp_path / "real", OF_12_BITS[kind]), NAMES)
    image = images.load([0])[0]
    assert np.abs(image[..., 0].astype(float) - RAMP / 4095 * 255).max() <= 1 and image.max() == 255
    assert (
        "no pixel of the 2 images with more than 8 bits is above 4,095: they are read as images of 12 bits"
        in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    "most, white", [(200, 255), (255, 255), (256, 1023), (5000, 16383), (16384, 65535), (65535, 65535)]
)
def test_white_is_the_next_number_of_bits_that_cameras_have(tmp_path, most, white):
    pixels = np.linspace(0, most, 48).astype(np.int32).reshape(6, 8)
    image = open_images(folder_of(tmp_path / "real", tiff(pixels, {262: 1, 339: 2}), suffix="tif"), NAMES).load([0])[0]
    assert image.max() == int(most / white * 255)


def test_white_is_of_the_whole_split_however_little_of_it_is_looked_at(tmp_path):
    bright, dark = png16(np.full((4, 4), 60000, np.uint16)), png16(np.full((4, 4), 2570, np.uint16))
    root = folder_of(tmp_path / "real", dark, dark, bright)
    images = open_images(root, NAMES)
    assert images.take([0]).load([0])[0].max() == 10  # not 160, as by itself
    assert pickle.loads(pickle.dumps(images.take([1]))).load([0])[0].max() == 10
    before = images.digests[0]
    for name in NAMES:
        (root / name / "2.png").unlink()
    alone = open_images(root, NAMES)
    assert (
        alone.load([0])[0].max() == 160 and alone.digests[0] != before
    )  # features of the other reading are not taken for its own


def test_splits_whose_white_differs_are_warned_of(tmp_path, caplog):
    levels = {"train": 60000, "test": 3000, "val": 3500}
    grey = {split: png16(np.full((4, 4), level, np.uint16)) for split, level in levels.items()}
    splits = {split: open_images(folder_of(tmp_path / split, data, data, data), NAMES) for split, data in grey.items()}
    warn_of_other_whites({split: images.white for split, images in splits.items()})
    assert not caplog.text  # nothing was looked through yet
    assert all(images.digests for images in splits.values())
    warn_of_other_whites({split: splits[split].white for split in ("test", "val")})
    assert "brighter" not in caplog.text
    warn_of_other_whites({split: images.white for split, images in splits.items()})
    assert "is 65,535 in train, 4,095 in test, 4,095 in val: the same photograph would be brighter" in caplog.text


def test_packed_12_bits_are_sure_to_be_12(tmp_path):
    packed = np.array([0x80, 0x08, 0x00] * 4, np.uint8).reshape(1, 12)  # 2048 each
    data = tiff(packed, {262: 1}, bits=12)
    data = data.replace(struct.pack("<HHIHH", 256, 3, 1, 12, 0), struct.pack("<HHIHH", 256, 3, 1, 8, 0))
    assert decode(data, "x")[0, 0, 0] == 127


@pytest.mark.parametrize("more", [[], [np.full_like(RAMP, 65535)]], ids=["colour", "with transparency"])
def test_16_bit_colour_that_uses_the_lower_bits_alone_is_refused_by_name(tmp_path, more):
    data = png16(np.stack([RAMP] * 3 + more, -1))
    with pytest.raises(FigmentError, match="16-bit colour of which only the lower 12 bits are used"):
        open_images(folder_of(tmp_path / "real", data), NAMES).load([0])
    assert decode(png16(np.full((2, 2, 3), 51400, np.uint16)), "x").max() == 200


# ---- bands -----------------------------------------------------------------------------------------------------------

COLOUR = np.full((6, 8, 3), (200, 100, 50), np.uint8)
INFRARED = np.linspace(10, 240, 48).astype(np.uint8).reshape(6, 8, 1)
MASK = np.where(INFRARED > 120, 255, 0).astype(np.uint8)
GEO = {34735: (1, 1, 0, 0)}


@pytest.mark.parametrize(
    "band, tags, transparent",
    [
        (INFRARED, {}, False),
        (INFRARED, {338: (0,)}, False),
        (INFRARED, {338: (2,)}, False),
        (INFRARED, {338: (2,), **GEO}, False),
        (np.where(INFRARED > 230, 128, 255).astype(np.uint8), {338: (2,), **GEO}, False),
        (MASK, {}, False),
        (MASK, {338: (2,)}, True),
        (MASK, {338: (2,), **GEO}, True),
        (MASK, {338: (1,)}, True),
    ],
)
def test_a_fourth_band_of_a_tiff_is_transparency_only_where_it_is_said_and_looks_so(band, tags, transparent):
    image = decode(tiff(np.concatenate([COLOUR, band], -1), {262: 2, **tags}), "x")
    clear = MASK[..., 0] == 0
    assert (image[~clear] == (200, 100, 50)).all()
    assert (image[clear] == (255 if transparent else (200, 100, 50))).all()


@pytest.mark.parametrize("bands, photometric", [(5, 2), (13, 1), (4, 1), (3, 1), (6, 5)])
def test_more_bands_are_refused_by_their_number(bands, photometric):
    with pytest.raises(FigmentError, match=f"a TIFF of {bands} bands"):
        decode(tiff(np.zeros((4, 4, bands), np.uint8), {262: photometric}), "x")


# ---- tags ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data, said",
    [
        (tiff(np.zeros((4, 4), np.int8), {262: 1, 339: 2}), "8-bit pixels with a sign"),
        (tiff(np.full((4, 4), -5, np.int16), {262: 1, 339: 2}), "pixels below zero"),
        (tiff(np.full((4, 4), 10**6, np.int32), {262: 1, 339: 2}), "32-bit pixels"),
        (tiff(np.zeros((4, 4), np.float32), {262: 1, 339: 3}), "floating-point"),
        (tiff(np.zeros((4, 4), np.complex64), {262: 1, 339: 6}), "complex numbers"),
        (tiff(np.zeros((4, 4), np.uint16), {262: 32803}), "PhotometricInterpretation 32803, raw of a sensor"),
        (tiff(np.zeros((4, 4), np.uint8), {262: 4}), "PhotometricInterpretation 4, a mask"),
        (tiff(np.zeros((4, 4, 4), np.uint8), {262: 5, 332: 2}), "inks other than cyan"),
        (tiff(np.zeros((4, 4, 3), np.uint32), {262: 2}), "of a kind that is not known here: 32/32/32 bits"),
    ],
)  # fmt: skip
def test_what_would_be_read_wrongly_is_refused_by_name(data, said):
    with pytest.raises(FigmentError, match=said):
        decode(data, "x")


@pytest.mark.parametrize("pixels", [np.array([[0, 100, 255]], np.uint8), np.array([[0, 25700, 65535]], np.uint16)])
def test_white_is_zero(pixels):
    assert decode(tiff(pixels, {262: 0}), "x")[0, :, 0].tolist() == [255, 155, 0]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_every_format_is_turned_upright_by_its_exif(kind):
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:, :8] = 255  # white on the left: turned by 90 degrees clockwise it is at the top
    exif = Image.Exif()
    exif[274] = 6
    image = decode(saved(Image.fromarray(pixels), kind, exif=exif), kind)
    assert image.shape == (16, 8, 3) and image[:6].mean() > 240 and image[-6:].mean() < 15


@pytest.mark.parametrize(
    "gamma, chunk, expected",
    [(1.0, None, 186), (0.45455, None, 128), (0.4545, None, 128), (1.0, (b"sRGB", b"\0"), 128), (1 / 1.8, None, 145)],
)
def test_the_gamma_of_a_png_unless_srgb_stands_above_it(gamma, chunk, expected):
    for data in (saved(Image.new("RGB", (2, 2), (128, 128, 128)), "PNG"), png16(np.full((2, 2), 128 * 257, np.uint16))):
        data = with_chunk(data, b"gAMA", struct.pack(">I", round(gamma * 1e5)))
        assert abs(int(decode(with_chunk(data, *chunk) if chunk else data, "x")[0, 0, 0]) - expected) <= 1


def profile_that_exchanges_red_and_blue() -> bytes:
    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    own = own.replace("sRGB".encode("utf-16-be"), "mine".encode("utf-16-be"))
    return own.replace(b"rXYZ", b"????", 1).replace(b"bXYZ", b"rXYZ", 1).replace(b"????", b"bXYZ", 1)


@pytest.mark.parametrize(
    "kind, mode", [("JPEG", "RGB"), *((kind, mode) for kind in ("PNG", "TIFF", "WEBP") for mode in ("RGB", "RGBA"))]
)
def test_an_icc_profile_says_what_the_colours_are(kind, mode):
    image = Image.new("RGB", (8, 8), (220, 30, 90)).convert(mode)
    read = decode(saved(image, kind, icc_profile=profile_that_exchanges_red_and_blue()), "x")[4, 4].astype(int)
    assert np.abs(read - (90, 30, 220)).max() <= 12
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for harmless in (srgb, b"no profile at all"):
        assert (
            np.abs(decode(saved(image, kind, icc_profile=harmless), "x")[4, 4].astype(int) - (220, 30, 90)).max() <= 12
        )


# ---- black, for whatever reason --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "levels, warned",
    [([5] * 40, True), ([5] * 37 + [200] * 3, True), ([5] * 30 + [200] * 10, False), ([200] * 40, False)],
)
def test_images_that_are_nearly_all_black_are_said(caplog, levels, warned):
    images = MemoryImages([np.full((4, 4, 3), level, np.uint8) for level in levels], np.zeros(len(levels), np.int64))
    with caplog.at_level(logging.WARNING, "figment"):
        warn_of_black(images, "task.real.test")
    assert ("nearly every image in task.real.test is black" in caplog.text) == warned

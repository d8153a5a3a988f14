"""How images become files: formats, sizes, and what says in them that they were generated."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from figment import png
from figment.errors import FigmentError
from figment.images_in.decode import decode
from figment.images_in.provenance import maker_of, xmp
from figment.saving import Saving, suffix, with_xmp

FORMATS = ["png", "jpeg", "webp"]
SHAPES = [(32, 32), (31, 57), (1, 9), (64, 40)]


def smooth(height: int, width: int) -> np.ndarray:
    """Colours that change slowly, as in photographs: JPEG loses little of them."""
    y, x = np.mgrid[:height, :width]
    return np.stack([3 * x % 256, 2 * y + 20, 200 - x - y], -1).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("format", FORMATS)
def test_what_is_written_is_read(format, shape):
    image, saving = smooth(*shape), Saving(format)
    data = saving.encode(image)
    assert data == saving.encode(image)
    assert suffix(data) == {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}[format]
    found = decode(data, "it")
    assert found.shape == image.shape
    lost = np.abs(found.astype(int) - image)
    assert lost.max() == 0 if format != "jpeg" else lost.mean() < 3


def test_jpeg_keeps_the_colours_of_single_pixels():
    """At half the resolution, as libraries' default has it, red and blue pixels beside one another would both turn purple."""
    image = np.zeros((16, 16, 3), np.uint8)
    image[:, ::2, 0], image[:, 1::2, 2] = 250, 250
    found = decode(Saving("jpeg").encode(image), "it").astype(int)
    assert np.abs(found - image).mean() < 12


@pytest.mark.parametrize(
    ("shape", "size", "then"),
    [
        ((64, 64), 16, (16, 16)),
        ((64, 96), 16, (16, 24)),
        ((50, 33), 16, (24, 16)),
        ((16, 90), 16, (16, 90)),  # as small as it is to be
        ((9, 12), 16, (9, 12)),  # smaller
        ((17, 17), 16, (16, 16)),
    ],
)
@pytest.mark.parametrize("format", ["png", "webp"])
def test_the_shorter_side_is_reduced_by_lanczos(format, shape, size, then):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    found = decode(Saving(format, size).encode(image), "it")
    assert found.shape[:2] == then
    same = Image.fromarray(image).resize(then[::-1], Image.Resampling.LANCZOS) if then != shape else image
    assert (found == np.asarray(same)).all()


def test_reducing_does_not_alias():
    """Stripes finer than the smaller image can show become grey, not other stripes."""
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, ::2] = 255
    found = decode(Saving(size=16).encode(image), "it")[:, 2:-2].astype(int)
    assert np.abs(found - 127).max() <= 3


@pytest.mark.parametrize("shape", [(32, 32), (31, 57)])
@pytest.mark.parametrize("format", FORMATS)
def test_a_file_says_that_it_was_generated_and_shows_the_same(format, shape):
    data = Saving(format).encode(smooth(*shape))
    packet = xmp(trained=True)
    for text in (packet, packet + " "):  # of an even and an odd number of bytes
        marked = with_xmp(data, text)
        with Image.open(io.BytesIO(marked)) as opened:
            opened.load()
            assert opened.size == shape[::-1]
            held = opened.info.get("xmp") or opened.info["XML:com.adobe.xmp"].encode()
            assert held == text.encode()
        assert (decode(marked, "it") == decode(data, "it")).all()
        assert maker_of(marked) == "figment" and not maker_of(data) and suffix(marked) == suffix(data)
    if format == "jpeg":
        assert marked[:12] == data[:12] and data[6:10] == b"JFIF"  # has to be the first segment
    if format == "png":
        assert png.decode(marked) is not None  # read as fast as before


def test_an_unknown_format_is_refused():
    with pytest.raises(FigmentError, match="no image format 'gif'. Formats: png, jpeg, webp"):
        Saving("gif")

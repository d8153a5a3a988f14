"""Our PNG: lossless, read by others, and never mistaken for what it is not."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from figment import png

PICTURES = arrays.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3)))


@given(PICTURES)
def test_any_image_comes_back_and_others_read_the_same(image):
    data = png.encode(image)
    own = png.decode(data)
    assert own is not None and own.dtype == np.uint8 and (own == image).all()
    assert (np.array(Image.open(io.BytesIO(data))) == image).all()
    assert Image.open(io.BytesIO(data)).mode == "RGB"


def test_views_and_strides_are_no_matter():
    image = np.random.default_rng(0).integers(0, 256, (8, 6, 6), np.uint8)[::-1, :, ::2]
    assert (png.decode(png.encode(image)) == image).all()


def of_pil(mode: str, **options) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, "PNG", **options)
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "1"])
def test_files_of_others_are_left_to_others(mode):
    assert png.decode(of_pil(mode)) is None


def test_a_file_of_the_same_chunks_with_another_filter_is_left_to_others():
    """Filter "sub" instead of "up": the layout is ours, the rows are not."""
    rows = np.ones((4, 1 + 12), np.uint8)
    header = struct.pack(">II", 4, 4) + png.RGB8
    body = zlib.compress(rows.tobytes())
    data = png.SIGNATURE + png._chunk(b"IHDR", header) + png._chunk(b"IDAT", body) + png._chunk(b"IEND", b"")
    assert png.decode(data) is None
    assert Image.open(io.BytesIO(data)).convert("RGB").size == (4, 4)


@given(PICTURES, st.data())
def test_a_damaged_file_is_none_or_the_image_it_says_but_never_an_error(image, data):
    good = bytearray(png.encode(image))
    place = data.draw(st.integers(0, len(good) - 1))
    good[place] ^= 1 << data.draw(st.integers(0, 7))
    png.decode(bytes(good))  # must not raise
    assert png.decode(bytes(good[: data.draw(st.integers(0, len(good) - 1))])) is None


def test_a_header_that_lies_about_the_size_does_not_eat_the_memory():
    data = bytearray(png.encode(np.zeros((4, 4, 3), np.uint8)))
    data[16:24] = struct.pack(">II", 2**31 - 1, 2**31 - 1)
    assert png.decode(bytes(data)) is None

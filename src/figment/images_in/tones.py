"""Images of more than 8 bits: which of their levels is white. The file does not say; the whole split does."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from threading import RLock
from typing import Any

import numpy as np
from PIL import Image

from figment.images_in import tiff

log = logging.getLogger(__name__)

FULL = 65535
WHITES = {
    255: 8,
    1023: 10,
    4095: 12,
    16383: 14,
    FULL: 16,
}  # level -> the bits that cameras, scanners and converters have
LOOKING = RLock()  # of threads that decode, one looks through the files and the others wait for what it finds
GREY_ABOVE_8 = ("I", "I;16", "I;16B", "I;16L", "I;16N")  # Pillow's modes


@dataclass
class White:
    """The level that is white in the images of one split that have more than 8 bits a sample.

    A camera of 12 bits often leaves its 0 to 4095 in a container of 16, which read as 0 to 65535 is black. So white is the
    lowest of 255, 1023, 4095, 16383 and 65535 that no pixel of the whole split exceeds: one image alone may just be dark.
    ``data`` gives the files of the split's ``n`` images; they are looked through once, when the first such image is met.
    """

    data: Callable[[int], bytes]
    n: int

    @cached_property
    def level(self) -> int:
        with LOOKING:
            return self._lowest

    @cached_property
    def _lowest(self) -> int:
        levels = [level for i in range(self.n) if (level := self._highest(i)) is not None]
        most = max(levels, default=FULL)
        white = next(white for white in WHITES if most <= white)
        if white != FULL:
            log.info(
                f"no pixel of the {len(levels):,} images with more than 8 bits is above {most:,}: they are read as images of"
                f" {WHITES[white]} bits, {white:,} as white"
            )
        return white

    def _highest(self, index: int) -> int | None:
        """The highest level of one image; None where it has 8 bits or cannot be read, which is said when it is loaded."""
        try:
            data = self.data(index)
            return highest(data) if bits_of(data) > 8 else None
        except Exception:  # PIL raises a different type for every way a file can be broken
            return None

    def key(self, data: bytes) -> bytes:
        """What decides how a file is read, beside the file: nothing for 8 bits, and where white is where it should be."""
        return b"" if bits_of(data) <= 8 or self.level == FULL else b"\0white=%d" % self.level


def warn_of_other_whites(whites: Mapping[str, White]) -> None:
    """Of splits whose images of more than 8 bits were looked through: the same level ought to be white in all of them."""
    levels = {
        split: white.level for split, white in whites.items() if "level" in vars(white)
    }  # cached: none is read for this
    if len(set(levels.values())) > 1:
        told = ", ".join(f"{level:,} in {split}" for split, level in levels.items())
        log.warning(
            f"The level that is taken for white in images with more than 8 bits is {told}: the same photograph would be brighter in one"
            " split than in another, which costs accuracy. Save all of them with 8 bits, or with white at 65,535."
        )


def bits_of(data: bytes) -> int:
    """Bits a sample, by the header: of PNG, TIFF, JPEG 2000 and PGM. Others have 8, or are read as if."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return data[24] if len(data) > 24 else 8
    if tiff.is_tiff(data):
        return max(tiff.bits(tiff.tags_of(data)), default=8)
    if (
        size := data.find(b"\xff\x4f\xff\x51", 0, 4096)
    ) >= 0:  # JPEG 2000: start and SIZ, which has the depth of the first component
        return (data[size + 42] & 0x7F) + 1 if len(data) > size + 42 else 8
    if data[:2] in (b"P2", b"P5"):
        return 16 if Image.open(io.BytesIO(data), formats=["PPM"]).mode == "I" else 8
    return 8


def highest(data: bytes) -> int:
    """The highest level of an image of more than 8 bits, of 65535. Of colour Pillow gives the upper 8 bits alone."""
    image = Image.open(io.BytesIO(data))
    if image.mode in GREY_ABOVE_8:
        return int(levels(image, tiff.tags_of(data)).max())
    return int(np.asarray(image.convert("RGB")).max()) * 256 + 255  # without transparency, which may be full


def levels(image: Image.Image, tags: Mapping[int, Any]) -> np.ndarray:
    """``float64 (H, W)`` grey levels, 0 to 65535 or what was made of that. Raises ValueError where they cannot be such."""
    found = np.asarray(image, np.float64)
    if tiff.bits(tags) == (12,):  # packed, so these are sure to be 12
        found = found * (FULL / 4095)
    if found.min() < 0:
        raise ValueError("pixels below zero, whose black is not known (save it with 8 or 16 bits, from 0)")
    if found.max() > FULL:
        raise ValueError("32-bit pixels, whose white is not known (save it with 8 or 16 bits)")
    return found


def grey(image: Image.Image, tags: Mapping[int, Any], white: int, exponent: float) -> np.ndarray:
    """Grey of more than 8 bits to ``uint8 (H, W)``; the level that stands for transparency becomes white."""
    found = levels(image, tags)
    share = np.minimum(found / white, 1)
    if tags.get(tiff.PHOTOMETRIC) == tiff.WHITE_IS_ZERO:  # which Pillow passes over
        share = 1 - share
    if exponent != 1:
        share = share**exponent
    tones = (share * 255 + 1e-9).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        tones[found == transparent] = 255
    return tones


def check_colour(white: int) -> None:
    """Raise ValueError for colour of more than 8 bits that uses the lower ones alone: Pillow gives the upper 8."""
    if white != FULL:
        raise ValueError(
            f"16-bit colour of which only the lower {WHITES[white]} bits are used in this whole split, and only the upper 8 can be"
            " read here (save it with 8 bits)"
        )

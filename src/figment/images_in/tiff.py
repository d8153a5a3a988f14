"""What the tags of a TIFF say about its pixels: what Pillow passes over, or cannot know."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import TiffImagePlugin

BITS, PHOTOMETRIC, SAMPLES, INKS, EXTRA, FORMAT = 258, 262, 277, 332, 338, 339
WHITE_IS_ZERO, BLACK_IS_ZERO, CMYK = 0, 1, 5
#: PhotometricInterpretation -> bands of colour, of those that can be read.
COLOUR_BANDS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, 2: 3, 3: 1, CMYK: 4, 6: 3, 8: 3}
OTHERS = {
    4: "a mask",
    9: "ICC Lab",
    10: "ITU Lab",
    32803: "raw of a sensor",
    32844: "LogL",
    32845: "LogLuv",
    34892: "linear raw",
}
TRANSPARENCY = (1, 2, 999)  # ExtraSamples; 999 is CorelDRAW's
GEOTIFF = (33550, 33922, 34264, 34735)  # pixel scale, tie points, transformation, keys


def is_tiff(data: bytes) -> bool:
    return data.startswith(tuple(TiffImagePlugin.PREFIXES))


def tags_of(data: bytes) -> Mapping[int, Any]:
    """The tags of the first image of a file, also of one that Pillow cannot open; empty for other files and damaged ones."""
    if not is_tiff(data):
        return {}
    file = io.BytesIO(data)
    try:
        head = file.read(16 if 43 in data[2:4] else 8)
        tags = TiffImagePlugin.ImageFileDirectory_v2(head)
        file.seek(tags.next)
        tags.load(file)
        return dict(tags)
    except Exception:  # Pillow raises a different type for every way a file can be broken
        return {}


def bits(tags: Mapping[int, Any]) -> tuple[int, ...]:
    """Bits of each band."""
    return _tuple(tags.get(BITS, (1,)))


def check(tags: Mapping[int, Any]) -> None:
    """Raise ValueError, by name, for what would be read wrongly or not at all."""
    kind = tags.get(PHOTOMETRIC, BLACK_IS_ZERO)
    if kind not in COLOUR_BANDS:
        name = f", {OTHERS[kind]}" if kind in OTHERS else ""
        raise ValueError(f"a TIFF of PhotometricInterpretation {kind}{name} (save it as RGB or grey)")
    bands = tags.get(SAMPLES, 1)
    if bands > COLOUR_BANDS[kind] + 1:
        raise ValueError(
            f"a TIFF of {bands} bands, and which to look at is not known (save three of them as RGB, or one as grey)"
        )
    if kind == CMYK and tags.get(INKS, 1) != 1:
        raise ValueError("a TIFF of inks other than cyan, magenta, yellow and black (InkSet; save it as RGB)")
    formats = set(_tuple(tags.get(FORMAT, (1,)))) - {1, 4}  # whole numbers from 0, and "undefined"
    if formats & {5, 6}:
        raise ValueError("complex numbers for pixels (SampleFormat)")
    if 2 in formats and max(bits(tags)) <= 8:
        raise ValueError(
            "8-bit pixels with a sign (SampleFormat 2), whose black is not known (save it with 8 bits, from 0)"
        )


def is_transparency(tags: Mapping[int, Any], alpha: np.ndarray) -> bool:
    """Whether the band after the colours says how transparent a pixel is, rather than infrared and the like.

    It has to be declared (ExtraSamples). Yet GDAL declares any fourth band of bytes so, and others do too: in a GeoTIFF it is
    transparency where it is 0 and 255 alone, a mask; elsewhere where at least half of it is. ``alpha`` is ``uint8 (H, W)``.
    """
    extra = _tuple(tags.get(EXTRA, ()))
    if not extra or extra[0] not in TRANSPARENCY:
        return False
    return bool(((alpha == 0) | (alpha == 255)).mean() >= (1 if any(tag in tags for tag in GEOTIFF) else 0.5))


def described(tags: Mapping[int, Any]) -> str:
    """In words, a kind that Pillow does not know."""
    each = "/".join(map(str, bits(tags)))
    return (
        f"a TIFF of a kind that is not known here: {each} bits, PhotometricInterpretation {tags.get(PHOTOMETRIC)}, SampleFormat"
        f" {'/'.join(map(str, _tuple(tags.get(FORMAT, (1,)))))} (save it as RGB or grey of 8 bits)"
    )


def _tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (value,)

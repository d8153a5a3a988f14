"""How a generated image becomes a file: the format, and the size it is reduced to before that."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from PIL import Image

from figment import png
from figment.errors import FigmentError

Format = Literal["png", "jpeg", "webp"]
#: The first bytes of a file, and what its name then ends in.
SUFFIXES = {png.SIGNATURE: ".png", b"\xff\xd8": ".jpg", b"RIFF": ".webp"}
XMP_IN_JPEG = b"http://ns.adobe.com/xap/1.0/\0"  # begins an APP1 segment that holds XMP (XMP specification, part 3)
HAS_XMP = 0x04  # of the flags of a WebP file's VP8X chunk


@dataclass(frozen=True)
class Saving:
    """What is done to an image before it is written.

    Args:
        format: ``png`` and ``webp`` lose nothing, ``jpeg`` (quality 95, colours at full resolution) a little. PNG is figment's own,
            the same bytes everywhere; the other two are Pillow's, whose builds may write other bytes.
        size: pixels of the shorter side that larger images are reduced to, by Lanczos' filter as wide as the reduction needs
            (Pillow's), so that nothing aliases. Smaller images stay as they are; None = all do.

    Raises FigmentError for another format.
    """

    format: Format = "png"
    size: int | None = None

    def __post_init__(self) -> None:
        if self.format not in get_args(Format):
            raise FigmentError(
                f"There is no image format {str(self.format)[:40]!r}. Formats: {', '.join(get_args(Format))}."
            )

    def encode(self, image: np.ndarray) -> bytes:
        """``uint8 (H, W, 3)`` to a file."""
        image = self._reduced(image)
        if self.format == "png":
            return png.encode(image)
        sink = io.BytesIO()
        if self.format == "jpeg":
            Image.fromarray(image).save(sink, "JPEG", quality=95, subsampling=0)
        else:
            # The default method takes seven times as long for files that are 8 % smaller.
            Image.fromarray(image).save(sink, "WEBP", lossless=True, method=0)
        return sink.getvalue()

    def _reduced(self, image: np.ndarray) -> np.ndarray:
        height, width, _ = image.shape
        if self.size is None or min(height, width) <= self.size:
            return image
        scale = self.size / min(height, width)
        size = round(width * scale), round(height * scale)
        return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))


PNG = Saving()


def suffix(data: bytes) -> str:
    """What the name of a file that :class:`Saving` made ends in: ``.png``, ``.jpg`` or ``.webp``."""
    return next(name for start, name in SUFFIXES.items() if data.startswith(start))


def with_xmp(data: bytes, packet: str) -> bytes:
    """A file that :class:`Saving` made, with a packet of XMP in it and every other byte as it was, but for WebP's headers."""
    if data.startswith(png.SIGNATURE):
        return png.with_xmp(data, packet)
    if data.startswith(b"RIFF"):
        return _webp_with_xmp(data, packet.encode())
    body = XMP_IN_JPEG + packet.encode()
    start = 4 + int.from_bytes(data[4:6], "big")  # after JFIF's own segment, which has to be the first
    return data[:start] + b"\xff\xe1" + struct.pack(">H", 2 + len(body)) + body + data[start:]


def _webp_with_xmp(data: bytes, packet: bytes) -> bytes:
    """The simple file of one chunk of pixels becomes an extended one: header, pixels, XMP."""
    with Image.open(io.BytesIO(data)) as image:
        width, height = image.size
    header = struct.pack("<I", HAS_XMP) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBP" + _chunk(b"VP8X", header) + data[12:] + _chunk(b"XMP ", packet)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _chunk(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)

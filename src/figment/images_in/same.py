"""What is known of an image by its content hash: when two are the same, and what its file says of how it was made.

Two are the same where their files are and, as far as that is found out in seconds, where their pixels are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from figment import png
from figment.images_in.decode import decode, pixel_hash
from figment.images_in.provenance import Stored, is_signed, maker_of, read
from figment.images_in.tones import White
from figment.images_in.unreadable import Unreadable

#: Splits of up to so many images and stored bytes are decoded and compared by pixels, in some seconds; larger ones by their files.
MOST_IMAGES, MOST_BYTES = 20_000, 2**27


@dataclass(frozen=True, slots=True)
class Known:
    """Of one file: the hash of its ``pixels``, empty where it cannot be read or was not decoded; its ``size`` in bytes; who says to have
    generated it (`figment.images_in.provenance`), and whether it is ``signed``."""

    pixels: str
    size: int
    maker: str
    signed: bool


_KNOWN: dict[str, Known] = {}  # by content hash: all runs of a study, and all parts of a check, look at the same images


def known_of(data: bytes, digest: str, white: White) -> Known:
    """What is known of the file with this content hash, decoded once."""
    if digest not in _KNOWN:
        try:
            image = png.decode(data)
            pixels = pixel_hash(decode(data, "", white) if image is None else image)
        except Unreadable:
            pixels = ""
        _KNOWN[digest] = _told(data, pixels)
    return _KNOWN[digest]


def _told(data: bytes, pixels: str = "") -> Known:
    return Known(pixels, len(data), maker_of(data), is_signed(data))


def look(images: Stored) -> tuple[list[Known], bool]:
    """What is known of each image, and whether that includes all pixels: too many are not decoded. A file whose content is known
    already is not read again."""
    found: list[Known] = []
    size, decodes = 0, len(images) <= MOST_IMAGES
    for i, digest in enumerate(images.digests):
        known = _KNOWN.get(digest)
        data = b"" if known else read(images, i) or b""
        size += known.size if known else len(data)
        decodes = decodes and size <= MOST_BYTES
        found.append(known or (known_of(data, digest, images.white) if decodes else _told(data)))
    return found, decodes


def keys(images: Stored) -> Sequence[str]:
    """What is the same for images that are the same, and empty for what cannot be read: of pixels, else of files."""
    found, decoded = look(images)
    return [known.pixels for known in found] if decoded else images.digests

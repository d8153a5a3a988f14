"""When two images are the same: where their files are and, as far as that is found out in seconds, where their pixels are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from figment import png
from figment.images_in.decode import decode, pixel_hash
from figment.images_in.provenance import Stored, read
from figment.images_in.tones import White
from figment.images_in.unreadable import Unreadable

#: Splits of up to so many images and stored bytes are decoded and compared by pixels, in some seconds; larger ones by their files.
MOST_IMAGES, MOST_BYTES = 20_000, 2**27
_HASHES: dict[str, str] = {}  # content hash -> that of the pixels: all runs of a study look at the same images


@dataclass
class Pixels:
    """Hashes of the pixels of ``n`` images, added in their order; empty where one cannot be read. ``hashes`` is None where they are
    too many to decode."""

    n: int
    white: White
    size: int = 0
    hashes: list[str] | None = field(default_factory=list)

    def add(self, data: bytes, digest: str) -> None:
        """The next image: its file, and the content hash of it."""
        self.size += len(data)
        if self.n > MOST_IMAGES or self.size > MOST_BYTES:
            self.hashes = None
        if self.hashes is not None:
            self.hashes.append(hash_of(data, digest, self.white))


def hash_of(data: bytes, digest: str, white: White) -> str:
    """The hash of one image's pixels; empty where it cannot be read. ``digest`` is the content hash of its file."""
    if digest not in _HASHES:
        try:
            image = png.decode(data)
            _HASHES[digest] = pixel_hash(decode(data, "", white) if image is None else image)
        except Unreadable:
            _HASHES[digest] = ""
    return _HASHES[digest]


def keys(images: Stored) -> Sequence[str]:
    """What is the same for images that are the same, and empty for what cannot be read: of pixels, else of files."""
    pixels = Pixels(len(images), images.white)
    for i, digest in enumerate(images.digests):
        pixels.add(read(images, i) or b"", digest)
    return images.digests if pixels.hashes is None else pixels.hashes

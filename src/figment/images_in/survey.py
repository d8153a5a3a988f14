"""What kinds of image files there are, and what becomes of each when it is read."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from figment.images_in.decode import decode, known_formats
from figment.images_in.provenance import Stored
from figment.images_in.same import known_of
from figment.images_in.tones import bits_of
from figment.images_in.unreadable import Unreadable
from figment.progress import progress
from figment.words import printable

ORIENTATION, UPRIGHT = 0x0112, 1  # of EXIF

#: Kind -> what becomes of it: see :func:`figment.images_in.decode`.
BECOMES = {
    "more than 8 bits": "read as 8, white being {white:,}, the lowest usual level that no pixel of the whole split exceeds",
    "a palette": "read as the colours that it stands for",
    "transparency": "laid on white",
    "CMYK": "converted to sRGB, by the file's profile where it has one",
    "a colour profile": "converted to sRGB",
    "grey alone": "read as three equal channels",
    "several pages or frames": "the first one is read, the others are not",
    "a turn in EXIF": "turned upright",
}


@dataclass(frozen=True)
class Survey:
    """``kinds``: kind -> positions of its images; ``sides`` int (n, 2), width and height, 0 of what cannot be read; ``keys``: what is
    the same for images of equal pixels; ``unreadable``: id -> reason; ``white``: the level, None where no image has more than 8 bits."""

    kinds: dict[str, list[int]] = field(default_factory=dict)
    sides: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    keys: list[str] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    white: int | None = None

    def told(self, kind: str) -> str:
        """What becomes of a kind, in words."""
        return BECOMES[kind].format(white=self.white)


def survey(images: Stored, description: str = "look at images") -> Survey:
    """Look at every image: each is decoded once."""
    kinds: dict[str, list[int]] = {}
    sides, keys, unreadable = np.zeros((len(images), 2), np.int64), [], {}
    with progress(description, len(images)) as advance:
        for i, digest in enumerate(images.digests):
            try:
                data = images.data(i)
                key = known_of(data, digest, images.white).pixels
                if not key:
                    decode(data, images.ids[i], images.white)  # says why
                sides[i], own = look(data)
                for kind in own:
                    kinds.setdefault(kind, []).append(i)
            except Unreadable as error:
                key = ""
                unreadable[printable(images.ids[i])] = error.reason
            keys.append(key)
            advance(1)
    white = images.white.level if "more than 8 bits" in kinds else None
    return Survey({kind: kinds[kind] for kind in BECOMES if kind in kinds}, sides, keys, unreadable, white)


def look(data: bytes) -> tuple[tuple[int, int], list[str]]:
    """Width and height as stored, and the kinds that a file is of; it must be one that can be read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of oddities in files that can be read all the same
        image = Image.open(io.BytesIO(data), formats=known_formats())
        mode, info = image.mode, image.info
        there: Mapping[str, bool] = {
            "more than 8 bits": bits_of(data) > 8,
            "a palette": mode in ("P", "PA"),
            "transparency": "transparency" in info or mode in ("RGBA", "RGBa", "LA", "La", "PA"),
            "CMYK": mode == "CMYK",
            "a colour profile": bool(info.get("icc_profile")) and mode != "CMYK",
            "grey alone": mode in ("1", "L", "LA", "La") or mode.startswith("I"),
            "several pages or frames": _frames(image) > 1,
            "a turn in EXIF": _orientation(image) != UPRIGHT,
        }
    return image.size, [kind for kind, is_one in there.items() if is_one]


def _frames(image: Image.Image) -> int:
    try:
        return int(getattr(image, "n_frames", 1))  # some formats look through the whole file for it
    except Exception:  # a later frame is broken; the first one was read
        return 2


def _orientation(image: Image.Image) -> int:
    try:
        found = image.getexif().get(ORIENTATION, UPRIGHT)
    except Exception:  # a broken EXIF block; the image is then left as it is
        return UPRIGHT
    return found if found in range(1, 9) else UPRIGHT

"""Any image file to pixels, whoever made it."""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing import parent_process
from threading import Lock
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from figment.images_in import colour, tiff
from figment.images_in.tones import FULL, GREY_ABOVE_8, White, bits_of, check_colour, grey
from figment.images_in.unreadable import Unreadable
from figment.machine import cores

# What photographs come in. Not all that PIL knows: it hands PostScript to a program of its own, whatever the file is called.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF")
MOST_PIXELS = 2**30 // 12  # 89 megapixels, where PIL warns of a decompression bomb
MOST_EXIF = 2**20  # bytes: a camera writes some 60 KB, with a preview
# What is often found under the name of an image: the first bytes, and what to call it.
IMPOSTORS = {
    rb"\s*$": "an empty file",
    rb"version https://git-lfs": "a Git LFS pointer, not the image itself (git lfs pull fetches it)",
    rb"(?is)\s*(<!doctype html|<html)": "a web page",
    rb"(?is)\s*(<\?xml.*)?<svg": "a drawing in SVG",
    rb"%PDF": "a PDF",
    rb"%!PS": "a PostScript file",
    rb"PK\x03\x04": "a zip archive",
    rb"\0\0\0.ftyp(hei|hev|mif|msf)": "a HEIC photograph (save it as JPEG)",
    rb"(\xff\x0a|\0\0\0\x0cJXL )": "a JPEG XL image (save it as JPEG or PNG)",
    rb"\0{64}": "a file of zeros",
}

SIGNS_OF_DAMAGE = ("truncated", "broken", "checksum", "could not create decoder object", "not enough image data")


def decode(data: bytes, where: str, white: White | None = None) -> np.ndarray:
    """Any image file to ``uint8 (H, W, 3)`` sRGB: upright by its EXIF, transparency on white, the first frame of several.

    ``white`` tells what is white in images of more than 8 bits; 65535 without it. Raises
    :class:`figment.images_in.Unreadable`, a FigmentError naming ``where``, for what is not a readable image.
    """
    tags = tiff.tags_of(data)
    try:
        with _silence():  # of oddities in files that can be read all the same
            tiff.check(tags)
            image = Image.open(io.BytesIO(data), formats=known_formats())
            if image.width * image.height > MOST_PIXELS:
                raise Image.DecompressionBombError
            if image.format == "PNG":
                Image.open(io.BytesIO(data), formats=("PNG",)).verify()  # its checksums, which decoding passes over
            full = FULL if white is None or bits_of(data) <= 8 else white.level
            return np.array(_rgb(_upright(image), tags, full))  # a copy: torch wants arrays it may write to
    except Exception as error:  # PIL raises a different type for every way a file can be broken
        raise Unreadable(where, _reason(data, error)) from error


def on_all_cores(decode_one: Callable[..., np.ndarray], *given: Iterable[Any]) -> list[np.ndarray]:
    """``list(map(decode_one, *given))`` by a thread for each core: what unpacks images lets go of Python's lock. A worker process,
    which has others beside it, does it alone. Raises the error that comes first in the order of what is given."""
    n = 1 if parent_process() is not None else cores()
    if n == 1:
        return list(map(decode_one, *given))
    with ThreadPoolExecutor(n) as pool:
        return list(pool.map(decode_one, *given))


class _Silence:
    """No warnings while any thread is inside: filters are the whole process's, so ``catch_warnings`` in two threads may leave those of
    the one that came second behind for good."""

    def __init__(self) -> None:
        self.lock, self.inside = Lock(), 0

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self.lock:
            self.inside += 1
            if self.inside == 1:
                self.caught = ExitStack()
                self.caught.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore")
        try:
            yield
        finally:
            with self.lock:
                self.inside -= 1
                if not self.inside:
                    self.caught.close()


_silence = _Silence()


def pixel_hash(image: np.ndarray) -> str:
    """The same for ``uint8 (H, W, 3)`` images of equal pixels, in whatever files they lie."""
    return hashlib.sha256(f"{image.shape}".encode() + image.tobytes()).hexdigest()


def known_formats() -> list[str]:
    """Of :data:`FORMATS`, those that this build of Pillow reads."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]  # AVIF and JPEG 2000 are not in every build


def _upright(image: Image.Image) -> Image.Image:
    if len(image.info.get("exif", b"")) > MOST_EXIF:
        raise ValueError(f"more than {MOST_EXIF:,} bytes of EXIF")
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a broken EXIF block; the pixels, if they are broken, fail once more below
        return image


def _rgb(image: Image.Image, tags: Mapping[int, Any], white: int) -> Image.Image:
    if image.mode in GREY_ABOVE_8:  # PIL would clip it to white
        return Image.fromarray(grey(image, tags, white, colour.exponent(image))).convert("RGB")
    if image.mode == "F":
        raise ValueError("floating-point pixels, whose white is not known (save it with 8 or 16 bits)")
    check_colour(white)
    if image.mode == "La":  # grey that was multiplied by its transparency
        image = image.convert("LA")
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA"):
        return _on_white(image, tags)
    return colour.to_srgb(image.convert("RGB") if image.mode == "P" else image)


def _on_white(image: Image.Image, tags: Mapping[int, Any]) -> Image.Image:
    """Transparency becomes white, after the colours became sRGB; a band of a TIFF that is no transparency is left out."""
    opaque = image.getchannel("L") if image.mode == "LA" else image.convert("RGBA").convert("RGB")
    opaque.info = {key: value for key, value in image.info.items() if key != "transparency"}
    rgb, alpha = colour.to_srgb(opaque), image.convert("RGBA").getchannel("A")
    if tags and not tiff.is_transparency(tags, np.asarray(alpha)):
        return rgb
    rgb.putalpha(alpha)
    return Image.alpha_composite(Image.new("RGBA", rgb.size, "white"), rgb).convert("RGB")


def _reason(data: bytes, error: Exception) -> str:
    """Why a file could not be decoded, in a few words and the same ones each time."""
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {MOST_PIXELS:,} pixels"
    for start, name in IMPOSTORS.items():
        if re.match(start, data[:512]):
            return name
    if isinstance(error, UnidentifiedImageError):
        tags = tiff.tags_of(data)
        return tiff.described(tags) if tags else "of no format known here"
    text = " ".join(str(error).split())
    if any(sign in text.lower() for sign in SIGNS_OF_DAMAGE):
        return "cut off or damaged"
    return text[:190].rstrip(".") or type(error).__name__

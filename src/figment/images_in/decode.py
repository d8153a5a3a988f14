"""Any image file to pixels, whoever made it."""

from __future__ import annotations

import hashlib
import io
import re
import warnings

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from figment.images_in.unreadable import Unreadable

# What photographs come in. Not all that PIL knows: it hands PostScript to a program of its own, whatever the file is called.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF")
MOST_PIXELS = 2**30 // 12  # 89 megapixels, where PIL warns of a decompression bomb
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


def decode(data: bytes, where: str) -> np.ndarray:
    """Any image file to ``uint8 (H, W, 3)`` RGB: upright by its EXIF, transparency on white, the first frame of several.

    Raises :class:`figment.images_in.Unreadable`, a FigmentError naming ``where``, for what is not a readable image.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of oddities in files that can be read all the same
            image = Image.open(io.BytesIO(data), formats=_known_formats())
            if image.width * image.height > MOST_PIXELS:
                raise Image.DecompressionBombError
            if image.format == "PNG":
                Image.open(io.BytesIO(data), formats=("PNG",)).verify()  # its checksums, which decoding passes over
            return np.array(_rgb(_upright(image)))  # a copy: torch wants arrays it may write to
    except Exception as error:  # PIL raises a different type for every way a file can be broken
        raise Unreadable(where, _reason(data, error)) from error


def pixel_hash(image: np.ndarray) -> str:
    """The same for ``uint8 (H, W, 3)`` images of equal pixels, in whatever files they lie."""
    return hashlib.sha256(f"{image.shape}".encode() + image.tobytes()).hexdigest()


def _known_formats() -> list[str]:
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]  # AVIF and JPEG 2000 are not in every build


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a broken EXIF block; the pixels, if they are broken, fail once more below
        return image


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey: PIL would clip it to white
        return Image.fromarray(_eight_bit(np.asarray(image, np.float64), image.info.get("transparency"))).convert("RGB")
    if image.mode == "F":
        raise ValueError("floating-point pixels, whose white is not known (save it with 8 or 16 bits)")
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA"):
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return image.convert("RGB")


def _eight_bit(tones: np.ndarray, transparent: object) -> np.ndarray:
    """``float64 (H, W)`` of 16-bit grey levels to ``uint8 (H, W)``; the level that stands for transparency becomes white."""
    if tones.min() < 0 or tones.max() > 65535:
        raise ValueError("32-bit pixels, whose white is not known (save it with 8 or 16 bits)")
    grey = (tones / 257).astype(np.uint8)
    if isinstance(transparent, int):
        grey[tones == transparent] = 255
    return grey


def _reason(data: bytes, error: Exception) -> str:
    """Why a file could not be decoded, in a few words and the same ones each time."""
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {MOST_PIXELS:,} pixels"
    for start, name in IMPOSTORS.items():
        if re.match(start, data[:512]):
            return name
    if isinstance(error, UnidentifiedImageError):
        return "of no format known here"
    text = " ".join(str(error).split())
    if any(sign in text.lower() for sign in SIGNS_OF_DAMAGE):
        return "cut off or damaged"
    return text[:120].rstrip(".") or type(error).__name__

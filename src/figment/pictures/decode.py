"""Any image file to pixels, whoever made it."""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import Image, ImageOps

from figment.errors import FigmentError


def decode(data: bytes, where: str) -> np.ndarray:
    """Any image file to ``uint8 (H, W, 3)`` RGB: upright by its EXIF, transparency on white, the first frame of several.

    Raises FigmentError, naming ``where``, for what is not a readable image.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
            if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA"):
                rgba = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
            elif image.mode.startswith("I"):  # 16-bit grey: PIL would clip it to white
                image = Image.fromarray((np.asarray(image, np.float64) / 257).clip(0, 255).astype(np.uint8))
            return np.array(image.convert("RGB"))  # a copy: torch wants arrays it may write to
    except Exception as error:  # PIL raises a different type for every way a file can be broken
        raise FigmentError(
            f"{where} is not an image that can be read ({type(error).__name__}: {error}). Mend it or take it out."
        ) from error

"""The colours that a file's numbers stand for: its ICC profile, or the gamma of a PNG, to sRGB."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Any, cast

from PIL import Image, ImageCms

SRGB_GAMMA = 1 / 2.2  # as gAMA has it
SPACES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # of a profile -> the mode it is for


def exponent(image: Image.Image) -> float:
    """The power that brings a PNG's samples (0 to 1) to sRGB's: 1 but where gAMA says otherwise and nothing stands above it."""
    gamma = image.info.get("gamma")
    if not gamma or "srgb" in image.info or "icc_profile" in image.info:
        return 1.0
    power = SRGB_GAMMA / gamma
    return 1.0 if abs(power - 1) < 0.05 else power  # 0.45455 is written in many roundings


def to_srgb(image: Image.Image) -> Image.Image:
    """RGB, grey or CMYK in the mode RGB; without a profile that can be used as Pillow converts it."""
    profile = image.info.get("icc_profile")
    transform = _transform(profile, image.mode) if profile else None
    if transform is not None:
        return cast(Image.Image, ImageCms.applyTransform(image, transform))  # None only in place
    rgb, power = image.convert("RGB"), exponent(image)
    if power != 1:
        rgb = rgb.point([round(255 * (tone / 255) ** power) for tone in range(256)] * 3)
    return rgb


@lru_cache(maxsize=32)  # the photographs of one camera have one profile
def _transform(profile: bytes, mode: str) -> Any:
    """None where the profile is sRGB's, broken, or for images of another kind: then it says nothing."""
    try:
        found = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if (
            SPACES.get(found.profile.xcolor_space.strip()) != mode
            or "srgb" in (found.profile.profile_description or "").lower()
        ):
            return None
        return ImageCms.buildTransform(found, ImageCms.createProfile("sRGB"), mode, "RGB")
    except Exception:  # littleCMS has many ways to say that a profile is broken
        return None

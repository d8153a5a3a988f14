"""The embedded scale model: a small text-to-image pipeline, a small CLIP, and real images to try them on.

Everything lies in the formats of the real thing and is loaded by the same code. See ``README.md`` in this folder.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from figment.errors import FigmentError

PARTS = ("pipeline", "clip", "clip_rn", "pool", "test")


def folder(part: str) -> Path:
    """The folder of one part: ``pipeline``, ``clip``, ``clip_rn`` (with BatchNorm), ``pool`` (10,000 real training images) or ``test`` (10,000).

    Raises FigmentError where it did not come with this installation.
    """
    if part not in PARTS:
        raise FigmentError(f"The starter has no part {part!r}; it has {', '.join(PARTS)}.")
    path = Path(str(resources.files("figment") / "starter" / part))
    if not path.is_dir():
        raise FigmentError(
            f"The starter's {part} is not in this installation ({path} is missing). Install figment-vision again."
        )
    return path

"""The embedded scale model: a small text-to-image pipeline, a small CLIP, and real images to try them on.

Everything lies in the formats of the real thing and is loaded by the same code. See ``README.md`` in this folder.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from figment.errors import FigmentError, nearest
from figment.starter.looks import LOOKS

PARTS = ("pipeline", "clip", "clip_rn", "pool", "test")
PREFIX = "starter/"
SPLITS = ("pool", "test")  # of real images, each in every look
AS_IT_IS = "catalogue"  # the look of what is stored


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


def look_and_split(where: str) -> tuple[str, str]:
    """The two of ``starter/SPLIT`` and ``starter/LOOK/SPLIT``. Raises FigmentError for a look or split that there is not."""
    *look, split = where.removeprefix(PREFIX).split("/")
    if split in SPLITS and len(look) <= 1 and set(look) <= LOOKS.keys():
        return (look or [AS_IT_IS])[0], split
    known = [f"{PREFIX}{split}" for split in SPLITS] + [
        f"{PREFIX}{name}/{split}" for name in LOOKS for split in SPLITS if name != AS_IT_IS
    ]
    raise FigmentError(f"The starter has no images {where!r}.{nearest(where, known)} It has {', '.join(known)}.")


def task_of(look: str) -> str:
    """The built-in task of a look: ``fashion``, of the catalogue, is the control, without a gap. Raises FigmentError for what is no look."""
    if look not in LOOKS:
        raise FigmentError(f"The starter has no look {look[:40]!r}.{nearest(look, LOOKS)} It has {', '.join(LOOKS)}.")
    return "fashion" if look == AS_IT_IS else f"fashion-{look}"

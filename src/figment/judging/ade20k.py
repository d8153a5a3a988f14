"""ADE20k as its scene-parsing benchmark is published: images/ and annotations/, each with training/ and validation/."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from figment.errors import FigmentError
from figment.images_in.decode import MOST_PIXELS
from figment.images_in.folder import images_below, read_file

IGNORED = 255  # a label that neither learns nor counts, as torch's losses and mmsegmentation call it
PARTS = ("images", "annotations")


@dataclass(frozen=True)
class Annotation:
    """An image's file, and the PNG with a class for each of its pixels."""

    path: Path
    labels: Path


def read_split(folder: Path, split: str) -> list[Annotation]:
    """The images of a split, in order. Raises FigmentError for a folder that is laid out otherwise, and an image without its PNG."""
    missing = [f"{part}/{split}" for part in PARTS if not (folder / part / split).is_dir()]
    if missing:
        raise FigmentError(
            f"{folder} is not laid out as ADE20k is (ADEChallengeData2016): there is no {' and no '.join(missing)}. It holds images and"
            " annotations, each with the folders training and validation."
        )
    found = [
        Annotation(path, folder / "annotations" / split / f"{path.stem}.png")
        for path in images_below(folder / "images" / split)
    ]
    if lost := [one for one in found if not one.labels.is_file()]:
        raise FigmentError(f"{lost[0].path} has no annotation: there is no {lost[0].labels}.")
    return found


def labels_of(image: Annotation, n_classes: int) -> np.ndarray:
    """``int64 (H, W)`` from 0; 255 where the PNG has 0, which is no class. Raises FigmentError for a PNG of anything else."""
    try:
        found = Image.open(io.BytesIO(read_file(image.labels)), formats=("PNG",))
        if found.mode not in ("L", "P") or found.width * found.height > MOST_PIXELS:
            raise ValueError(f"it has pixels of mode {found.mode}, and {found.width} x {found.height} of them")
        labels = np.array(found, np.int64) - 1
    except (OSError, ValueError, SyntaxError) as error:
        raise FigmentError(
            f"{image.labels} is no annotation of ADE20k's: {str(error)[:150].rstrip('.')}. It is a PNG with one byte a pixel."
        ) from error
    if labels.max() >= n_classes:
        raise FigmentError(
            f"{image.labels} holds the class {labels.max() + 1}, and there are {n_classes} (0 is none of them). Set"
            " --set segmentation.classes=N for a data set with others."
        )
    labels[labels < 0] = IGNORED
    return labels

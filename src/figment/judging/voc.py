"""PASCAL VOC as it is published: JPEGImages, Annotations, ImageSets/Main."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from figment.errors import FigmentError
from figment.files import read_text

PARTS = ("JPEGImages", "Annotations", "ImageSets/Main")
CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class Annotation:
    """An image's file and its objects: boxes float32 (k, 4), their names, and which of them are difficult, bool (k,).

    Boxes are x1, y1, x2, y2 from 0, right and lower edges not included: VOC's own pixels count from 1, and both edges are included.
    """

    path: Path
    boxes: np.ndarray
    names: list[str]
    difficult: np.ndarray


def years(folder: Path) -> list[Path]:
    """The data sets in a folder: itself, or VOC2007, VOC2012 ... in a VOCdevkit. Raises FigmentError where there is none."""
    inside = sorted(p for p in folder.glob("VOC*") if all((p / part).is_dir() for part in PARTS))
    if all((folder / part).is_dir() for part in PARTS):
        return [folder]
    if not inside:
        missing = [part for part in PARTS if not (folder / part).is_dir()]
        raise FigmentError(
            f"{folder} is not laid out as PASCAL VOC is: there is no {', '.join(missing)}. Name the folder of one year, such as"
            " VOCdevkit/VOC2012, or VOCdevkit with several."
        )
    return inside


def has_split(folder: Path, split: str) -> bool:
    return (folder / PARTS[2] / f"{split}.txt").is_file()


def read_split(folder: Path, split: str) -> list[Annotation]:
    """The images that ``ImageSets/Main/SPLIT.txt`` lists. Raises FigmentError for what is missing or is no annotation of VOC's."""
    table = folder / PARTS[2] / f"{split}.txt"
    if not table.is_file():
        there = sorted(p.stem for p in table.parent.glob("*.txt") if "_" not in p.stem)
        raise FigmentError(
            f"{folder} has no split {split!r}: there is no {table}. Its splits: {', '.join(there) or 'none'}."
            " Name those to be learnt and tested: --set detection.train=train --set detection.test=val"
        )
    names = read_text(table, "split file").split()
    return [_annotated(folder, name) for name in names]


def _annotated(folder: Path, name: str) -> Annotation:
    path, image = folder / "Annotations" / f"{name}.xml", folder / "JPEGImages" / f"{name}.jpg"
    for needed in (path, image):
        if not needed.is_file():
            raise FigmentError(f"{folder} lists the image {name[:80]!r}, and there is no {needed}.")
    text = read_text(path, "annotation")
    if "<!" in text.replace("<!--", ""):  # what is declared there could stand for any amount of text
        raise FigmentError(
            f"{path} declares entities or a document type, which no annotation of VOC's does, and was not read."
        )
    try:
        objects = ElementTree.fromstring(text).findall("object")
        boxes = [[float(o.findtext(f"bndbox/{corner}", "")) for corner in CORNERS] for o in objects]
    except (ElementTree.ParseError, ValueError) as error:
        raise FigmentError(
            f"{path} is no annotation of VOC's: {str(error)[:120]}. Each object has a name and a bndbox of {', '.join(CORNERS)}."
        ) from error
    found = np.array(boxes, np.float32).reshape(-1, 4) - np.array([1, 1, 0, 0], np.float32)
    named = [(o.findtext("name") or "").strip() for o in objects]
    if not np.isfinite(found).all() or (found[:, 2:] <= found[:, :2]).any() or "" in named:
        raise FigmentError(
            f"{path} has an object without a name, or a box without area. Mend the annotation, or take it out of the split."
        )
    difficult = np.array([(o.findtext("difficult") or "0").strip() == "1" for o in objects], bool)
    return Annotation(image, found, named, difficult)

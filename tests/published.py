"""Tiny data sets in the layouts in which the real ones are published."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Box = tuple[int, int, int, int]  # x1, y1, x2, y2 from 0, right and lower edges not included


def save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def solid(colour: Sequence[int], height: int = 8, width: int = 8) -> np.ndarray:
    return np.broadcast_to(np.array(colour, np.uint8), (height, width, 3)).copy()


def class_folders(root: Path, colours: Mapping[str, Sequence[Sequence[int]]]) -> Path:
    """A folder a class, an image of each of its colours."""
    for name, own in colours.items():
        for i, colour in enumerate(own):
            save(solid(colour), root / name / f"{i}.png")
    return root


# ---- PASCAL VOC ------------------------------------------------------------------------------------------------------

OBJECT = """  <object>
    <name>{name}</name><pose>Left</pose><truncated>0</truncated><difficult>{difficult}</difficult>
    <bndbox><xmin>{0}</xmin><ymin>{1}</ymin><xmax>{2}</xmax><ymax>{3}</ymax></bndbox>
  </object>
"""


def voc_annotation(objects: Sequence[tuple[str, Box, int]]) -> str:
    """The XML of an image's objects: name, box, whether it is difficult. VOC counts pixels from 1, and both edges belong to a box."""
    inside = [
        OBJECT.format(x1 + 1, y1 + 1, x2, y2, name=name, difficult=difficult)
        for name, (x1, y1, x2, y2), difficult in objects
    ]
    return f"<annotation>\n  <folder>VOC2012</folder>\n{''.join(inside)}</annotation>\n"


def voc(root: Path, splits: Mapping[str, int], seed: int = 0) -> Path:
    """Noise with a red square (``cat``) and a blue one (``dog``) in each image."""
    rng = np.random.default_rng(seed)
    for split, n in splits.items():
        names = [f"2012_{split}_{i:03}" for i in range(n)]
        for name in names:
            pixels, objects = rng.integers(90, 140, (48, 64, 3)).astype(np.uint8), []
            for left, (what, colour) in zip((2, 34), {"cat": (230, 20, 20), "dog": (20, 20, 230)}.items(), strict=True):
                x, y = left + int(rng.integers(8)), int(rng.integers(24))
                pixels[y : y + 20, x : x + 20] = colour
                objects.append((what, (x, y, x + 20, y + 20), 0))
            save(pixels, root / "JPEGImages" / f"{name}.jpg")
            (root / "Annotations").mkdir(exist_ok=True)
            (root / "Annotations" / f"{name}.xml").write_text(voc_annotation(objects))
        table = root / "ImageSets" / "Main" / f"{split}.txt"
        table.parent.mkdir(parents=True, exist_ok=True)
        table.write_text("".join(f"{name}\n" for name in names))
        (table.parent / f"cat_{split}.txt").write_text("".join(f"{name}  1\n" for name in names))
    return root


# ---- ADE20k ----------------------------------------------------------------------------------------------------------


def ade20k(root: Path, splits: Mapping[str, int], seed: int = 0) -> Path:
    """Class 1 is red, class 2 is blue, and a strip between them belongs to none."""
    rng = np.random.default_rng(seed)
    for split, n in splits.items():
        for i in range(n):
            labels = np.full((40, 48), 1, np.uint8)
            edge = int(rng.integers(16, 32))
            labels[:, edge:], labels[:, edge - 2 : edge + 2] = 2, 0
            pixels = np.array([(90, 90, 90), (230, 20, 20), (20, 20, 230)], np.uint8)[labels]
            name = f"ADE_{split[:5]}_{i:08}"
            save(pixels, root / "images" / split / f"{name}.jpg")
            save(labels, root / "annotations" / split / f"{name}.png")
    return root


# ---- FairFace --------------------------------------------------------------------------------------------------------


def fairface(root: Path, rows: Mapping[str, Sequence[tuple[str, str, Sequence[int]]]]) -> Path:
    """Of each split: race, gender, and the colour that the image has."""
    root.mkdir(exist_ok=True)
    for split, own in rows.items():
        with (root / f"fairface_label_{split}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["file", "age", "gender", "race", "service_test"])
            for i, (race, gender, colour) in enumerate(own, 1):
                writer.writerow([f"{split}/{i}.jpg", "20-29", gender, race, "True"])
                save(solid(colour), root / split / f"{i}.jpg")
    return root


# ---- ARO -------------------------------------------------------------------------------------------------------------


def aro(
    root: Path, relations: Sequence[tuple[str, str, str]], attributes: Sequence[tuple[list[str], str, str]]
) -> Path:
    """Of each row: the relation or the attributes, the true caption and the false one, of a region of a noisy image of its own."""
    rng = np.random.default_rng(0)
    for name, key, rows in (("relation", "relation_name", relations), ("attribution", "attributes", attributes)):
        told: list[dict[str, Any]] = []
        for i, (group, true, false) in enumerate(rows):
            save(rng.integers(0, 256, (30, 40, 3)).astype(np.uint8), root / "images" / f"{name}{i}.jpg")
            told.append(
                {"image_id": str(i), "image_path": f"{name}{i}.jpg", "true_caption": true, "false_caption": false, key: group}
                | {"bbox_x": 3 + i, "bbox_y": 4, "bbox_w": 20, "bbox_h": 15}
            )  # fmt: skip
        if told:
            (root / f"visual_genome_{name}.json").write_text(json.dumps(told))
    return root

"""ARO: whether a model that reads takes the order of words for what it says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from figment.errors import FigmentError
from figment.evaluate.accuracy import interval
from figment.evaluate.classes import balanced
from figment.files import as_path, load_json
from figment.images_in.decode import decode
from figment.images_in.folder import read_file
from figment.judging.evaluation import Evaluation, Given, Numbers
from figment.progress import progress

AT_ONCE = 256  # pairs of captions
#: Part -> its file, and what its rows are averaged over first.
PARTS = {
    "relation": ("visual_genome_relation.json", "relation_name"),
    "attribution": ("visual_genome_attribution.json", "attributes"),
}
FARTHEST = 2**31  # pixels: no number of a box is so large, nor NaN
BOX = ("bbox_x", "bbox_y", "bbox_w", "bbox_h")  # pixels
CAPTIONS = ("true_caption", "false_caption")


class Aro(Evaluation):
    """How often the true caption of a region is nearer to it than the one with its words exchanged. Chance is a half."""

    name: ClassVar[str] = "aro"
    layout: ClassVar[str] = (
        "visual_genome_relation.json and visual_genome_attribution.json, one or both, beside images/"
    )
    protocol: ClassVar[str] = (
        "the cropped region and two captions; the mean over relations, or pairs of attributes; equal cosines are wrong"
    )
    paper: ClassVar[str] = "Yuksekgonul et al. 2023, 2210.01936; StableRep, 2306.00984, Table 7"

    def measure(self, given: Given, where: str) -> Numbers:
        folder = as_path(where)
        there = {part: folder / file for part, (file, _) in PARTS.items() if (folder / file).is_file()}
        if not there:
            raise FigmentError(
                f"{folder} is not laid out as ARO is: there is neither {PARTS['relation'][0]} nor {PARTS['attribution'][0]}. One or both"
                " lie beside a folder images with those of Visual Genome."
            )
        given.backbone.words()  # who cannot read is told before anything is decoded
        values, ci, n = {}, {}, 0
        for part, path in there.items():
            rows = _rows(path, PARTS[part][1])
            right = self._right(given, folder / "images", rows, part)
            groups = np.unique([str(row[PARTS[part][1]]) for row in rows], return_inverse=True)[1]
            values[part] = balanced(right.astype(np.float64), groups)
            values[f"{part}, all pairs"] = float(right.mean())
            ci[f"{part}, all pairs"] = interval(right.mean(keepdims=True), len(right))
            n += len(right)
        return Numbers(values, n, ci)

    def _right(self, given: Given, images: Path, rows: list[Mapping[str, Any]], part: str) -> np.ndarray:
        found, words = [], given.backbone.words()
        with progress(f"ARO, {part}", len(rows)) as advance:
            for start in range(0, len(rows), AT_ONCE):
                some = rows[start : start + AT_ONCE]
                x = words.images([_region(images, row) for row in some])  # (B, D)
                true, false = (words.texts([row[caption] for row in some]) for caption in CAPTIONS)
                found.append((x * true).sum(1) > (x * false).sum(1))
                advance(len(some))
        return np.concatenate(found)


def _rows(path: Path, group: str) -> list[Mapping[str, Any]]:
    try:
        rows = load_json(path, "table of images")
    except ValueError as error:
        raise FigmentError(f"{path} is no JSON: {str(error)[:150]}. Fetch it again.") from error
    if not isinstance(rows, list) or not rows:
        raise FigmentError(f"{path} must be a list of regions with captions, as ARO has it.")
    for i, row in enumerate(rows):
        known = (
            isinstance(row, dict)
            and group in row
            and all(isinstance(row.get(k), str) for k in ("image_path", *CAPTIONS))
        )
        if not known or not all(isinstance(v := row.get(k), int | float) and abs(v) < FARTHEST for k in BOX):
            raise FigmentError(
                f"{path}: row {i} must have image_path, {', '.join(CAPTIONS)}, {', '.join(BOX)} and {group}, as ARO's rows have."
            )
    return rows


def _region(images: Path, row: Mapping[str, Any]) -> np.ndarray:
    """``uint8 (H, W, 3)``. Raises FigmentError where the box lies outside of the image."""
    path = images / Path(row["image_path"]).name
    image = decode(read_file(path), str(path))
    x, y, w, h = (int(row[k]) for k in BOX)
    region = image[
        max(y, 0) : max(y + h, 0), max(x, 0) : max(x + w, 0)
    ]  # an end below 0 would count from the other side
    if not region.size:
        raise FigmentError(
            f"{path} has {image.shape[1]} x {image.shape[0]} pixels, and the box {x}, {y}, {w}, {h} (x, y, w, h) holds none."
        )
    return region

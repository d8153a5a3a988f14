"""Average precision as PASCAL VOC defines it, which is not COCO's: Everingham et al. 2010, section 4.2, and its development kit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Boxes:
    """Of one image: ``boxes`` float (k, 4) as x1, y1, x2, y2 in pixels, right and lower edges not included, and ``labels`` int (k,).

    ``scores`` float (k,) are those of detections; ``difficult`` bool (k,) is told of true boxes.
    """

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray | None = None
    difficult: np.ndarray | None = None


def average_precisions(
    found: Sequence[Boxes], true: Sequence[Boxes], n_classes: int, overlap: float = 0.5, eleven_points: bool = False
) -> np.ndarray:
    """Of each class, float (N,) in [0, 1]; NaN where no box of it counts.

    The detections of a class in all images, best first (of equal scores, those of earlier images): each goes to the true box of its image
    that it overlaps most. With at least ``overlap`` (intersection over union) it is right where that box was not found before, wrong
    where it was, and does not count where the box is difficult; with less it is wrong.

    Args:
        found, true: an entry for each image, in the same order.
        eleven_points: the mean of the best precision at recalls 0, .1 ... 1, as until 2009; else the area under the curve.
    """
    return np.array([_of_class(found, true, c, overlap, eleven_points) for c in range(n_classes)])


def _of_class(found: Sequence[Boxes], true: Sequence[Boxes], c: int, overlap: float, eleven_points: bool) -> float:
    own = [t.boxes[t.labels == c] for t in true]
    easy = [
        np.ones(len(b), bool) if t.difficult is None else ~t.difficult[t.labels == c]
        for t, b in zip(true, own, strict=True)
    ]
    n = sum(int(e.sum()) for e in easy)
    if not n:
        return float("nan")
    taken = [np.zeros(len(b), bool) for b in own]
    right = []
    for image, box in _best_first(found, c):
        overlaps = iou(box[None], own[image])[0]
        best = int(overlaps.argmax()) if len(overlaps) else -1
        if best < 0 or overlaps[best] < overlap:
            right.append(False)
        elif easy[image][best]:
            right.append(not taken[image][best])
            taken[image][best] = True
    hits = np.cumsum(right)
    recall, precision = hits / n, hits / np.arange(1, len(hits) + 1)
    return area(recall, precision, eleven_points)


def _best_first(found: Sequence[Boxes], c: int) -> list[tuple[int, np.ndarray]]:
    """Image and box of each detection of a class."""
    all_of = [
        (-float(f.scores[i]), image, f.boxes[i])
        for image, f in enumerate(found)
        if f.scores is not None
        for i in np.flatnonzero(f.labels == c)
    ]
    return [(image, box) for _, image, box in sorted(all_of, key=lambda one: one[0])]


def area(recall: np.ndarray, precision: np.ndarray, eleven_points: bool = False) -> float:
    """Below a curve (k,) whose precision at a recall is made the best one at that recall or a higher one."""
    if eleven_points:
        levels = np.arange(11) / 10
        return float(np.mean([precision[recall >= level].max(initial=0) for level in levels]))
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall, prepend=0) * envelope).sum())


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes (n, 4) and (m, 4): float (n, m)."""
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = (high - low).clip(0).prod(-1)
    areas = [(x[:, 2:] - x[:, :2]).prod(-1) for x in (a, b)]
    return shared / (areas[0][:, None] + areas[1][None] - shared)

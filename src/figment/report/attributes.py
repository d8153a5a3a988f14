"""What becomes of images by the attributes that they were asked to show: how many are kept, and what the filters' scores are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from figment.evaluate.accuracy import wilson
from figment.images_in import ShardImages
from figment.shards import ATTRIBUTE

MOST_WORDS = 12  # of one kind, those of which the least is kept
NOT_SAID = ""


@dataclass(frozen=True)
class Asked:
    """The images of one word of a kind of attribute, or of no word of it (""): how many were made, and the share of them that the
    filters kept with its 95 % interval. ``scores`` are means, over the images that a filter gave such a score."""

    kind: str
    word: str
    made: int
    kept: float
    ci: tuple[float, float]
    scores: Mapping[str, float]


def asked_of(images: ShardImages, reasons: Sequence[tuple[str, str, Mapping[str, float]]]) -> list[Asked]:
    """A line for each kind and word; none where the prompts name no attributes, or nothing was filtered.

    ``reasons`` are those of `figment.report.folder.read_reasons`, one an image.
    """
    kept = np.array([not name for name, _, _ in reasons])
    names = list(dict.fromkeys(name for _, _, scores in reasons for name in scores))
    if kept.all() and not names:
        return []
    scores = {name: np.array([own.get(name, np.nan) for _, _, own in reasons]) for name in names}
    lines = []
    for name, column in images.attributes.items():
        said = np.array([word or NOT_SAID for word in column.to_pylist()], dtype=object)
        own = [_line(name.removeprefix(ATTRIBUTE), word, said == word, kept, scores) for word in sorted(set(said))]
        lines += sorted(own, key=lambda line: line.kept)[:MOST_WORDS]
    return lines


def _line(kind: str, word: str, own: np.ndarray, kept: np.ndarray, scores: Mapping[str, np.ndarray]) -> Asked:
    n, share = int(own.sum()), float(kept[own].mean())
    means = {name: float(np.nanmean(column[own])) for name, column in scores.items() if not np.isnan(column[own]).all()}
    return Asked(kind, word, n, share, wilson(share, n, float(ndtri(0.975))), means)

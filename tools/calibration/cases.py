"""Kinds of sets whose truth is known: what is in them, what it is called, and how it is learnt from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import numpy as np
from scipy.special import softmax

from calibration.null_images import NULL_IMAGES, null_images
from calibration.world import World
from figment.bias import bias_of
from figment.evaluate.placebo import spread_labels

EACH = 200  # images a class in a set

Start = Literal["text", "bias removed", "words and images"]


@dataclass(frozen=True)
class Case:
    """``start`` is the classifier that is tuned, and the teacher of its soft targets; "words and images" is the learner of that
    name, which is not tuned. ``filter`` is the CLIP filter of the demo, by the zero-shot words or by those with their bias removed."""

    what: str
    start: Start
    images: str = "generated"
    labels: Literal["right", "shuffled before", "shuffled after"] = "right"
    filter: Literal["", "words", "bias removed"] = ""
    blur: float = 0.0

    @property
    def name(self) -> str:
        return f"{self.what}, {self.start}"


@dataclass(frozen=True)
class Drawn:
    """A set: features float (m, D) of all its images, labels int (m,) that they were asked for, and what is learnt from:
    ``kept`` int (k,), rows of them, called ``named`` int (k,)."""

    features: np.ndarray
    labels: np.ndarray
    kept: np.ndarray
    named: np.ndarray


RIGHT = Case("right labels", "text", filter="words")
SHUFFLED = (
    # The labels of the images before the filter stay right, so that the content gate lets these through: the hardest null.
    Case("shuffled after the filter", "text", labels="shuffled after", filter="words"),
    Case("shuffled before the filter", "text", labels="shuffled before", filter="words"),
)
NULLS = tuple(
    replace(case, start=start)
    for case in (*SHUFFLED, *(Case(kind, "text", images=kind) for kind in NULL_IMAGES))
    for start in ("text", "bias removed")
)
WORDS_AND_IMAGES = Case("right labels", "words and images")
WORDS_AND_IMAGES_SHUFFLED = Case("shuffled labels", "words and images", labels="shuffled before")
WEAK = (
    Case("weak names", "bias removed", filter="bias removed", blur=0.05),
    Case("weak names, filtered by them", "bias removed", filter="words", blur=0.05),
)
RIGHT_LABELS = (RIGHT, replace(RIGHT, start="bias removed"), WORDS_AND_IMAGES, *WEAK)
CASES = {case.name: case for case in (*RIGHT_LABELS, *NULLS, WORDS_AND_IMAGES_SHUFFLED)}


def draw(case: Case, w: World, seed: int) -> Drawn:
    """A set of 200 images a class, within each class with replacement. Other things get classes at random, anew in each set."""
    rng = np.random.default_rng([seed, 11])
    features, classes = _population(case.images, w)
    rows = drawn_rows(classes, rng)
    labels = classes[rows]
    if case.images != "generated":
        labels = rng.permutation(w.n_classes)[labels]
    if case.labels == "shuffled before":
        labels = spread_labels(labels, rng)
    kept = filtered(case, w, features[rows], labels)
    named = spread_labels(labels[kept], rng) if case.labels == "shuffled after" else labels[kept]
    return Drawn(features[rows], labels, kept, named)


def drawn_rows(classes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The rows of a set, int (m,): `EACH` images of every class."""
    return np.concatenate([rng.choice(np.flatnonzero(classes == c), EACH) for c in np.unique(classes)])


@cache
def _population(kind: str, w: World) -> tuple[np.ndarray, np.ndarray]:
    if kind == "generated":
        return w.of("generated")
    images = null_images(kind)
    return w.features(images), images.labels


def filtered(case: Case, w: World, features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The rows that the CLIP filter keeps: those whose own class is likelier than one in N."""
    if not case.filter:
        return np.arange(len(labels))
    logits = w.words(case.blur).predict(features)
    if case.filter == "bias removed":
        logits = logits + bias_of(logits)
    own = softmax(logits.astype(np.float64), axis=1)[np.arange(len(labels)), labels]
    return np.flatnonzero(own > 1 / w.n_classes)

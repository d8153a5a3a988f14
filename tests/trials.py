"""Tiny learners, images and recipes for measures: nothing but numpy."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np

from figment.measures import evidence, leaks
from figment.recipe import Recipe, validate
from figment.types import Images, Learner, Model

#: What the verdict rests on, and what might spoil it: measured by every run that has test images.
OF_EVIDENCE = {metric.name for own in (evidence, leaks) for metric in own.MEASURE.metrics}
REAL = {"train": "somewhere", "test": "elsewhere"}


def recipe(real: dict[str, str] | None = None, few_shot: Any = None, network: bool = False, **evaluate: Any) -> Recipe:
    task = {"class_names": ["red", "green", "blue"], "real": REAL if real is None else real}
    own = validate(
        {"task": task, "few_shot": few_shot, "train": {"kind": "clip_head"}, "evaluate": {"shots": [2, 1], **evaluate}},
        "test",
    )
    if not network:
        return own
    # Settings of a learner that has no classifier before it is trained.
    fields = {
        "starts_untrained": False,
        "__annotations__": {"starts_untrained": ClassVar[bool]},
        "__module__": __name__,
    }
    return own.model_copy(update={"train": type("OfNetwork", (type(own.train),), fields)()})


class ArrayImages:
    """Images that lie in memory."""

    def __init__(self, arrays: Sequence[np.ndarray], labels: Sequence[int]):
        self.arrays, self.labels = list(arrays), np.asarray(labels, np.int64)
        self.ids = [str(i) for i in range(len(self.arrays))]
        self.digests = [hashlib.sha256(a.tobytes()).hexdigest() for a in self.arrays]

    def __len__(self) -> int:
        return len(self.arrays)

    def load(self, indices) -> list[np.ndarray]:
        return [self.arrays[i] for i in indices]

    def take(self, indices) -> ArrayImages:
        return ArrayImages([self.arrays[i] for i in indices], self.labels[np.asarray(indices, int)])


def colours(n_a_class: int, seed: int, noise: float = 90.0) -> ArrayImages:
    """Noisy red, green and blue images, ``n_a_class`` of each."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(3), n_a_class)
    means = 90 + 60 * np.eye(3)[labels] + noise / 2 * rng.normal(size=(len(labels), 3))
    return ArrayImages([np.tile(m.clip(0, 255).astype(np.uint8), (4, 4, 1)) for m in means], labels)


def mean_colours(images: Images) -> np.ndarray:
    return np.stack([image.mean((0, 1)) for image in images.load(range(len(images)))])


class Colours:
    """The mean colour of an image as its features."""

    encoder = SimpleNamespace(fingerprint="colours", logit_scale=1.0)

    def __call__(self, images: Images) -> np.ndarray:
        return mean_colours(images).astype(np.float32)


class NearestMean:
    """Takes an image for the class whose mean colour is nearest."""

    history: list = []
    facts: dict = {}

    def __init__(self, means: np.ndarray, facts: dict | None = None):
        self.means, self.facts, self.fingerprint = means, facts or {}, str(means.sum())

    def logits(self, images: Images) -> np.ndarray:
        return -np.square(mean_colours(images)[:, None] - self.means).sum(-1).astype(np.float32)

    def save(self, folder: Path) -> None: ...


class Means(Learner):
    """Learns class means, from a random nine tenths of its images; counts its trainings."""

    name, fingerprint = "class means", "means-1"

    def __init__(self) -> None:
        self.trained = 0

    def learn(self, synthetic: Images | None, real: Images | None, seed: int) -> Model:
        self.trained += 1
        given = [part for part in (synthetic, real) if part is not None]
        x, y = np.concatenate([mean_colours(p) for p in given]), np.concatenate([p.labels for p in given])
        kept = np.random.default_rng(seed).random(len(x)) < 0.9
        kept |= ~np.isin(y, y[kept])
        return NearestMean(np.stack([x[kept & (y == c)].mean(0) for c in range(3)]), {"seen": len(x)})

    def untrained(self) -> Model | None:
        return NearestMean(np.array([[200.0, 90, 90], [90, 150, 90], [90, 90, 130]]))


class Blind(Means):
    """The same, which knows nothing of the classes before it is trained."""

    name = "blind means"

    def untrained(self) -> Model | None:
        return None

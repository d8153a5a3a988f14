"""What every evaluation is: its settings, and one function from a backbone and a data set to a few numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from figment.encoders import Features
from figment.evaluate.accuracy import interval
from figment.evaluate.classes import balanced
from figment.judging.backbone import Backbone
from figment.judging.labelled import Labelled, open_labelled
from figment.task import Strict
from figment.types import Images

Interval = tuple[float, float]


@dataclass(frozen=True)
class Numbers:
    """What an evaluation found. ``values`` are shares in [0, 1] by name, in the order to show them, ``n`` counts what was tested.

    ``ci``: 95 % intervals of those that have one. ``details``: JSON-able.
    """

    values: Mapping[str, float]
    n: int
    ci: Mapping[str, Interval] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)


class Given:
    """What the evaluations of one backbone share: its features, each image encoded once, and the data sets that were opened.

    ``folder`` keeps features, and the state of trainings.
    """

    def __init__(self, backbone: Backbone, folder: Path, seed: int = 0):
        self.backbone, self.folder, self.seed = backbone, folder, seed
        self._features = Features(backbone, folder / "features")
        self._beside_words: Features | None = None
        self._opened: dict[str, Labelled] = {}

    def features(self, images: Images) -> np.ndarray:
        """``float32 (n, D)``, as the backbone gives them. Raises `figment.images_in.Unreadable`."""
        return self._features(images)

    def beside_words(self, images: Images) -> np.ndarray:
        """Unit features ``float32 (n, D)``, in the space of its texts. Raises FigmentError where the backbone reads no words."""
        if self._beside_words is None:
            self._beside_words = Features(self.backbone.words(), self.folder / "features")
        return self._beside_words(images)

    def labelled(self, where: str) -> Labelled:
        if where not in self._opened:
            self._opened[where] = open_labelled(where)
        return self._opened[where]


class Evaluation(Strict):
    """One way to judge a backbone. Its fields are its settings, and its class says what it is of."""

    name: ClassVar[str]
    layout: ClassVar[str]  # of the data set that it reads
    protocol: ClassVar[str]
    paper: ClassVar[str]

    def measure(self, given: Given, where: str) -> Numbers:
        """Judge ``given.backbone`` on the data set in ``where``. Raises FigmentError for one that is not laid out so."""
        raise NotImplementedError


def accuracies(
    answers: Mapping[str, np.ndarray], labels: np.ndarray, over_classes: str = ""
) -> tuple[dict[str, float], dict[str, Interval]]:
    """Of each list of answers int (n,): its share of right ones, and the 95 % interval of that (Wilson's).

    ``over_classes``: the mean over classes of their accuracies, under this name, of the last list.
    """
    values, ci = {}, {}
    right = np.zeros(len(labels), bool)
    for name, answer in answers.items():
        right = answer == labels
        values[name] = float(right.mean())
        ci[name] = interval(right.mean(keepdims=True), len(labels))
    if over_classes:
        values[over_classes] = balanced(right.astype(np.float64), labels)
    return values, ci

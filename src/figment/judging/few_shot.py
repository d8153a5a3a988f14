"""Few-shot classification: many small tasks of a few classes and a few images of each."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch.nn import functional as F

from figment import limits
from figment.errors import FigmentError
from figment.judging.evaluation import Evaluation, Given, Numbers
from figment.neighbours import slices
from figment.probe import logistic_regression

AT_ONCE = 50  # episodes that are solved together


class FewShot(Evaluation):
    """The mean accuracy over episodes of logistic regression (C = 1) on features of unit length.

    An episode's classes are drawn from all, its shots from the training images and what it is asked from the test images.
    """

    name: ClassVar[str] = "few_shot"
    layout: ClassVar[str] = "a task"
    protocol: ClassVar[str] = "5 ways, 5 shots, 15 queries a class, 600 episodes; logistic regression on unit features"
    paper: ClassVar[str] = "Tian et al. 2020, 2003.11539; 5-way 5-shot as in StableRep, 2306.00984, Table 3"

    ways: int = Field(5, ge=2, le=1_000, description="classes of an episode")
    shots: int = Field(5, ge=1, le=limits.SHOTS, description="training images of each")
    queries: int = Field(15, ge=1, le=limits.SHOTS, description="test images of each, all where there are fewer")
    episodes: int = Field(600, ge=2, le=1_000_000)

    def measure(self, given: Given, where: str) -> Numbers:
        own = given.labelled(where)
        n_classes = len(own.class_names)
        shots_of, asked_of = (
            [np.flatnonzero(images.labels == c) for c in range(n_classes)] for images in (own.train, own.test)
        )
        usable = [c for c in range(n_classes) if len(shots_of[c]) >= self.shots and len(asked_of[c])]
        if len(usable) < self.ways:
            raise FigmentError(
                f"few_shot draws {self.ways} classes with {self.shots} training images or more each, and {where} has {len(usable)} such"
                f" classes. Set fewer: --set few_shot.ways={max(2, len(usable))}, or --set few_shot.shots=1."
            )
        x, queries = (
            F.normalize(torch.from_numpy(given.features(im)).double(), dim=-1) for im in (own.train, own.test)
        )
        rng = np.random.default_rng(given.seed)
        drawn = [self._episode(rng, usable, shots_of, asked_of) for _ in range(self.episodes)]
        labels = torch.arange(self.ways).repeat_interleave(self.shots)
        right = []
        for some in slices(self.episodes, AT_ONCE):
            shots = x[torch.from_numpy(np.stack([shots for shots, _ in drawn[some]]))]  # (E, ways * shots, D)
            weight, bias = logistic_regression(shots, labels.expand(len(shots), -1), self.ways)
            for (_, asked), w, b in zip(drawn[some], weight, bias, strict=True):
                answers = [(queries[rows] @ w.T + b).argmax(-1) == way for way, rows in enumerate(asked)]
                right.append(float(torch.cat(answers).double().mean()))
        mean, half = float(np.mean(right)), 1.96 * float(np.std(right, ddof=1)) / len(right) ** 0.5
        return Numbers({"accuracy": mean}, self.episodes, {"accuracy": (mean - half, mean + half)})

    def _episode(
        self, rng: np.random.Generator, usable: list[int], shots_of: list[np.ndarray], asked_of: list[np.ndarray]
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """Positions of an episode's shots, class by class, and of what is asked of each class."""
        classes = rng.choice(usable, self.ways, replace=False)
        shots = np.concatenate([rng.choice(shots_of[c], self.shots, replace=False) for c in classes])
        return shots, [rng.permutation(asked_of[c])[: self.queries] for c in classes]

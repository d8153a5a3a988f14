"""Logistic regression by L-BFGS, its strength chosen among 45: how fine-grained sets are judged."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field

from figment.judging.evaluation import Evaluation, Given, Numbers, accuracies
from figment.probe import held_out, logistic_regression

STRENGTHS = np.geomspace(1e-6, 1e5, 45)  # C of scikit-learn: what the summed losses are multiplied by


class Lbfgs(Evaluation):
    """Each C on four fifths of the training images, from the weights of the last one; the best on the other fifth, then on all."""

    name: ClassVar[str] = "lbfgs"
    layout: ClassVar[str] = "a task"
    protocol: ClassVar[str] = (
        "logistic regression by L-BFGS, 45 C from 1e-6 to 1e5, the best on held-out training images; no augmentation"
    )
    paper: ClassVar[str] = "Kornblith et al. 2019, 1805.08974; Tian et al. 2023 (SynCLR), 2312.17742"

    iterations: int = Field(1_000, ge=1, le=100_000, description="at most, for each C")

    def measure(self, given: Given, where: str) -> Numbers:
        own = given.labelled(where)
        n_classes, device = len(own.class_names), given.backbone.device
        x, queries = (torch.from_numpy(given.features(images)).to(device).double() for images in (own.train, own.test))
        y = torch.from_numpy(np.asarray(own.train.labels, np.int64)).to(device)
        held = torch.from_numpy(held_out(own.train.labels, given.seed)).to(device)
        c, found = 1.0, {}
        if held.any():
            found = self._tried(x, y, held, n_classes)
            c = max(found, key=lambda c: found[c])  # the smallest of equals
        weight, bias = logistic_regression(x, y, n_classes, l2=1 / c, max_iter=self.iterations)
        answers = (queries @ weight.T + bias).argmax(-1).cpu().numpy()
        values, ci = accuracies({"accuracy": answers}, own.test.labels, "mean of classes")
        return Numbers(values, len(own.test), ci, {"C": c, "held_out": found})

    def _tried(self, x: torch.Tensor, y: torch.Tensor, held: torch.Tensor, n_classes: int) -> dict[float, float]:
        """C -> accuracy on the held-out images."""
        found: dict[float, float] = {}
        start: Any = None
        for c in STRENGTHS.tolist():
            start = logistic_regression(x[~held], y[~held], n_classes, l2=1 / c, max_iter=self.iterations, start=start)
            right = (x[held] @ start[0].T + start[1]).argmax(-1) == y[held]
            found[c] = float(right.double().mean())
        return found

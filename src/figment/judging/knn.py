"""Nearest neighbours."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from figment import limits
from figment.judging.evaluation import Evaluation, Given, Numbers, accuracies
from figment.probe import knn


class Neighbours(Evaluation):
    """The weighted vote of the nearest training images: see `figment.probe.knn`."""

    name: ClassVar[str] = "knn"
    layout: ClassVar[str] = "a task"
    protocol: ClassVar[str] = "20 nearest by cosine, votes weighted by exp(cosine / .07)"
    paper: ClassVar[str] = "Wu et al. 2018, 1805.01978, 3.4; Caron et al. 2021 (DINO), 2104.14294"

    k: int = Field(20, ge=1, le=limits.SHOTS, description="neighbours that vote")
    temperature: float = Field(0.07, gt=0, le=limits.WEIGHT, description="of their votes")

    def measure(self, given: Given, where: str) -> Numbers:
        own = given.labelled(where)
        x, queries = given.features(own.train), given.features(own.test)
        votes = knn(x, own.train.labels, queries, len(own.class_names), self.k, self.temperature)
        values, ci = accuracies({"accuracy": votes.argmax(1)}, own.test.labels)
        return Numbers(values, len(own.test), ci)

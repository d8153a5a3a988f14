"""The linear probe."""

from __future__ import annotations

from typing import ClassVar

from figment.judging.evaluation import Evaluation, Given, Numbers, accuracies
from figment.probe import linear_probe


class Linear(Evaluation):
    """Softmax regression on frozen features, with and without normalising them first: see `figment.probe.linear_probe`."""

    name: ClassVar[str] = "linear"
    layout: ClassVar[str] = "a task"
    protocol: ClassVar[str] = (
        "SGD, 90 epochs, ten learning rates at once, the best on held-out training images; with and without BatchNorm"
    )
    paper: ClassVar[str] = "Tian et al. 2023 (StableRep), 2306.00984, appendix"

    def measure(self, given: Given, where: str) -> Numbers:
        own = given.labelled(where)
        x, queries = given.features(own.train), given.features(own.test)
        answers, rates = {}, {}
        for name, normalise in (("accuracy", False), ("with BatchNorm", True)):
            probe = linear_probe(
                x, own.train.labels, len(own.class_names), given.seed, given.backbone.device, normalise=normalise
            )
            answers[name], rates[name] = probe(queries).argmax(1), {"rate": probe.rate, "held_out": probe.held_out}
        values, ci = accuracies(answers, own.test.labels)
        return Numbers(values, len(own.test), ci, {"learning_rates": rates})

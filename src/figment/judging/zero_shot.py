"""Classification by the names of the classes alone."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from figment.encoders import class_prototypes
from figment.judging.evaluation import Evaluation, Given, Numbers, accuracies
from figment.task import Template


class ZeroShot(Evaluation):
    """Each test image is of the class whose sentences are nearest. Nothing is learnt."""

    name: ClassVar[str] = "zero_shot"
    layout: ClassVar[str] = "a task"
    protocol: ClassVar[str] = (
        "the class whose sentences, their mean of unit length, have the highest cosine with the image"
    )
    paper: ClassVar[str] = "Radford et al. 2021 (CLIP), 2103.00020, 3.1; StableRep, 2306.00984, Figure 5"

    templates: list[Template] = Field([], description="sentences with {} for a class's name; none = the task's")

    def measure(self, given: Given, where: str) -> Numbers:
        words, own = given.backbone.words(), given.labelled(where)
        said = class_prototypes(words, own.class_names, self.templates or own.templates)
        answers = (given.beside_words(own.test) @ said.T).argmax(1)
        values, ci = accuracies({"accuracy": answers}, own.test.labels, "mean of classes")
        return Numbers(values, len(own.test), ci)

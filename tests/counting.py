"""Counts what a run spends: images made, images encoded, trainings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from unittest.mock import patch

from figment.encoders.clip import ClipEncoder
from figment.generate.procedural import ProceduralGenerator
from figment.learners.clip_head.baselines import Baseline
from figment.learners.clip_head.learner import ClipHeadLearner


@dataclass
class Spent:
    made: int = 0
    encoded: int = 0
    trained: list[str] = field(default_factory=list)  # "synthetic", "real", "both" or the baseline's name


@contextmanager
def counting() -> Iterator[Spent]:
    """Everything happens as ever, and is counted."""
    spent = Spent()
    make, encode, learn, beside = (
        ProceduralGenerator.__call__,
        ClipEncoder.images,
        ClipHeadLearner.learn_many,
        Baseline.learn,
    )

    def made(self, prompts, seeds, init=None):
        spent.made += len(prompts)
        return make(self, prompts, seeds, init)

    def encoded(self, images):
        spent.encoded += len(images)
        return encode(self, images)

    def learnt(self, trainings):
        for t in trainings:
            spent.trained.append("both" if t.synthetic and t.real else "synthetic" if t.synthetic else "real")
        return learn(self, trainings)

    def learnt_beside(self, synthetic, real, seed):
        spent.trained.append(self.kind)
        return beside(self, synthetic, real, seed)

    with (
        patch.object(ProceduralGenerator, "__call__", made),
        patch.object(ClipEncoder, "images", encoded),
        patch.object(ClipHeadLearner, "learn_many", learnt),
        patch.object(Baseline, "learn", learnt_beside),
    ):
        yield spent

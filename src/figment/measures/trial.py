"""What a measure may ask for: each thing is made once, when it is first asked for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from figment.evaluate.accuracy import accuracy, correctness, interval, paired_difference, predicted
from figment.evaluate.grouped import variance_of_mean
from figment.images_in.captions import shown
from figment.records import fingerprint
from figment.types import Images, Learner, Model, Result, Training

if TYPE_CHECKING:
    from figment.encoders import Features
    from figment.images_in.leaks import Leaks
    from figment.recipe import Recipe


log = logging.getLogger(__name__)


def clip_head_baseline(name: str, learner: Learner) -> Learner:
    """Another way to learn from few real images, on the features of the same encoder."""
    from figment.learners.clip_head.baselines import baseline

    return baseline(name, learner)


@dataclass
class Trial:
    """A trained recipe, the real images it is judged on, and the learner to train others with.

    Args:
        models: gives the recipe's, one a training seed; asked only where what they predict is not remembered.
        facts: what the first of them has to say of itself.
        kept: the generated images they learnt from.
        made: all of them, before any filter.
        test: real test images; None where the task has none, as the others.
        train: all real training images there are; only there if a measure needs it.
        shots: those of few_shot.
        other_shots: gives the j-th other choice of as many, where the verdict is about such too.
        unlabelled: photographs without labels.
        val: real validation images.
        leaks: what was found of the real images before anything was spent; None where nobody looked.
        features: of images, by content; of the encoder of that name, or (None) of the recipe's own; with ``raw=True`` as its network
            gives them, else of unit length.
        remember: gives the array that belongs to a JSON-able key, and makes it where it is not known yet. The key holds
            everything the array depends on, so that runs which differ elsewhere can share it.
        baseline: the learner that a name of ``evaluate.baselines`` stands for.
        groups: int (n,), which burst, video or patient each test image is of; None where all are independent.
        looked_at: the numbers of test images that this run was measured on before, while there were fewer.
        guidance: field of a recipe -> the scale that the images were guided with, as their record has it; a cascade has several.
    """

    recipe: Recipe
    learner: Learner
    models: Callable[[], Sequence[Model]]
    kept: Images
    made: Images | None
    test: Images | None
    train: Images | None
    shots: Images | None
    features: Callable[..., Features]
    other_shots: Callable[[int], Images | None] = lambda j: None
    remember: Callable[[Any, Callable[[], np.ndarray]], np.ndarray] = lambda key, make: make()
    baseline: Callable[[str, Learner], Learner] = clip_head_baseline
    facts: Mapping[str, Any] = field(default_factory=dict)
    unlabelled: Images | None = None
    groups: np.ndarray | None = None
    looked_at: Sequence[int] = ()
    guidance: Mapping[str, float] = field(default_factory=dict)
    val: Images | None = None
    leaks: Leaks | None = None
    recorded: dict[str, np.ndarray] = field(default_factory=dict)  # metric -> predictions, int (S, n)

    @property
    def class_names(self) -> list[str]:
        return self.recipe.task.class_names

    @property
    def encoder_name(self) -> str:
        """Of ``features(None)``."""
        return self.recipe.encoder_name

    @property
    def seeds(self) -> tuple[int, ...]:
        """Of the recipe's trainings."""
        return self.recipe.training_seeds

    @cached_property
    def untrained(self) -> Model | None:
        """The classifier before any image was seen, where the learner has one."""
        return self.learner.untrained()

    @cached_property
    def of_untrained(self) -> np.ndarray | None:
        """What it takes the test images for: int (1, n)."""
        return None if self.untrained is None else self._read([self.untrained])

    @cached_property
    def of_models(self) -> np.ndarray:
        """What the recipe's models take the test images for: int (S, n)."""
        trainings = [Training(self.kept, self.shots, seed) for seed in self.seeds]
        return self.remember(self._key(self.learner, trainings), lambda: self._read(self.models()))

    def among_best(self, k: int) -> np.ndarray:
        """What the recipe's models take the test images for where they may answer ``k`` times, int32 (S, n): the right class where
        it is among the first ``k`` answers, else the first answer. Of equals the first class is the first answer, as always."""

        def read(model: Model) -> np.ndarray:
            logits, labels = model.logits(self.real_test), self.real_test.labels
            own = logits[np.arange(len(labels)), labels]
            before = (logits > own[:, None]) | (
                (logits == own[:, None]) & (np.arange(logits.shape[1]) < labels[:, None])
            )
            return np.where(before.sum(1) < k, labels, predicted(logits)).astype(np.int32)

        trainings = [Training(self.kept, self.shots, seed) for seed in self.seeds]
        key = {**self._key(self.learner, trainings), "answers": k}
        return self.remember(key, lambda: np.stack([read(model) for model in self.models()]))

    @cached_property
    def images_only(self) -> Learner:
        """A learner that never sees the name of a class, on the features of the recipe's encoder."""
        from figment.learners.clip_head.images_only import ImagesOnlyLearner

        return ImagesOnlyLearner(self.features(None), self.class_names, self.encoder_name)

    @cached_property
    def of_shots_alone(self) -> np.ndarray:
        """The same of models that learnt from the shots and nothing else."""
        return self.predictions("real images alone", [Training(real=self.shots, seed=seed) for seed in self.seeds])

    def predictions(self, what: str, trainings: Sequence[Training], learner: Learner | None = None) -> np.ndarray:
        """Train and read the test images: int32 (k, n), the class each is taken for after each of k trainings.

        ``what`` they are is only said; None = the recipe's learner.
        """
        learner = learner or self.learner

        def make() -> np.ndarray:
            log.info("%s: %d training%s", what, len(trainings), "s" * (len(trainings) != 1))
            return self._read(learner.learn_many(trainings))

        return self.remember(self._key(learner, trainings), make)

    def _key(self, learner: Learner, trainings: Sequence[Training]) -> dict[str, Any]:
        """Everything that predictions depend on, and nothing else."""

        def content(images: Images | None) -> str | None:
            return None if images is None else shown(images, learner.reads_captions)

        return {
            "learner": [learner.name, learner.fingerprint],
            "trainings": [[content(t.synthetic), content(t.real), t.seed] for t in trainings],
            "test": fingerprint(list(self.real_test.digests)),
        }

    @property
    def real_test(self) -> Images:
        """The test images. Only measures that need "test" may ask."""
        assert self.test is not None
        return self.test

    def accuracy(
        self, metric: str, predictions: np.ndarray, seeds: Sequence[int] | None = None, **details: Any
    ) -> Result:
        """Top-1 of predictions, int (S, n), which are recorded; ``seeds`` None = the recipe's."""
        self.recorded[metric] = predictions
        seeds = self.seeds if seeds is None else seeds
        result = accuracy(predictions, self.real_test.labels, self.class_names, metric, seeds, self.groups)
        return replace(result, details={**result.details, **details})

    def gain(self, metric: str, before: np.ndarray, after: np.ndarray) -> Result:
        """By how much the second predictions are more often right, paired by image and seed."""
        first, second = (correctness(one, self.real_test.labels) for one in (before, after))
        return paired_difference(first, second, metric, self.seeds, self.groups)

    def interval(self, correct: np.ndarray) -> tuple[float, float]:
        """The 95 % interval of an accuracy, the mean over trainings of ``correct``, bool (S, n)."""
        of_groups = None if self.groups is None else variance_of_mean(correct.mean(0), self.groups)
        return interval(correct.mean(1), correct.shape[1], of_groups)

    def over_untrained(self, metric: str, after: np.ndarray) -> list[Result]:
        """The gain over the untrained classifier; none where there is no such classifier."""
        return [] if self.of_untrained is None else [self.gain(metric, self.of_untrained, after)]

    def _read(self, models: Any) -> np.ndarray:
        return np.stack([predicted(model.logits(self.real_test)) for model in models])


def prompts_of(images: Images) -> list[str]:
    """The prompt of each generated image, by its id (`figment.types.Sample`)."""
    return [name.rpartition("/")[0] for name in images.ids]

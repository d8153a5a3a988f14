"""What a recipe learns from its images, and how right that is on real ones.

The test images are read here, once for each classifier that is reported.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

import numpy as np

from figment.encoders import Features, Towers
from figment.evaluate.accuracy import accuracy, correctness, interval, paired_difference
from figment.evaluate.exchange_rate import Predictor, exchange_rate, real_curve
from figment.evaluate.fidelity import frechet, recognised
from figment.learners.clip_head.augment import augmented_features
from figment.learners.clip_head.coop import coop
from figment.learners.clip_head.head import Head, zero_shot_head
from figment.learners.clip_head.linear_probe import linear_probe
from figment.learners.clip_head.mix import tune_mixed
from figment.learners.clip_head.tip_adapter import tip_adapter, tip_adapter_f
from figment.learners.clip_head.tune import FEW_SHOT_STEPS, Tuned, tune, tune_few_shot
from figment.learners.clip_head.unfrozen import UnfrozenTuned, tune_unfrozen, wise_ft
from figment.learners.clip_head.wise_ft import interpolate
from figment.progress import console
from figment.recipe import Recipe
from figment.types import Images, Result

AUGMENTED_VIEWS = 10  # of each real image, in the baseline of real images with standard augmentation
LEAST_FOR_FRECHET = 4  # images on each side: two groups, and two images without one of them
GROUPS = 20  # of images left out in turn, for the interval of a Frechet distance


@dataclass(frozen=True)
class Classifier:
    """An encoder's features, and what was learnt on them."""

    features: Features
    on_features: Predictor

    def predict(self, images: Images) -> np.ndarray:
        """Logits, float32 (n, N)."""
        return self.on_features.predict(self.features(images))


class Learning:
    """The recipe's ways to learn. Each starts from the untuned classifier; nothing is shared but that and the features."""

    def __init__(self, recipe: Recipe, features: Features, val: Images | None):
        self.recipe, self.features, self.val = recipe, features, val
        self.encoder = cast(Towers, features.encoder)
        self.templates = recipe.task.ensemble if recipe.train.ensemble else recipe.task.templates

    @cached_property
    def zero_shot(self) -> Head:
        return zero_shot_head(self.features.encoder, self.recipe.task.class_names, self.templates)

    def synthetic(self, kept: Images, shots: Images | None, seed: int) -> Tuned | UnfrozenTuned:
        """The recipe's classifier: from generated images and, with ``few_shot``, from the shots too."""
        train, features = self.recipe.train, self.features
        if train.unfrozen is not None:
            return self._live(kept, shots, seed)
        val = None if self.val is None else (features(self.val), self.val.labels)
        made = (features(kept), kept.labels)
        if shots is None:
            tuned = tune(self.zero_shot, *made, train, seed, val=val)
        else:
            tuned = tune_mixed(
                self.zero_shot,
                (features(shots), shots.labels),
                made,
                train.mixed,
                seed,
                val=val,
                min_steps=FEW_SHOT_STEPS,
            )
        return replace(tuned, head=interpolate(self.zero_shot, tuned.head, train.wise_ft))

    def real(self, images: Images, seed: int) -> Classifier:
        """The same learner from real images alone."""
        if self.recipe.train.unfrozen is not None:
            return self.classifier(self._live(None, images, seed))
        return Classifier(self.features, self.real_head(self.zero_shot, self.features(images), images.labels, seed))

    def real_head(self, head: Head, x: np.ndarray, y: np.ndarray, seed: int) -> Head:
        """The head that learns from features of real images, float (n, D), and their labels, int (n,)."""
        return interpolate(head, tune_few_shot(head, x, y, seed, self.recipe.train), self.recipe.train.wise_ft)

    def baseline(self, name: str, shots: Images, seed: int) -> Classifier:
        """A way of others to learn from the shots alone, on the same features."""
        x, y, names = self.features(shots), shots.labels, self.recipe.task.class_names
        learnt: dict[str, Callable[[], Predictor]] = {
            "tip_adapter": lambda: tip_adapter(self.zero_shot, x, y),
            "tip_adapter_f": lambda: tip_adapter_f(self.zero_shot, x, y, seed),
            "coop": lambda: coop(self.encoder, names, x, y, seed),
            "linear_probe": lambda: linear_probe(x, y, len(names)),
            "augmented": lambda: self._augmented(shots, seed),
        }
        return Classifier(self.features, learnt[name]())

    def classifier(self, tuned: Tuned | UnfrozenTuned) -> Classifier:
        """What was learnt, ready to predict."""
        features = Features(tuned.encoder) if isinstance(tuned, UnfrozenTuned) else self.features
        return Classifier(features, tuned.head)

    def _live(self, kept: Images | None, shots: Images | None, seed: int) -> UnfrozenTuned:
        train = self.recipe.train
        assert train.unfrozen is not None
        start = self.encoder, self.zero_shot
        tuned = tune_unfrozen(
            *start,
            train.mixed,
            train.unfrozen,
            seed,
            synthetic=kept,
            real=shots,
            val=self.val,
            min_steps=FEW_SHOT_STEPS,
        )
        return tuned if train.wise_ft == 1 else wise_ft(*start, tuned, train.wise_ft)

    def _augmented(self, shots: Images, seed: int) -> Head:
        x, y = augmented_features(self.encoder, shots, AUGMENTED_VIEWS, seed)
        return self.real_head(self.zero_shot, x, y, seed)


@dataclass(frozen=True)
class Measured:
    """Results, and for each of their classifiers what it takes every test image for: int (S, n), by metric."""

    results: list[Result]
    predictions: dict[str, np.ndarray]


class Measuring:
    """Reads the test images with one classifier after another."""

    def __init__(self, recipe: Recipe, test: Images):
        self.recipe, self.test, self.names = recipe, test, recipe.task.class_names
        self.seeds = recipe.training_seeds
        self.results: list[Result] = []
        self.predictions: dict[str, np.ndarray] = {}
        self.right: dict[str, np.ndarray] = {}

    def add(self, metric: str, logits: list[np.ndarray], **details: Any) -> None:
        """A classifier's logits, one array a seed."""
        seeds = self.seeds if len(logits) == len(self.seeds) and metric != ZERO_SHOT else ()
        result = accuracy(logits, self.test.labels, self.names, metric, seeds)
        self.results.append(replace(result, details={**result.details, **details}))
        self.predictions[metric] = np.stack([one.argmax(1) for one in logits])
        self.right[metric] = correctness(logits, self.test.labels)

    def compare(self, before: str, after: str, metric: str) -> None:
        """By how much one classifier is better than another."""
        self.results.append(paired_difference(self.right[before], self.right[after], metric, self.seeds))


ZERO_SHOT, SYNTHETIC, REAL_ONLY, REAL_ALL = "top1/zero_shot", "top1/synthetic", "top1/real_only", "top1/real_all"


def measure(
    learning: Learning, tuned: list[Tuned | UnfrozenTuned], test: Images, train: Images | None, shots: Images | None
) -> Measured:
    """The recipe's classifier on the test images, beside what it is to be compared with.

    ``tuned`` has one of each training seed. ``train`` are all real training images there are, for the ceiling and the
    exchange rate; ``shots`` those that may be learnt from.
    """
    recipe, settings = learning.recipe, learning.recipe.evaluate
    m = Measuring(recipe, test)
    m.add(ZERO_SHOT, [learning.zero_shot.predict(learning.features(test))])
    shares = {"trainable_fraction": tuned[0].trainable_fraction} if isinstance(tuned[0], UnfrozenTuned) else {}
    m.add(SYNTHETIC, [learning.classifier(t).predict(test) for t in tuned], **shares)
    m.compare(ZERO_SHOT, SYNTHETIC, "gain/synthetic")
    if shots is not None:
        console.print(f"  tune on the {len(shots):,} real images of few_shot alone, {len(m.seeds)} seeds")
        m.add(REAL_ONLY, [learning.real(shots, seed).predict(test) for seed in m.seeds], images=len(shots))
        m.compare(ZERO_SHOT, REAL_ONLY, "gain/real_only")
        m.compare(REAL_ONLY, SYNTHETIC, "gain/over_real_only")
        for name in settings.baselines:
            console.print(f"  {name} on the same")
            m.add(f"top1/{name}", [learning.baseline(name, shots, seed).predict(test) for seed in m.seeds])
            m.compare(ZERO_SHOT, f"top1/{name}", f"gain/{name}")
    if train is not None and settings.real_all:
        console.print(f"  tune on real: {len(train):,} images, {len(m.seeds)} seeds")
        m.add(REAL_ALL, [learning.real(train, seed).predict(test) for seed in m.seeds], images=len(train))
        m.compare(ZERO_SHOT, REAL_ALL, "gain/real_all")
    if train is not None and settings.exchange_rate:
        m.results += _exchange(learning, m.right[SYNTHETIC], test, train)
    return Measured(m.results, m.predictions)


def measured_by(recipe: Recipe) -> list[str]:
    """The metrics of a run's results, as far as the recipe tells: of the curve of real images, points may fall away."""
    settings, real = recipe.evaluate, recipe.task.real
    found = [name for name in settings.measures if name != "frechet" or real.train]
    if not real.test:
        return found
    compared = ["synthetic"]
    if recipe.few_shot is not None:
        compared += ["real_only", *settings.baselines]
    if real.train and settings.real_all:
        compared.append("real_all")
    found += [ZERO_SHOT, *(f"{kind}/{name}" for kind in ("top1", "gain") for name in compared)]
    if recipe.few_shot is not None:
        found.append("gain/over_real_only")
    if real.train and settings.exchange_rate:
        found += ["exchange_rate", *(f"top1/real_{k}" for k in sorted(set(settings.shots)))]
    return found


def _exchange(learning: Learning, right: np.ndarray, test: Images, train: Images) -> list[Result]:
    """The curve of real images alone, and where ``right`` bool (S, n) meets it."""
    recipe, settings = learning.recipe, learning.recipe.evaluate
    console.print(
        f"  exchange rate: tune on {', '.join(map(str, settings.shots))} real images a class, {settings.draws} draws each"
    )
    curve = real_curve(
        learning.zero_shot,
        learning.features(train),
        train.labels,
        learning.features(test),
        test.labels,
        learn=learning.real_head,  # the same learner at any number of real images
        shots=settings.shots,
        draws=settings.draws,
        seed=recipe.seed,
    )
    points = [_shot_accuracy(curve.correct[:, i], k) for i, k in enumerate(curve.shots)]
    return [*points, replace(exchange_rate(curve, right, seed=recipe.seed), metric="exchange_rate")]


def _shot_accuracy(correct: np.ndarray, shots: int) -> Result:
    """Accuracy after ``shots`` real images a class, mean over draws: ``correct`` bool (draws, n)."""
    shares, n = correct.mean(1), correct.shape[1]
    details = {"per_seed": shares.tolist()}
    return Result(f"top1/real_{shots}", float(shares.mean()), n, interval(shares, n), details=details)


def fidelity(learning: Learning, kept: Images, train: Images | None) -> list[Result]:
    """How the kept images look to the encoder, beside real training images: rank nothing by it that is to train."""
    encoder = learning.recipe.train.encoder
    logits = learning.zero_shot.predict(learning.features(kept))
    own = recognised(logits, kept.labels, learning.recipe.task.class_names, encoder)
    wanted = learning.recipe.evaluate.measures
    results = [replace(own, metric="recognisability")] if "recognisability" in wanted else []
    if train is None or "frechet" not in wanted:
        return results
    if len(kept) < LEAST_FOR_FRECHET:
        console.print(
            f"  a Frechet distance needs {LEAST_FOR_FRECHET} images or more, and {len(kept)} were kept: it is left out",
            style="yellow",
        )
    else:
        groups = max(2, min(GROUPS, len(kept) // 2, len(train) // 2))
        own = frechet(learning.features(kept), learning.features(train), encoder, learning.recipe.seed, groups)
        results.append(replace(own, metric="frechet"))
    return results

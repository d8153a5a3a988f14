"""The verdict on predictions, whoever made them: of a recipe's classifiers, or of a researcher's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from figment.errors import FigmentError, nearest
from figment.evaluate.accuracy import wilson
from figment.evaluate.classes import OfClass, balanced, classes_that_got_worse, mean_over_classes
from figment.evaluate.content import Content, content_gate
from figment.evaluate.kind import LEVEL, Difference, difference
from figment.evaluate.sentences import RIVALS, sentence
from figment.evaluate.verdict import (
    BIAS_REMOVED,
    CHANCE,
    PLACEBO,
    UNTUNED,
    Judgement,
    Word,
)
from figment.evaluate.verdict import (
    judge as judge_differences,
)


@dataclass(frozen=True)
class Judged:
    """A verdict and what it rests on. Rivals go by their metrics: ``top1/zero_shot``, ``top1/bias_removed``, ``top1/placebo``...

    ``accuracies`` in [0, 1], of each rival and of ``own``; ``differences`` to each rival, the baseline first. ``over_classes`` is the
    mean over classes of the difference to the baseline and ``worse`` the classes in which it is surely below zero, both empty where
    the baseline is guessing. ``over_images_only`` is the difference to what the images teach without words. ``untuned_guesses``: the untuned
    classifier, its bias removed, is no better than guessing.
    """

    judgement: Judgement
    sentence: str
    accuracies: Mapping[str, float]
    differences: Mapping[str, Difference]
    content: Content
    over_images_only: Difference
    over_classes: Difference | None
    worse: Sequence[OfClass]
    untuned_guesses: bool

    @property
    def word(self) -> Word:
        return self.judgement.word

    @property
    def worth(self) -> float:
        """The smallest difference to a rival, in [-1, 1]."""
        return self.judgement.worth

    @property
    def ci(self) -> tuple[float, float]:
        """Of ``worth``, 95 %."""
        return self.judgement.ci


def judge(
    labels: np.ndarray,
    own: np.ndarray,
    rivals: Mapping[str, np.ndarray],
    placebos: np.ndarray,
    images_only: np.ndarray,
    *,
    resampled: Mapping[str, np.ndarray] | None = None,
    groups: np.ndarray | None = None,
    class_names: Sequence[str] | None = None,
    seed: int = 0,
    level: float = LEVEL,
) -> Judged:
    """Whether generated images help, from the classes that classifiers take the same n real test images for.

    Args:
        labels: int (n,), the right classes, from 0.
        own: int (n,) or (S, n), of the classifier that learnt from generated images, or of S training seeds.
        rivals: name -> int (n,) or (S, n). The baseline first: ``zero_shot``, the classifier before any training, or ``real_only``,
            one that learnt from the real images alone; none: the baseline is guessing. Besides, ``bias_removed`` (needed
            beside ``zero_shot``; see `figment.bias.bias_of`) and ``real_repeated``, the real images in as many steps.
        placebos: int (K, n), of K trainings on the same images with shuffled labels (`figment.evaluate.placebo.spread_labels`).
        images_only: int (n,), of a classifier that learnt from the generated images and never saw a class name.
        resampled: int (B, n) each, of B sets drawn again with replacement within each class: ``own``, ``placebo``, and
            ``bias_removed`` where it was fitted on the images. The claim is then about other sets of the kind; None: about these classifiers.
        groups: int (n,), which burst, video or patient a test image is of.
        class_names: N names. None: as many classes as the labels and predictions show.
        seed: of the permutations of the content gate.
        level: of each side of the intervals; less than .025 for one of several looks at a growing test set.

    Raises:
        FigmentError: for arrays that do not fit, an unknown rival, or one that is missing.
    """
    labels = np.asarray(labels)
    by_metric: dict[str, np.ndarray | None] = {_metric(name): _rows(name, p, labels) for name, p in rivals.items()}
    again = {"own" if k == "own" else _metric(k): _rows(k, p, labels) for k, p in (resampled or {}).items()}
    if UNTUNED in by_metric and BIAS_REMOVED not in by_metric:
        raise FigmentError(
            "Beside the rival zero_shot its bias_removed is needed: most of what tuning gains over an untuned classifier is the bias"
            " it takes away. figment.bias.bias_of fits it on the generated images, without labels."
        )
    if again and not {"own", PLACEBO} <= again.keys():
        raise FigmentError(
            "resampled needs own and placebo, each int (B, n): both learn from the set that is drawn again."
        )
    by_metric = (by_metric or {CHANCE: None}) | {PLACEBO: _rows("placebos", placebos, labels)}
    every = [labels, _rows("own", own, labels), _rows("images_only", images_only, labels)]
    every += [p for p in [*by_metric.values(), *again.values()] if p is not None]
    names = _names(every, class_names)

    right = _Right(labels, len(names))
    correct, sets = right(every[1]).mean(0), right(again["own"]) if again else None
    accuracies, differences = {"own": float(correct.mean())}, {}
    of_baseline: tuple[np.ndarray, np.ndarray | None] | None = None
    for metric, predicted in by_metric.items():
        of_rival = right(predicted)
        d, d_sets = correct - of_rival.mean(0), None
        if sets is not None:
            d_sets = sets - (right(again[metric]) if metric in again else of_rival.mean(0))
        shuffles = of_rival if metric == PLACEBO and sets is None else None
        differences[metric] = difference(d, resampled=d_sets, shuffles=shuffles, groups=groups, level=level)
        accuracies[metric] = float(of_rival.mean())
        of_baseline = of_baseline or (d, d_sets)
    assert of_baseline is not None
    content = content_gate(every[2][0], labels, len(names), seed, groups, level)
    judgement = judge_differences(differences, content, len(labels))
    unbiased = by_metric.get(BIAS_REMOVED)
    guessing = CHANCE in by_metric  # no two classifiers to compare class by class
    return Judged(
        judgement,
        sentence(judgement, accuracies, differences, content, len(labels)),
        accuracies,
        differences,
        content,
        difference(correct - right(every[2])[0], groups=groups),
        None if guessing else mean_over_classes(of_baseline[0], labels, of_baseline[1], groups),
        [] if guessing else classes_that_got_worse(of_baseline[0], labels, names, of_baseline[1], groups),
        unbiased is not None and _guesses(right(unbiased).mean(0), labels, len(names)),
    )


@dataclass(frozen=True)
class _Right:
    """How often each image is right: float (S, n) of predictions int (S, n); of guessing, None, as often as guesses are."""

    labels: np.ndarray
    n_classes: int

    def __call__(self, predicted: np.ndarray | None) -> np.ndarray:
        if predicted is None:
            return np.full((1, len(self.labels)), 1 / self.n_classes)
        return (predicted == self.labels).astype(np.float64)


def _guesses(correct: np.ndarray, labels: np.ndarray, n_classes: int) -> bool:
    low, _ = wilson(balanced(correct, labels), len(labels), 1.96)
    return low <= 1 / n_classes


def _metric(name: str) -> str:
    metric = name if name in RIVALS else f"top1/{name}"
    if metric not in RIVALS:
        known = [m.removeprefix("top1/") for m in RIVALS if m != CHANCE]
        raise FigmentError(f"There is no rival {name[:60]!r}.{nearest(name, known)} Known: {', '.join(known)}.")
    return metric


def _rows(name: str, predicted: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """int (S, n)."""
    rows = np.atleast_2d(np.asarray(predicted))
    if labels.ndim != 1 or not len(labels) or rows.ndim != 2 or rows.shape[1] != len(labels) or not len(rows):
        raise FigmentError(
            f"A verdict needs the classes that each classifier takes the same n test images for, int (n,) or (S, n), and n labels;"
            f" {name} is {np.shape(predicted)}, the labels are {labels.shape}."
        )
    if not (np.issubdtype(rows.dtype, np.integer) and np.issubdtype(labels.dtype, np.integer)) or rows.min() < 0:
        raise FigmentError(
            f"A verdict needs classes as whole numbers from 0; {name} or the labels hold something else."
        )
    return rows


def _names(arrays: Sequence[np.ndarray], class_names: Sequence[str] | None) -> list[str]:
    most = max(int(a.max()) for a in arrays) + 1
    names = [str(c) for c in range(max(2, most))] if class_names is None else list(class_names)
    if most > len(names):
        raise FigmentError(f"There are {len(names)} class names, and class {most - 1} among the labels or predictions.")
    return names

"""The verdict on predictions, whoever made them: of a recipe's classifiers, or of a researcher's own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from figment.errors import FigmentError, nearest
from figment.evaluate.accuracy import wilson
from figment.evaluate.classes import OfClass, balanced, classes_that_got_worse, mean_over_classes
from figment.evaluate.content import Content, content_gate
from figment.evaluate.kind import LEVEL, Difference, difference
from figment.evaluate.placebo import luck_of_names
from figment.evaluate.sentences import RIVALS, sentence
from figment.evaluate.verdict import (
    BIAS_REMOVED,
    CHANCE,
    PLACEBO,
    REAL_ONLY,
    REAL_REPEATED,
    UNTUNED,
    Judgement,
    Word,
)
from figment.evaluate.verdict import (
    judge as judge_differences,
)

#: The baseline is the first of these that there is.
ORDER = (REAL_ONLY, REAL_REPEATED, UNTUNED, BIAS_REMOVED)
#: Of fewer, how far a shuffle may come by luck is told from their confusions, where the learner knows no names of its own.
ENOUGH_PLACEBOS = 6
MOST_CLASSES = 100_000  # so that a stray number is an error, and not a table of that size


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
    if not 0 < level < 0.5:
        raise FigmentError(
            f"level is what each side of an interval leaves out, above 0 and below .5, usually .025; it is {level!r}."
        )
    labels = _rows("labels", labels, None)[0]
    by_metric, again = _given(rivals, placebos, resampled, labels)
    groups = None if groups is None else np.asarray(groups)
    every = [labels, _rows("own", own, labels), _rows("images_only", images_only, labels)]
    every += [p for p in [*by_metric.values(), *again.values()] if p is not None]
    if len(every[2]) > 1:
        raise FigmentError("images_only is one classifier, int (n,): it has no seeds.")
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
        luck: dict[str, Any] = {}
        if metric == PLACEBO and sets is None:
            assert predicted is not None
            by_names = CHANCE in by_metric and 1 < len(predicted) < ENOUGH_PLACEBOS
            luck = {"sets": [_luck(predicted, labels, len(names))]} if by_names else {"shuffles": of_rival}
        differences[metric] = difference(d, resampled=d_sets, groups=groups, level=level, **luck)
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


def _luck(placebos: np.ndarray, labels: np.ndarray, n_classes: int) -> tuple[float, int]:
    """The standard error of the difference to so few placebos (K, n) that comes of which names the labels gave, to them and to the
    classifier itself, and of how many draws it is."""
    k = len(placebos)
    return math.sqrt(luck_of_names(placebos, labels, n_classes) * (1 + 1 / k)), k * (n_classes - 1) + 1


def _given(
    rivals: Mapping[str, Any], placebos: Any, resampled: Mapping[str, Any] | None, labels: np.ndarray
) -> tuple[dict[str, np.ndarray | None], dict[str, np.ndarray]]:
    """The rivals by their metric, the baseline first, which is None for guessing; and those of sets drawn again."""
    if not isinstance(rivals, Mapping) or not isinstance(resampled or {}, Mapping):
        raise FigmentError(
            "rivals and resampled are mappings from a name to predictions, such as rivals={'zero_shot': predictions}."
        )
    given = {_metric(name): _rows(name, p, labels) for name, p in rivals.items()}
    if PLACEBO in given or CHANCE in given or (REAL_REPEATED in given and REAL_ONLY not in given):
        raise FigmentError(
            "rivals holds zero_shot with bias_removed, or real_only with real_repeated and bias_removed; placebos are an argument of"
            " their own, and guessing needs no predictions: it is the baseline where there are no rivals."
        )
    if UNTUNED in given and BIAS_REMOVED not in given:
        raise FigmentError(
            "Beside the rival zero_shot its bias_removed is needed: most of what tuning gains over an untuned classifier is the bias"
            " it takes away. figment.bias.bias_of fits it on the generated images, without labels."
        )
    again = {"own" if k == "own" else _metric(k): _rows(k, p, labels) for k, p in (resampled or {}).items()}
    if again and not {"own", PLACEBO} <= again.keys():
        raise FigmentError(
            "resampled needs own and placebo, each int (B, n): both learn from the set that is drawn again."
        )
    if len({len(rows) for rows in again.values()}) > 1:
        raise FigmentError("resampled needs as many rows of each: all learn from the same sets, drawn again.")
    by_metric: dict[str, np.ndarray | None] = {name: given[name] for name in ORDER if name in given}
    return (by_metric or {CHANCE: None}) | {PLACEBO: _rows("placebos", placebos, labels)}, again


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


def _rows(name: str, predicted: Any, labels: np.ndarray | None) -> np.ndarray:
    """int64 (S, n), for as many images as there are labels."""
    try:
        rows = np.atleast_2d(np.asarray(predicted))
    except ValueError:  # ragged
        rows = np.zeros((0, 0))
    n = rows.shape[-1] if labels is None else len(labels)
    if rows.ndim != 2 or not rows.size or rows.shape[1] != n or (labels is None and len(rows) > 1):
        wanted = "int (n,)" if labels is None else f"int ({n},) or (S, {n}), for the {n} images that have labels"
        raise FigmentError(
            f"{name} is of shape {rows.shape if len(rows) > 1 else rows.shape[1:]}; a verdict needs {wanted}."
        )
    if not np.issubdtype(rows.dtype, np.integer) or rows.min() < 0 or rows.max() >= MOST_CLASSES:
        raise FigmentError(
            f"{name} holds something else than classes, which are whole numbers from 0; it is of type {rows.dtype}."
        )
    return rows.astype(np.int64)


def _names(arrays: Sequence[np.ndarray], class_names: Sequence[str] | None) -> list[str]:
    most = max(int(a.max()) for a in arrays) + 1
    names = [str(c) for c in range(max(2, most))] if class_names is None else list(class_names)
    if len(names) < 2:
        raise FigmentError(f"A verdict needs two classes or more; class_names has {len(names)}.")
    if most > len(names):
        raise FigmentError(f"There are {len(names)} class names, and class {most - 1} among the labels or predictions.")
    return names

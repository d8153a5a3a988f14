"""Training sets that hold nothing of the classes and are otherwise the same, and sets drawn again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def spread_labels(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Labels that say nothing about the images: as many of each as before, spread evenly over the right classes.

    Images are put in the order of their right class, classes and images within a class at random. Each label takes evenly
    spaced places in that order from a random start, so that (right class, placebo label) occurs ``n_c n_z / m`` times up to
    rounding. An image may keep its own label: where nobody may, two classes are swapped, which is knowledge too.

    Args:
        labels: int (m,).

    Returns:
        int64 (m,).
    """
    labels = np.asarray(labels, np.int64)
    classes, counts = np.unique(labels, return_counts=True)
    shuffled = rng.permutation(len(labels))
    rank = rng.permutation(len(classes))
    order = shuffled[np.argsort(rank[np.searchsorted(classes, labels[shuffled])], kind="stable")]
    places = np.concatenate([(np.arange(n) + rng.random()) / n for n in counts])
    spread = np.empty_like(labels)
    spread[order] = np.repeat(classes, counts)[np.argsort(places, kind="stable")]
    return spread


def luck_of_names(predicted: np.ndarray, labels: np.ndarray, n_classes: int) -> float:
    """How much the accuracy of placebos varies from one shuffle of labels to another: the variance, in [0, 1].

    A learner that knows no class before it is trained takes its names from the labels, and a shuffle gives them at random. So each
    placebo would have done as well with the names of its answers exchanged, and the variance over all exchanges is that of Hoeffding
    (1951): the sum of the doubly centred confusion's squares over N - 1. Two placebos tell it as well as dozens of trainings would,
    where the spread of their two accuracies tells next to nothing.

    Args:
        predicted: int (K, n), the classes that K placebos took n test images for.
        labels: int (n,), the right ones, from 0.
    """
    found = []
    of_class = np.bincount(labels, minlength=n_classes) / len(labels) / n_classes  # the confusion's means over its rows
    for own in predicted:
        answered = np.bincount(own, minlength=n_classes) / len(labels) / n_classes
        share = np.unique(labels.astype(np.int64) * n_classes + own, return_counts=True)[1] / len(labels)
        centred = share @ share - n_classes * (of_class @ of_class + answered @ answered) + 1 / n_classes**2
        found.append(float(centred) / (n_classes - 1))
    return max(0.0, float(np.mean(found)))


FEW_PROMPTS = 30  # of a class, below which another set of the kind would differ by its prompts too


def resample(labels: np.ndarray, rng: np.random.Generator, prompts: Sequence[str] | None = None) -> np.ndarray:
    """The places of another set of the same kind, int64: within each class, drawn with replacement, as many as there were.

    A class with few ``prompts`` (m,), 2 to 29, is drawn by whole prompts with all their images: images of one prompt resemble each
    other, and another set would have other prompts. With a single one there is no other.
    """
    labels = np.asarray(labels, np.int64)
    names = None if prompts is None else np.asarray(prompts)
    drawn = []
    for c in np.unique(labels):
        members = np.flatnonzero(labels == c)
        own, place = (None, None) if names is None else np.unique(names[members], return_inverse=True)
        if own is None or not 1 < len(own) < FEW_PROMPTS:
            drawn.append(rng.choice(members, len(members)))
        else:
            drawn += [members[place == k] for k in rng.choice(len(own), len(own))]
    return np.concatenate(drawn)

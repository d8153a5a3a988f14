"""Training sets that hold nothing of the classes and are otherwise the same, and sets drawn again."""

from __future__ import annotations

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


def resample(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The places of another set of the same kind and size, int64 (m,): within each class, drawn with replacement."""
    labels = np.asarray(labels, np.int64)
    drawn = np.empty(len(labels), np.int64)
    for c in np.unique(labels):
        members = np.flatnonzero(labels == c)
        drawn[members] = rng.choice(members, len(members))
    return drawn

"""Whether a classifier that saw no names knows the classes."""

from __future__ import annotations

import itertools
import math

import numpy as np

from figment.evaluate.content import content_gate


def test_p_is_that_of_all_permutations():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(6), 20)
    predicted = np.where(rng.random(120) < 0.25, labels, rng.integers(6, size=120))
    confusion = np.zeros((6, 6), int)
    np.add.at(confusion, (labels, predicted), 1)
    right = np.trace(confusion)
    exact = np.mean([sum(confusion[c, p[c]] for c in range(6)) >= right for p in itertools.permutations(range(6))])
    assert abs(content_gate(predicted, labels, 6).p - exact) < 4 * math.sqrt(max(exact, 1e-3) / 9_999)


def test_a_consistent_classifier_of_other_things_fails():
    """Digits in place of coats: each real class goes to one class, and not to its own."""
    labels = np.repeat(np.arange(10), 50)
    shifted = (labels + 3) % 10
    assert not content_gate(shifted, labels, 10).passed
    found = content_gate(labels, labels, 10)
    assert found.passed and found.p == 1e-4 and found.accuracy == 1


def test_guessing_passes_as_often_as_the_level_says():
    rng = np.random.default_rng(1)
    passed = [content_gate(rng.integers(8, size=200), rng.integers(8, size=200), 8, seed).passed for seed in range(200)]
    assert np.mean(passed) < 0.06


def test_few_classes_are_judged_by_their_accuracy():
    labels = np.repeat([0, 1], 50)
    good = content_gate(labels, labels, 2)
    assert good.passed and not good.by_permutation
    assert not content_gate(1 - labels, labels, 2).passed
    assert not content_gate(np.zeros(100, int), labels, 2).passed


def test_the_accuracy_is_the_mean_over_classes():
    labels = np.array([0] * 90 + [1] * 10)
    assert content_gate(np.zeros(100, int), labels, 5).accuracy == 0.5

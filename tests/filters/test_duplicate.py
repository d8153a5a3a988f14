"""Greedy removal of near-duplicates, against a loop over pairs."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from figment.filters.duplicate import DuplicateFilter, keep_first
from planted import clusters, cosine, encoded, images, kept, unit

EXACT, NEAR = "duplicate: exact copy of an earlier one", "duplicate: near copy of an earlier one"


def naive(x, labels, threshold):
    keep, near = [], []
    for i in range(len(x)):
        earlier = [cosine(x[i], x[j]) for j in range(i) if keep[j] and labels[j] == labels[i]]
        near.append(max(earlier, default=-np.inf))
        keep.append(near[-1] <= threshold)
    return keep, near


@pytest.mark.parametrize("threshold", [0.5, 0.9, 0.97])
@pytest.mark.parametrize("block", [1, 2, 7, 1000])
def test_keep_first_equals_its_naive_twin_in_blocks_of_any_size(threshold, block):
    x, _ = clusters(80, seed=1)
    keep, near = keep_first(x, threshold, block)
    expected, expected_near = naive(x, [0] * len(x), threshold)
    assert keep.tolist() == expected
    assert 1 < sum(expected) < 80
    np.testing.assert_allclose(near, expected_near, atol=1e-6)


def test_classes_are_apart_and_scores_tell_the_nearest_kept():
    x, labels = clusters(80, seed=2)
    verdicts = DuplicateFilter(encoded(), 0.9)(images(x, labels))
    expected, near = naive(x, labels, 0.9)
    assert kept(verdicts) == expected
    assert {v.reason for v in verdicts} == {"", NEAR}
    for verdict, value in zip(verdicts, near, strict=True):
        assert verdict.scores.get("duplicate_cosine", -np.inf) == pytest.approx(value, abs=1e-6)


def test_what_is_like_a_rejected_one_alone_stays():
    angles = np.deg2rad([0, 20, 40, 60])  # neighbours are alike, the next but one are not
    x = np.stack([np.cos(angles), np.sin(angles), 0 * angles], 1)
    assert kept(DuplicateFilter(encoded(), np.cos(np.deg2rad(30)))(images(x, [0] * 4))) == [True, False, True, False]


def test_the_threshold_itself_still_passes():
    x = np.array([[1, 0, 0, 0, 0, 0], [0.5, 0.5, 0.5, 0.5, 0, 0]])
    assert kept(DuplicateFilter(encoded(), 0.5)(images(x, [0, 0]))) == [True, True]
    assert kept(DuplicateFilter(encoded(), 0.4999)(images(x, [0, 0]))) == [True, False]


def test_equal_bytes_go_whatever_the_threshold_and_the_first_stays():
    x = unit(np.random.default_rng(0).normal(size=(5, 6)))[[0, 1, 0, 2, 0, 1]]
    verdicts = DuplicateFilter(encoded(), 1.0)(images(x, [0, 0, 0, 0, 1, 0]))
    assert [v.reason for v in verdicts] == ["", "", EXACT, "", "", EXACT]
    assert verdicts[2].scores == {"duplicate_cosine": 1.0}


def test_one_image_and_none():
    assert kept(DuplicateFilter(encoded())(images(np.eye(6)[:1], [3]))) == [True]
    assert DuplicateFilter(encoded())(images(np.zeros((0, 6)), [])) == []


def test_memory_does_not_grow_with_the_square_of_the_set():
    x = unit(np.random.default_rng(0).normal(size=(6000, 6)))
    tracemalloc.start()
    keep, _ = keep_first(x, 0.99, block=500)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 0 < keep.sum() < 6000
    assert peak < 8e6  # all cosines would be 144 MB

"""Blocks of any size find what a loop over all pairs finds."""

from __future__ import annotations

import numpy as np
import pytest

from figment.neighbours import nearest, slices
from planted import clusters, cosine


def naive(queries, keys, groups=None):
    found = []
    for i, query in enumerate(queries):
        best = (-np.inf, -1)
        for j, key in enumerate(keys):
            if groups is None or groups[0][i] != groups[1][j]:
                best = max(best, (cosine(query, key), j), key=lambda pair: pair[0])
        found.append(best)
    return np.array([c for c, _ in found]), np.array([j for _, j in found])


@pytest.mark.parametrize("block", [1, 3, 7, 1000])
@pytest.mark.parametrize("apart", ["nothing", "own class", "itself"])
def test_nearest_equals_its_naive_twin_in_blocks_of_any_size(block, apart):
    keys, key_labels = clusters(23, seed=1)
    queries, labels = (keys, key_labels) if apart == "itself" else clusters(17, seed=2)
    groups = {
        "nothing": None,
        "own class": (labels, key_labels),
        "itself": (np.arange(len(queries)), np.arange(len(keys))),
    }[apart]
    found, index = nearest(queries, keys, groups, block=block)
    expected, where = naive(queries, keys, groups)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert index.tolist() == where.tolist()
    assert found.dtype == np.float32
    assert not (index == np.arange(len(queries))).any() or apart != "itself"


def test_of_equally_near_ones_the_first_across_blocks_too():
    keys = np.eye(3, dtype=np.float32)[[1, 0, 0, 0]]
    for block in (1, 2, 10):
        assert nearest(keys[1:2], keys, block=block)[1].tolist() == [1]


def test_where_no_key_is_left_there_is_none():
    x, _ = clusters(5)
    none = np.zeros((0, 6), np.float32)
    assert nearest(x, none)[0].tolist() == [-np.inf] * 5
    assert nearest(x, none)[1].tolist() == [-1] * 5
    assert [part.shape for part in nearest(none, x)] == [(0,), (0,)]
    same = np.zeros(5, int)
    assert nearest(x, x, (same, same))[1].tolist() == [-1] * 5


def test_a_cosine_is_never_above_one():
    x = np.random.default_rng(0).normal(size=(200, 96)).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    assert (x @ x.T).max() > 1  # rounding
    assert nearest(x, x)[0].max() == 1


def test_slices_cover_everything_once():
    assert [list(range(10))[part] for part in slices(10, 4)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert list(slices(0, 4)) == []

"""Labels that say nothing, and sets drawn again."""

from __future__ import annotations

import numpy as np
import pytest

from figment.evaluate.placebo import resample, spread_labels


@pytest.mark.parametrize("counts", [(200, 200, 200), (130, 185, 160, 31), (5, 1), (1, 1, 1)])
def test_the_table_of_right_and_placebo_labels_is_that_of_independence(counts):
    labels = np.repeat(np.arange(len(counts)) * 3, counts)  # labels need not be without gaps
    labels = np.random.default_rng(0).permutation(labels)
    placebo = spread_labels(labels, np.random.default_rng(1))
    assert sorted(placebo) == sorted(labels)
    right, of_placebo = (np.unique(x, return_inverse=True)[1] for x in (labels, placebo))
    table = np.zeros((len(counts), len(counts)))
    np.add.at(table, (right, of_placebo), 1)
    expected = np.outer(counts, counts) / sum(counts)
    assert np.abs(table - expected).max() <= len(counts)  # rounding
    if min(counts) > 100:
        assert np.abs(table - expected).max() <= 2


def test_some_keep_their_own_label():
    """Where nobody may, the placebo of two classes is the label swap: knowledge, and not the lack of it."""
    labels = np.repeat([0, 1], 50)
    kept = [(spread_labels(labels, np.random.default_rng(s)) == labels).mean() for s in range(200)]
    assert abs(np.mean(kept) - 0.5) < 0.02


def test_every_image_may_get_every_label_and_the_seed_decides():
    labels = np.repeat([0, 1, 2], 10)
    drawn = np.stack([spread_labels(labels, np.random.default_rng(s)) for s in range(300)])
    shares = np.stack([(drawn == c).mean(0) for c in range(3)])
    assert shares.min() > 0.2 and shares.max() < 0.5
    assert (drawn[0] == spread_labels(labels, np.random.default_rng(0))).all()


def test_a_set_drawn_again_has_the_same_counts_and_draws_with_replacement():
    labels = np.array([1, 0, 1, 1, 0, 2])
    places = resample(labels, np.random.default_rng(0))
    assert (labels[places] == labels).all()
    large = np.repeat([0, 1], 5_000)
    distinct = len(np.unique(resample(large, np.random.default_rng(0)))) / 10_000
    assert abs(distinct - (1 - np.exp(-1))) < 0.02

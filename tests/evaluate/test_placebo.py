"""Labels that say nothing, and sets drawn again."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from figment.evaluate.placebo import luck_of_names, resample, spread_labels


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
    assert (np.bincount(labels[places]) == np.bincount(labels)).all()
    large = np.repeat([0, 1], 5_000)
    distinct = len(np.unique(resample(large, np.random.default_rng(0)))) / 10_000
    assert abs(distinct - (1 - np.exp(-1))) < 0.02


def test_few_prompts_are_drawn_whole():
    labels = np.repeat([0, 1], 12)
    prompts = [f"a/{i // 3}" for i in range(12)] + [f"b/{i}" for i in range(12)]
    prompts[12:] = ["b/0"] * 12  # a single prompt is the recipe's, whatever is drawn
    places = resample(labels, np.random.default_rng(0), prompts)
    first = places[labels[places] == 0].reshape(-1, 3)
    assert (first == first[:, :1] + np.arange(3)).all() and (first[:, 0] % 3 == 0).all()
    assert len(np.unique(first[:, 0])) < 4  # with replacement
    second = places[labels[places] == 1]
    assert len(second) == 12 and 1 < len(np.unique(second)) < 12


def test_many_prompts_are_not():
    labels, prompts = np.zeros(90, int), [f"a/{i // 2}" for i in range(90)]
    ours, plain = (resample(labels, np.random.default_rng(0), p) for p in (prompts, None))
    assert (ours == plain).all()


def test_the_spread_of_few_prompts_is_seen():
    """Sets whose prompts differ have means that differ; drawing images again does not show it."""
    rng = np.random.default_rng(0)
    labels, prompts = np.zeros(100, int), [str(i // 10) for i in range(100)]
    x = np.repeat(rng.normal(size=10), 10) + 0.1 * rng.normal(size=100)
    by_prompt, by_image = (np.std([x[resample(labels, rng, p)].mean() for _ in range(300)]) for p in (prompts, None))
    assert by_prompt > 2 * by_image


@pytest.mark.parametrize("n_classes", [2, 3, 5])
def test_the_luck_of_names_is_the_variance_over_all_exchanges_of_them(n_classes):
    rng = np.random.default_rng(n_classes)
    labels, predicted = rng.integers(n_classes, size=300), rng.integers(n_classes, size=(2, 300))
    predicted[0, :200] = (labels[:200] + 1) % n_classes  # consistently wrong: some exchange makes it right
    every = np.array(list(permutations(range(n_classes))))
    naive = [(every[:, own] == labels).mean(1).var() for own in predicted]
    assert luck_of_names(predicted, labels, n_classes) == pytest.approx(np.mean(naive), rel=1e-12)


def test_who_answers_the_same_whatever_is_shown_has_no_luck():
    labels = np.arange(100) % 5
    assert luck_of_names(np.zeros((2, 100), int), labels, 5) == pytest.approx(0, abs=1e-15)

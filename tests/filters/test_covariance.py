"""Greedy matching of the real features' covariance, against a loop over whole covariances."""

from __future__ import annotations

import time

import numpy as np
import pytest

from figment.errors import FigmentError
from figment.filters.covariance import CovarianceFilter, matching_order
from figment.recipe import validate
from given_of import GivenOf
from planted import clusters, encoded, images, kept


def distance(x, real):
    """Frobenius' norm of the difference of two covariances, each about its own mean."""
    return np.linalg.norm(np.cov(x, rowvar=False, bias=True) - np.cov(real, rowvar=False, bias=True))


def naive(x, real, most):
    """The paper's algorithm word by word: try every image that is left, and take the best."""
    x, real = x.astype(float), real.astype(float)
    order = [int(((x - x.mean(0)) ** 2).sum(1).argmin())]
    while len(order) < most:
        left = [i for i in range(len(x)) if i not in order]
        order.append(min(left, key=lambda i: distance(x[[*order, i]], real)))
    return order


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("dimensions", [2, 5, 40])
def test_matching_order_equals_its_naive_twin(seed, dimensions):
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(dimensions, dimensions))
    x, real = rng.normal(size=(18, dimensions)) + 3, rng.normal(size=(11, dimensions)) @ mix / 2
    order = matching_order(x, real, 18)
    assert order.tolist() == naive(x, real, 18)
    assert matching_order(x, real, 7).tolist() == order[:7].tolist()  # less is the beginning of more


def test_twins_and_unit_vectors_are_ordered_as_the_naive_twin_does():
    rng = np.random.default_rng(0)
    x, real = rng.normal(size=(60, 8)) * rng.random(8) + 1, rng.normal(size=(30, 8))
    x[[7, 20]] = x[3]
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    assert matching_order(x, real, 45).tolist() == naive(x, real, 45)


def test_a_class_as_large_as_imagenets_takes_seconds():
    """There are a thousand of them."""
    rng = np.random.default_rng(0)
    started = time.process_time()
    matching_order(rng.normal(size=(1300, 64)), rng.normal(size=(1300, 64)), 650)
    assert time.process_time() - started < 8


def test_it_is_nearer_than_chance_and_a_shift_of_the_mean_changes_nothing():
    rng = np.random.default_rng(0)
    spread = np.array([3.0, 1.0, 0.2, 0.2])
    x, real = rng.normal(size=(200, 4)) * spread[::-1], rng.normal(size=(100, 4)) * spread
    order = matching_order(x, real, 40)
    by_chance = [distance(x[rng.choice(200, 40, replace=False)], real) for _ in range(50)]
    assert distance(x[order], real) < min(by_chance)
    assert matching_order(x + 5, real - 7, 40).tolist() == order.tolist()


@pytest.mark.parametrize(("keep", "n"), [(0.5, 13), (0.01, 1), (0.28, 7), (1.0, 25)])
def test_shares_of_each_class_are_rounded_up_and_kept_in_order(keep, n):
    x, _ = clusters(75, seed=1)
    labels = np.arange(75) % 3
    real, real_labels = clusters(12, seed=2)
    verdicts = CovarianceFilter(encoded(), images(real, real_labels), keep)(images(x, labels))
    for label in set(labels):
        own = np.flatnonzero(labels == label)
        order = own[naive(x[own], real[real_labels == label], n)]
        assert sorted(order) == [i for i in own if verdicts[i].keep]
        assert [verdicts[i].scores["covariance_rank"] for i in order] == list(range(1, n + 1))
        assert all((v.reason == "") == v.keep for v in verdicts)
    assert sum(kept(verdicts)) == n * len(set(labels))


def test_a_class_without_two_real_images_and_a_recipe_without_any():
    x, labels = clusters(5, seed=1)
    with pytest.raises(FigmentError, match="'covariance' compares with 2 real training images or more of each class"):
        CovarianceFilter(encoded(), images(x[:1], [labels[0]]))(images(x, labels))
    recipe = validate({"task": "fashion", "filters": [{"kind": "covariance", "keep": 0.25}]}, "test")
    with pytest.raises(FigmentError, match=r"Set task\.real\.train"):
        recipe.filters[0].build(GivenOf(recipe))

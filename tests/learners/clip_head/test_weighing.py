"""What a generated image weighs beside a photograph, and sets that add up."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_softmax

from figment.learners.clip_head.discriminant import Moments, discriminant
from figment.learners.clip_head.weighing import FOLDS, WEIGHTS, weights_beside
from learners.clip_head.test_images_only import clusters


def of(x, y) -> Moments:
    return Moments.of(x, y, 5)


def weight_beside(made: Moments, real: np.ndarray, labels: np.ndarray) -> float:
    """Without any words."""
    return weights_beside(made, real, labels)[0]


def elsewhere(a_class: int = 100, by: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    """Classes in another domain: each mean moved its own way."""
    x, y = clusters(noise=2.0, a_class=a_class)
    return x + by * np.random.default_rng(8).normal(size=(5, x.shape[1]))[y], y


def test_sets_add_up():
    (a, ya), (b, yb) = clusters(a_class=7), clusters(seed=3, a_class=2)
    together = discriminant(np.concatenate([a, b]), np.concatenate([ya, yb]), 5)
    assert (of(a, ya) + of(b, yb)).head().predict(a) == pytest.approx(together.predict(a), abs=1e-3)


def test_a_weight_of_three_is_three_copies_but_tells_no_more():
    x, y = clusters(a_class=6)
    weighed, copied = of(x, y).times(3.0), of(np.repeat(x, 3, 0), np.repeat(y, 3))
    assert np.allclose(weighed.sums, copied.sums) and np.allclose(weighed.products, copied.products)
    assert np.allclose(weighed.weights, copied.weights) and weighed.squares == 3 * copied.squares
    assert weighed.head().predict(x) == pytest.approx(of(x, y).head().predict(x), abs=1e-3)


def test_by_cross_validation_written_out():
    (made, ym), (real, yr) = elsewhere(), clusters(noise=2.0, seed=4, a_class=6)
    fold = np.array([(np.flatnonzero(yr == yr[i]).tolist().index(i) + yr[i]) % FOLDS for i in range(len(yr))])
    likelihood = {}
    for weight in WEIGHTS:
        likelihood[weight] = 0.0
        for f in range(FOLDS):
            rest = of(real[fold != f], yr[fold != f])
            logits = (of(made, ym).times(weight) + rest).head().predict(real[fold == f])
            likelihood[weight] += log_softmax(logits, 1)[np.arange((fold == f).sum()), yr[fold == f]].sum()
    assert weight_beside(of(made, ym), real, yr) == max(WEIGHTS, key=lambda weight: likelihood[weight])


def test_images_of_another_domain_weigh_less_than_photographs_and_cost_less_than_pooled():
    (made, ym), (test, truth) = elsewhere(), clusters(noise=2.0, seed=1, a_class=400)
    right = lambda head: (head.predict(test).argmax(1) == truth).mean()
    real, yr = clusters(noise=2.0, seed=4, a_class=40)
    weight = weight_beside(of(made, ym), real, yr)
    weighed, pooled, alone = (right((of(made, ym).times(w) + of(real, yr)).head()) for w in (weight, 1.0, 0.0))
    assert weight < 0.3 and weighed > pooled + 0.05 and weighed > alone - 0.02


def test_labels_that_say_nothing_weigh_next_to_nothing():
    (made, ym), (real, yr) = clusters(noise=2.0, a_class=100), clusters(noise=2.0, seed=4, a_class=16)
    spread = np.random.default_rng(0).permutation(ym)
    assert weight_beside(of(made, spread), real, yr) <= 0.03 < weight_beside(of(made, ym), real, yr) == 1.0


def test_a_class_without_photographs_is_not_lost():
    made, ym = elsewhere(by=50.0)
    real, yr = clusters(seed=4, a_class=16)
    some = yr != 3
    assert weight_beside(of(made, ym), real, yr) == 0.0
    assert weight_beside(of(made, ym), real[some], yr[some]) > 0


@pytest.mark.parametrize("n", [1, 5])
def test_one_photograph_a_class_or_in_all_cannot_be_asked(n):
    (made, ym), (real, yr) = elsewhere(by=50.0), clusters(seed=4, a_class=1)
    assert weight_beside(of(made, ym), real[:n], yr[:n]) == 1.0


def test_a_class_of_one_photograph_beside_others_of_many():
    (made, ym), (real, yr) = elsewhere(by=50.0), clusters(seed=4, a_class=16)
    some = (yr != 3) | (np.arange(len(yr)) == np.flatnonzero(yr == 3)[0])
    assert weight_beside(of(made, ym), real[some], yr[some]) < 1.0

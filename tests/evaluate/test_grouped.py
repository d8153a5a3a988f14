"""Test images in bursts: no interval is narrower than the bursts allow."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from scipy import stats

from figment.errors import FigmentError
from figment.evaluate.accuracy import accuracy, interval, paired_difference
from figment.evaluate.content import content_gate
from figment.evaluate.exchange_rate import Curve, exchange_rate
from figment.evaluate.grouped import variance_of_mean
from figment.evaluate.kind import difference

BURSTS, OF = 40, 5
GROUPS = np.repeat(np.arange(BURSTS), OF)


def burst_like(draw: Callable[[int], np.ndarray], rng: np.random.Generator, alike: float = 0.9) -> np.ndarray:
    """A value an image: nine of ten images of a burst are as the burst is, the others on their own."""
    return np.where(rng.random(BURSTS * OF) < alike, np.repeat(draw(BURSTS), OF), draw(BURSTS * OF))


def by_hand(values: list[float], groups: list[int]) -> float:
    mean = sum(values) / len(values)
    total = 0.0
    for g in set(groups):
        total += sum(v - mean for v, of in zip(values, groups, strict=True) if of == g) ** 2
    n_groups = len(set(groups))
    return n_groups / (n_groups - 1) * total / len(values) ** 2


def test_by_the_formula_step_by_step():
    rng = np.random.default_rng(0)
    for _ in range(10):
        groups, values = rng.integers(7, size=60), rng.normal(size=60)
        found, freedom = variance_of_mean(values, groups)
        assert found == pytest.approx(by_hand(values.tolist(), groups.tolist()))
        assert freedom == len(set(groups.tolist())) - 1
    values = rng.normal(size=30)  # images on their own are the plain variance of a mean
    assert variance_of_mean(values, np.arange(30))[0] == pytest.approx(values.var(ddof=1) / 30)
    same = np.repeat(rng.normal(size=20), 5)  # as good as twenty
    assert variance_of_mean(same, np.repeat(np.arange(20), 5))[0] == pytest.approx(same[::5].var(ddof=1) / 20)


def test_groups_of_many_sizes_are_no_spread_of_the_accuracy():
    """Every image is right with 80 %: whether it stands in a burst of one or of twenty does not matter."""
    rng = np.random.default_rng(1)
    sizes = rng.integers(1, 20, 200)
    groups = np.repeat(np.arange(200), sizes)
    right = rng.random(len(groups)) < 0.8
    assert variance_of_mean(right, groups)[0] == pytest.approx(0.16 / len(groups), rel=0.3)


def test_false_helps_of_bursts():
    """A verdict needs each interval above zero; here is one, where there is nothing: 2.5 % are allowed."""
    false = np.zeros(3)
    for seed in range(600):
        rng = np.random.default_rng(seed)
        d = burst_like(partial(rng.choice, [-1.0, 0.0, 1.0], p=[0.15, 0.7, 0.15]), rng)
        paired = paired_difference(np.maximum(-d, 0), np.maximum(d, 0), groups=GROUPS)
        false += [difference(d).ci[0] > 0, difference(d, groups=GROUPS).ci[0] > 0, paired.ci[0] > 0]
    plain, ours, gains = false / 600
    assert ours <= 0.04 and gains <= 0.04 and plain > 0.10


def test_accuracies_of_bursts_are_covered():
    """Of the accuracy, within its classes, of a gate's mean over classes, and of what an older interval said."""
    covered, studies = np.zeros(4), 400
    for seed in range(studies):
        rng = np.random.default_rng(seed)
        labels = np.repeat(np.arange(BURSTS) % 2, OF)
        right = burst_like(lambda n, rng=rng: rng.random(n) < 0.8, rng)
        answers = np.where(right, labels, 1 - labels)
        ours, plain = (accuracy(answers, labels, ["a", "b"], groups=g) for g in (GROUPS, None))
        of_class = ours.details["classes"]["a"]["ci"]
        gate = content_gate(answers, labels, 2, groups=GROUPS)
        low, high = interval(np.array([gate.accuracy]), round(gate.independent))
        for i, (lo, hi) in enumerate((ours.ci, of_class, (low, high), plain.ci)):
            covered[i] += lo <= 0.8 <= hi
    assert (covered[:3] / studies >= 0.92).all() and covered[3] / studies < 0.75, covered / studies


def test_the_small_gate_passes_as_often_as_the_level_says():
    passed = np.zeros(2)
    labels = np.repeat(np.arange(BURSTS) % 2, OF)
    for seed in range(400):
        rng = np.random.default_rng(seed)
        guess = burst_like(lambda n, rng=rng: rng.integers(2, size=n), rng)
        passed += [content_gate(guess, labels, 2, groups=g).passed for g in (GROUPS, None)]
    assert passed[0] / 400 <= 0.045 < 0.10 < passed[1] / 400, passed / 400


def test_its_p_is_that_of_its_own_verdict():
    rng = np.random.default_rng(0)
    for _ in range(50):
        labels = np.tile([0, 1, 2], 30)
        guess = np.where(rng.random(90) < 0.15, labels, rng.integers(3, size=90))
        found = content_gate(guess, labels, 3)
        assert found.passed == (found.p < 0.025)
        z = (found.accuracy - 1 / 3) / np.sqrt(2 / 9 / 90)
        assert found.p == pytest.approx(stats.norm.sf(z))


def test_images_on_their_own_change_little_and_one_group_says_nothing():
    rng = np.random.default_rng(2)
    right = rng.random((2, 300)) < 0.7
    plain, alone = (
        accuracy(right.astype(int), np.ones(300, int), ["a", "b"], groups=g) for g in (None, np.arange(300))
    )
    assert "groups" not in plain.details and alone.details["groups"] == 300
    assert np.allclose(plain.ci, alone.ci, atol=0.002)
    assert interval(np.array([0.8]), 100, (0.0, 0)) == (0.0, 1.0)
    with pytest.raises(FigmentError, match="one group"):
        paired_difference(right, right, groups=np.zeros(300, int))
    with pytest.raises(FigmentError, match="one number for each"):
        variance_of_mean(np.zeros(3), np.zeros(4))


def test_all_right_is_as_sure_as_the_groups_are_many():
    ones = np.ones(100, int)
    many, few = (accuracy(ones, ones, ["a", "b"], groups=np.arange(100) // of).ci[0] for of in (1, 10))
    assert few == pytest.approx(interval(np.array([1.0]), 10)[0]) and few < many < 1


def test_the_smallest_visible_effect_is_that_of_the_groups():
    rng = np.random.default_rng(0)
    d = np.repeat(rng.choice([-1.0, 0.0, 1.0], 200, p=[0.05, 0.9, 0.05]), 5)
    plain, grouped = (difference(d, groups=g) for g in (None, np.repeat(np.arange(200), 5)))
    assert grouped.smallest_visible(1000) / plain.smallest_visible(1000) == pytest.approx(5**0.5, rel=0.1)


def test_the_exchange_rate_draws_whole_groups():
    rng = np.random.default_rng(0)
    truth = np.array([0.4, 0.55, 0.7, 0.8])
    hard = np.repeat(rng.random(60), 5)
    curve = Curve((1, 2, 4, 8), np.stack([hard < t for t in truth])[None], None)
    made = np.repeat(rng.random(60) < 0.62, 5)
    plain, grouped, alone = (
        exchange_rate(curve, made, groups=g) for g in (None, np.repeat(np.arange(60), 5), np.arange(300))
    )
    assert plain.ci == alone.ci  # each image a group: the very same draws
    spreads = [np.ptp([p["ci"] for p in r.details["curve"]], axis=1).mean() for r in (plain, grouped)]
    assert spreads[1] / spreads[0] == pytest.approx(5**0.5, rel=0.15)
    assert grouped.ci[0] < plain.ci[0]

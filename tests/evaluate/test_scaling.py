"""Where a curve of added images turns, hurts and should have been stopped, on curves whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from figment.errors import FigmentError
from figment.evaluate.accuracy import paired_difference
from figment.evaluate.scaling import Scaling, hurts_from, stopping_rule, turning_point

N = (0, 500, 1000, 2000, 4000)


def drawn(p, seed=0, n=1500, seeds=3, spread=0.0, images=N) -> Scaling:
    """Test images that are right with these probabilities, most of the luck shared by all points as it is in life."""
    rng = np.random.default_rng(seed)
    hardness = rng.random(n)[None, None] * 0.8 + rng.random((len(p), seeds, n)) * 0.2
    own = np.array(p)[:, None, None] + rng.normal(0, spread, (len(p), seeds, 1))
    return Scaling(images, (hardness < own).astype(float))


def exact(shares, n=1000) -> Scaling:
    """So many of ``n`` images right, one seed."""
    return Scaling(N, np.array([[np.arange(n) < share * n] for share in shares], float))


@pytest.mark.parametrize(
    ("shares", "at", "hurts"),
    [
        ((0.5, 0.6, 0.7, 0.6, 0.4), 2, 4),
        ((0.5, 0.4, 0.3, 0.2, 0.1), 0, 1),
        ((0.5, 0.6, 0.7, 0.8, 0.9), 4, None),
        ((0.5, 0.5, 0.5, 0.5, 0.5), 0, None),
        ((0.5, 0.4, 0.6, 0.4, 0.4), 2, 3),
    ],
)
def test_the_top_of_a_clear_curve_and_where_it_hurts(shares, at, hurts):
    turning = turning_point(exact(shares))
    assert turning.at == at and turning.ci == (at, at)
    assert hurts_from(exact(shares)) == hurts


def test_without_a_point_at_nought_nobody_can_say_that_it_hurts():
    curve = Scaling((1, 2), exact((0.9, 0.1, 0, 0, 0)).right[:2])
    assert hurts_from(curve) is None


def test_the_interval_is_that_of_a_naive_bootstrap():
    curve = drawn((0.5, 0.52, 0.525, 0.52, 0.5), spread=0.01)
    turning, rng, places = turning_point(curve), np.random.default_rng(7), []
    for _ in range(2000):
        images, seeds = rng.integers(1500, size=1500), rng.integers(3, size=2)
        places.append(int(curve.right[:, seeds][:, :, images].mean((1, 2)).argmax()))
    low, high = np.sort(places)[[49, 1949]]
    assert abs(turning.ci[0] - low) <= 1 and abs(turning.ci[1] - high) <= 1 and low < high


def test_the_interval_holds_the_truth():
    """Of 40 studies of the same curve, with seeds that differ, its top lies in nearly all intervals."""
    truth = (0.50, 0.53, 0.55, 0.54, 0.51)
    held = [
        ci[0] <= 2 <= ci[1]
        for ci in (turning_point(drawn(truth, seed, n=500, spread=0.01), resamples=200).ci for seed in range(40))
    ]
    assert np.mean(held) >= 0.9


def test_groups_widen_the_interval():
    curve = drawn((0.50, 0.55, 0.56, 0.55, 0.50), n=300, seeds=1)
    repeated = np.repeat(curve.right, 6, axis=2)
    alone, grouped = (Scaling(N, repeated, groups) for groups in (None, np.repeat(np.arange(300), 6)))
    width = [np.subtract(*turning_point(one).ci[::-1]) for one in (alone, grouped)]
    assert turning_point(grouped).ci == turning_point(curve).ci and width[1] >= width[0]


@pytest.mark.parametrize(
    ("shares", "at", "was_right"),
    [
        ((0.5, 0.6, 0.7, 0.705, 0.706), 2, True),  # .05 points a hundred
        ((0.5, 0.6, 0.7, 0.6, 0.4), 2, True),
        ((0.5, 0.505, 0.7, 0.7, 0.7), 0, False),  # a flat start: what came later was worth it
        ((0.5, 0.4, 0.3, 0.2, 0.1), 0, True),
        ((0.5, 0.6, 0.7, 0.8, 0.9), None, True),
    ],
)
def test_the_stopping_rule_and_whether_it_was_right(shares, at, was_right):
    curve = exact(shares)
    stop = stopping_rule(curve, worth=0.002, block=100)
    assert (stop.at, stop.was_right) == (at, was_right)
    if at is not None:
        gain = paired_difference(curve.right[at], curve.right[at + 1])
        assert (
            stop.rate == pytest.approx(gain.value * 100 / (N[at + 1] - N[at])) and stop.ci[0] < stop.rate < stop.ci[1]
        )
        assert stop.missed == pytest.approx(max(0, max(shares[at + 1 :]) - shares[at]))


@pytest.mark.parametrize(
    ("images", "shape"),
    [((1,), (1, 1, 5)), ((1, 2), (3, 1, 5)), ((2, 1), (2, 1, 5)), ((1, 1), (2, 1, 5)), ((1, 2), (2, 5))],
)
def test_curves_that_are_none(images, shape):
    with pytest.raises(FigmentError, match="scaling curve"):
        Scaling(images, np.zeros(shape))


def test_the_stopping_rule_on_the_papers_own_curve():
    """Azizi et al. 2023, Table 4 at 256 pixels, in blocks of as many images as are real: it stops where their curve turns."""
    n, curve = 732_000, (0.7639, 0.7761, 0.7716, 0.7652, 0.7581, 0.7504)
    right = np.array([[np.arange(10_000) < round(share * 10_000)] for share in curve], float)
    stop = stopping_rule(Scaling([n * times for times in (0, 1, 2, 3, 5, 9)], right), worth=0.002, block=n)
    assert (stop.at, stop.was_right, stop.missed) == (1, True, 0.0)

"""Looks at a test set that grows."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from figment.evaluate.looks import Look, look_at, obrien_fleming, spent


def test_the_published_bounds():
    """Lan and DeMets' function in the manner of O'Brien and Fleming, two-sided .05, looks at equal distances: tables that every
    package for group-sequential trials prints."""
    assert obrien_fleming([0.2, 0.4, 0.6, 0.8, 1]) == pytest.approx([4.877, 3.357, 2.680, 2.290, 2.031], abs=6e-4)
    assert obrien_fleming([1 / 3, 2 / 3, 1]) == pytest.approx([3.710, 2.511, 1.993], abs=6e-4)
    assert obrien_fleming([0.5, 1]) == pytest.approx([2.963, 1.969], abs=6e-4)
    assert obrien_fleming([1]) == pytest.approx([1.95996], abs=1e-5)


def test_the_second_bound_is_that_of_the_normal_in_two_dimensions():
    for first, second in ((0.3, 0.7), (0.5, 0.55), (0.6, 1.0)):
        a, b = obrien_fleming([first, second])
        rho = math.sqrt(first / second)
        inside = stats.multivariate_normal(cov=[[1, rho], [rho, 1]]).cdf([a, b])
        assert 1 - inside == pytest.approx(spent(second), rel=2e-3)


def test_no_set_of_looks_errs_more_often_than_the_level():
    """Brownian motions without drift, looked at wherever somebody cares to; and without a rule for looking."""
    rng = np.random.default_rng(0)
    times = np.array([0.12, 0.3, 0.35, 0.5, 0.8, 0.82, 1.0])
    steps = rng.normal(size=(200_000, len(times))) * np.sqrt(np.diff(times, prepend=0))
    z = steps.cumsum(1) / np.sqrt(times)
    ours = (z > obrien_fleming(times.tolist())).any(1).mean()
    assert ours == pytest.approx(0.025, abs=0.0012) and (z > 1.96).any(1).mean() > 0.06


def test_bounds_of_very_early_looks_are_out_of_reach_and_cost_nothing():
    early = obrien_fleming([0.01, 0.05, 0.5, 1])
    assert early[:2] == [math.inf, math.inf] and early[2:] == obrien_fleming([0.5, 1])
    assert obrien_fleming([1.0, 1.0])[1] == math.inf  # all of it was spent


def test_the_level_of_a_look():
    assert look_at(500, [], None) == Look(1, (), None, 0.025)
    assert not look_at(500, [], None).said
    assert not look_at(500, [500, 800], None).said  # the same images again, and more of them: no growth to this
    assert look_at(500, [200], None) == Look(2, (200,), None, pytest.approx(0.025 / 6))
    assert look_at(500, [200, 100, 200], None) == Look(3, (100, 200), None, pytest.approx(0.025 / 12))
    assert look_at(1000, [], 1000).level == pytest.approx(0.025, rel=1e-9)
    assert look_at(500, [], 1000).level == pytest.approx(stats.norm.sf(2.9626), rel=1e-3)
    assert look_at(1000, [500], 1000).level == pytest.approx(stats.norm.sf(1.9686), rel=1e-3)
    assert look_at(1300, [], 1000).level == pytest.approx(0.025, rel=1e-9)  # more came than were planned
    assert look_at(1300, [1000], 1000).level == 0.0  # the plan was carried out, and here is one more look

"""The sliced Wasserstein distance against its definition, scipy's in one dimension, and its own statistics."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from figment.evaluate import mind as module
from figment.evaluate.mind import mind, mind_distance
from sets_of import pair


def by_definition(x: np.ndarray, y: np.ndarray, directions: np.ndarray) -> float:
    """Project, sort, and take the mean squared difference, one direction after another."""
    found = []
    for direction in directions:
        ours, theirs = sorted(float(a @ direction) for a in x), sorted(float(b @ direction) for b in y)
        found.append(np.mean([(a - b) ** 2 for a, b in zip(ours, theirs, strict=True)]))
    return float(np.mean(found))


@pytest.mark.parametrize(("n", "d", "projections"), [(30, 5, 9), (12, 40, 3), (2, 1, 4)])
def test_is_what_the_definition_says_in_blocks_too(n, d, projections, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 2)
    real, generated = (x.astype(float) for x in pair(n, n, d))
    rng = np.random.default_rng(3)
    for _ in range(2):
        rng.permutation(n)  # the draw, of which all are taken
    for _ in range(2):
        rng.permutation(n)  # the groups, of which there are none
    directions = rng.normal(size=(projections, d))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    expected = by_definition(real, generated, directions)
    assert mind_distance(real, generated, 3, projections) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("shift", [0.5, 3.0])
def test_in_one_dimension_a_shift_is_what_scipy_says_squared(shift):
    x = np.random.default_rng(0).normal(size=(40, 1))
    assert mind_distance(x, x + shift) == pytest.approx(wasserstein_distance(x[:, 0], x[:, 0] + shift) ** 2, rel=1e-9)


def test_of_a_shift_in_d_dimensions_each_direction_sees_its_part():
    x = np.random.default_rng(0).normal(size=(50, 8))
    assert 8 * mind_distance(x, x + 1.0, projections=4000) == pytest.approx(8.0, rel=0.1)


def test_intervals_hold_the_average_of_other_draws_and_floors_are_lower():
    drawn = [mind(*pair(80, 90, 4, 0.5, 1.0, seed), "x", 0) for seed in range(25)]
    values = np.array([one.value for one in drawn])
    assert np.mean([one.ci[0] <= values.mean() <= one.ci[1] for one in drawn]) >= 0.85
    told = drawn[0].details
    assert drawn[0].n == 80 and told["floor_n"] == 40
    assert told["at_floor_n"] > 2 * max(told["floor_real"], told["floor_generated"])

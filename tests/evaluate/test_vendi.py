"""The Vendi score against its definition, the reference package's numbers, and its own statistics."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ortho_group

from figment.evaluate.vendi import vendi, vendi_score
from sets_of import pair


def by_definition(x: np.ndarray) -> float:
    """Friedman and Dieng 2023, definition 3.1: the whole matrix of cosines."""
    x = x.astype(float) / np.linalg.norm(x.astype(float), axis=1, keepdims=True)
    eigenvalues = np.linalg.eigvalsh(np.array([[a @ b for b in x] for a in x]) / len(x))
    return float(np.exp(-sum(p * np.log(p) for p in eigenvalues if p > 1e-12)))


@pytest.mark.parametrize(("n", "d"), [(30, 4), (12, 40), (1, 3), (9, 9)])
def test_is_what_the_paper_defines(n, d):
    x = pair(n, 1, d)[0]
    assert vendi_score(x) == pytest.approx(by_definition(x), rel=1e-6)


@pytest.mark.parametrize(("n", "d", "theirs"), [(50, 8, 7.397530721258968), (20, 64, 17.630765905431282)])
def test_gives_the_numbers_of_the_reference_package(n, d, theirs):
    """vendi-score 0.0.3, ``vendi.score_X``, on rows of float64."""
    assert vendi_score(pair(n, 1, d)[0]) == pytest.approx(theirs, rel=1e-9)


def test_copies_are_one_image_and_what_has_nothing_in_common_is_counted():
    assert vendi_score(np.tile([1.0, 2.0, 3.0], (7, 1))) == pytest.approx(1)
    assert vendi_score(5 * ortho_group.rvs(6, random_state=0)) == pytest.approx(6)


@pytest.mark.parametrize(("n", "d"), [(100, 6), (40, 60)])
def test_intervals_hold_the_average_of_other_draws(n, d):
    drawn = [vendi(*pair(n, n, d, 0.5, 1.0, seed), "x", seed) for seed in range(40)]
    values = np.array([one.value for one in drawn])
    assert np.mean([one.ci[0] <= values.mean() <= one.ci[1] for one in drawn]) >= 0.85
    assert np.mean([one.details["standard_error"] for one in drawn]) == pytest.approx(np.log(values).std(), rel=0.5)


def test_the_real_images_stand_beside_it_at_the_same_size():
    real, generated = pair(300, 200, 8, 3.0, 0.5)
    told = vendi(real, generated, "x").details
    assert told["floor_n"] == 100 and told["of_real"] > 2 * told["at_floor_n"]
    assert max(told["floor_real"], told["floor_generated"]) < 0.1 * told["of_real"]

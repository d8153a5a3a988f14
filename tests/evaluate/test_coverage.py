"""Coverage and density against the paper's definition, the reference package's numbers, and their own statistics."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest
import torch
from torch_fidelity.metric_prc import prc_features_to_metric

import sets_of
from figment.errors import FigmentError
from figment.evaluate import coverage as module
from figment.evaluate.coverage import coverage, covered


def by_definition(real: np.ndarray, generated: np.ndarray, k: int) -> tuple[float, float]:
    """Naeem et al. 2020, equations 3 and 4, one pair of images after another."""
    inside = np.zeros((len(real), len(generated)), bool)
    for i, x in enumerate(real):
        radius = sorted(np.linalg.norm(x - other) for j, other in enumerate(real) if j != i)[k - 1]
        inside[i] = [np.linalg.norm(x - y) < radius for y in generated]
    return inside.any(1).mean(), inside.sum() / (k * len(generated))


def pair(n: int, m: int, d: int, shift: float, scale: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), shift + scale * rng.normal(size=(m, d))


@pytest.mark.parametrize(
    ("n", "m", "d", "k"), [(30, 30, 3, 5), (23, 41, 8, 1), (41, 7, 2, 3), (12, 12, 40, 11), (25, 1, 4, 5)]
)
def test_is_what_the_paper_defines_in_blocks_too(n, m, d, k, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 7)
    real, generated = pair(n, m, d, 0.4, 0.8)
    found = covered(real.astype(np.float32), generated.astype(np.float32), k)
    assert (found.coverage, found.density) == pytest.approx(
        by_definition(real.astype(np.float32), generated.astype(np.float32), k), abs=1e-12
    )


@pytest.mark.parametrize(
    ("n", "m", "d", "shift", "scale", "k", "theirs"),
    [
        (300, 250, 16, 0.3, 0.8, 5, (0.9333333333333333, 1.7328)),
        (120, 200, 4, 1.0, 1.5, 3, (0.7, 0.4066666666666666)),
        (90, 90, 64, 0.2, 1.0, 10, (1.0, 0.76)),
    ],
)
def test_gives_the_numbers_of_the_reference_package(n, m, d, shift, scale, k, theirs):
    """prdc 0.2, ``compute_prdc(real, generated, k)``."""
    found = covered(*pair(n, m, d, shift, scale), k)
    assert (found.coverage, found.density) == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_images_of_one_kind_cover_nearly_all_of_each_other(k):
    both = [covered(*pair(300, 300, 6, 0.0, 1.0, seed), k) for seed in range(5)]
    assert np.mean([one.coverage for one in both]) == pytest.approx(1 - 2.0**-k, abs=0.03)
    assert np.mean([one.density for one in both]) == pytest.approx(1, abs=0.1)


def test_images_that_are_all_alike_are_dense_and_cover_little():
    found, fair = covered(*pair(200, 200, 4, 0.0, 0.3)), covered(*pair(200, 200, 4, 0.0, 1.0))
    assert found.density > 1.1 * fair.density and found.coverage < fair.coverage / 2


def test_moving_turning_and_stretching_all_changes_nothing():
    real, generated = pair(80, 60, 5, 0.5, 1.0)
    turn = 3 * np.linalg.qr(np.random.default_rng(1).normal(size=(5, 5)))[0]
    assert covered(real @ turn + 100, generated @ turn + 100) == covered(real, generated)


def test_of_sets_of_different_sizes_as_many_are_drawn_and_that_is_told():
    real, generated = pair(70, 200, 4, 0.3, 1.0)
    own, density, *others = coverage(real, generated, "an encoder", seed=3)
    assert (own.metric, density.metric, own.n, density.n) == ("coverage", "density", 70, 70)
    told = {name: own.details[name] for name in ("floor_n", "at_floor_n", "floor_real", "floor_generated")}
    assert told["floor_n"] == 35
    assert own.details | {"standard_error": 0} == {
        **told,
        "extractor": "an encoder",
        "k": 5,
        "n_real": 70,
        "n_generated": 200,
        "repeated": 0.0,
        "standard_error": 0,
    }
    assert coverage(real, generated, "an encoder", seed=3) == [own, density, *others]
    assert coverage(real, generated, "an encoder", seed=4)[0] != own
    assert {one.n for one in coverage(real, generated, "an encoder", most=50)} == {50}
    assert own.ci[0] <= own.value <= own.ci[1] <= 1
    for real_ones, low, high in ((generated + 99, 0.0, 0.1), (generated[:70].repeat(1, 0), 0.9, 1.0)):
        ends = coverage(real_ones[:70], generated[:70], "x")[0].ci
        assert low <= ends[0] < ends[1] <= high  # none and all: no interval without width


@pytest.mark.parametrize(("shift", "scale"), [(0.5, 0.8), (1.5, 1.0)])
def test_intervals_hold_the_average_of_other_draws(shift, scale):
    drawn = [coverage(*pair(60, 60, 6, shift, scale, seed), "x", seed) for seed in range(40)]
    for which in range(4):
        values = np.array([one[which].value for one in drawn])
        held = [one[which].ci[0] <= values.mean() <= one[which].ci[1] for one in drawn]
        errors = np.array([one[which].details["standard_error"] for one in drawn])
        assert np.mean(held) >= 0.9 and values.std() / 1.5 < errors.mean() < 2.5 * values.std()


def test_a_real_image_that_is_there_more_than_k_times_is_covered_by_nothing_and_counted():
    real, generated = pair(40, 40, 3, 0.0, 1.0)
    real[:7] = real[0]
    own = coverage(real, np.concatenate([real[:7], generated[7:]]), "x")[0]
    assert own.details["repeated"] == 7 / 40
    assert coverage(real, real, "x")[0].value == 33 / 40  # all but the copies, of themselves


@pytest.mark.parametrize(
    ("real", "generated", "k", "said"),
    [
        (np.zeros((5, 3)), np.zeros((5, 4)), 2, r"same encoder.*\(5, 3\) and \(5, 4\)"),
        (np.zeros(5), np.zeros((5, 4)), 2, "same encoder"),
        (np.zeros((5, 3)), np.zeros((0, 3)), 2, "same encoder"),
        (np.zeros((5, 3)), np.zeros((5, 3)), 5, "k = 5 needs more than 5 real images, and there are 5"),
        (np.zeros((5, 3)), np.zeros((5, 3)), 0, "k = 0"),
        (np.full((5, 3), np.nan), np.zeros((5, 3)), 2, "NaN or infinite"),
    ],
)
def test_what_cannot_be_measured_is_said(real, generated, k, said):
    with pytest.raises(FigmentError, match=said):
        covered(real, generated, k)


def test_too_few_images_for_an_interval_are_said():
    with pytest.raises(
        FigmentError, match="k = 5 needs 20 real and 20 generated images or more, and there are 30 and 19"
    ):
        coverage(*pair(30, 19, 3, 0, 1), "x")


@pytest.mark.parametrize(("n", "m", "d", "k"), [(30, 30, 3, 5), (23, 41, 8, 1), (41, 12, 2, 3)])
def test_precision_and_recall_are_what_their_paper_defines(n, m, d, k):
    """Kynkaanniemi et al. 2019, equations 1 and 2, one image after another."""

    def share_in(points, balls):
        radii = [
            sorted(np.linalg.norm(x - other) for j, other in enumerate(balls) if j != i)[k - 1]
            for i, x in enumerate(balls)
        ]
        return np.mean([any(np.linalg.norm(y - x) < r for x, r in zip(balls, radii, strict=True)) for y in points])

    real, generated = pair(n, m, d, 0.4, 0.8)
    found = covered(real, generated, k)
    assert (found.precision, found.recall) == (share_in(generated, real), share_in(real, generated))
    exchanged = covered(generated, real, k)
    assert (exchanged.precision, exchanged.recall) == (found.recall, found.precision)


@pytest.mark.parametrize(("n", "m", "d"), [(200, 150, 6), (80, 80, 40)])
def test_precision_and_recall_are_those_of_torch_fidelity(n, m, d):
    """Which takes the generated set first, and 3 neighbours."""
    real, generated = pair(n, m, d, 0.8, 0.9)
    theirs = prc_features_to_metric(torch.from_numpy(generated), torch.from_numpy(real), verbose=False)
    found = covered(real, generated, 3)
    ours = found.precision, found.recall, found.f1
    assert ours == pytest.approx((theirs["precision"], theirs["recall"], theirs["f_score"]), rel=1e-4)
    assert 0 < found.recall < 1 or 0 < found.precision < 1


@pytest.mark.parametrize(
    ("n", "m", "d", "k", "theirs"),
    [
        (300, 250, 16, 5, (0.9066666666666666, 1.1176, 0.908, 0.6966666666666667)),
        (120, 200, 4, 3, (0.9166666666666666, 1.0766666666666667, 0.925, 0.8666666666666667)),
        (90, 90, 64, 10, (1.0, 1.4455555555555557, 0.9777777777777777, 0.6)),
    ],
)
def test_all_four_are_those_of_the_reference_package(n, m, d, k, theirs):
    """prdc 0.2, on rows of float64."""
    assert astuple(covered(*sets_of.pair(n, m, d), k)) == pytest.approx(theirs, abs=1e-12)


def test_a_group_that_holds_all_near_images_is_left_out_exactly():
    """The few nearest that are looked at first are then not enough."""
    real, generated = pair(60, 60, 2, 0.0, 1.0)
    of_real = np.arange(60) % 3
    real[of_real == 0] = 0.001 * real[of_real == 0]  # a third of the images in one spot, all of one group
    of_generated = np.arange(60) % 3
    found = module._without_groups(real, generated, 5, (of_real, of_generated), 3)
    for g in range(3):
        assert found[g + 1] == covered(real[of_real != g], generated[of_generated != g], 5)

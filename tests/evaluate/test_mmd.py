"""KID and CMMD against their papers' definitions, torch-fidelity, and their own statistics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch_fidelity.metric_kid import kernel_rbf, kid_features_to_metric, mmd2

from figment.evaluate import mmd
from figment.evaluate.mmd import cmmd, kid
from sets_of import pair


def kid_by_definition(x: np.ndarray, y: np.ndarray) -> float:
    """Binkowski et al. 2018, section 4, one pair of images after another."""

    def k(a, b):
        return (float(a.astype(float) @ b.astype(float)) / len(a) + 1) ** 3

    own = np.mean([k(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j])
    theirs = np.mean([k(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j])
    return own + theirs - 2 * np.mean([k(a, b) for a in x for b in y])


def cmmd_by_definition(x: np.ndarray, y: np.ndarray) -> float:
    """Jayasumana et al. 2024, section 4.2, with every image paired with itself too."""
    x, y = (v.astype(float) / np.linalg.norm(v.astype(float), axis=1, keepdims=True) for v in (x, y))

    def mean(a, b):
        return np.mean([np.exp(-np.square(p - q).sum() / 200) for p in a for q in b])

    return 1000 * (mean(x, x) + mean(y, y) - 2 * mean(x, y))


SIZES = [(30, 30, 8), (23, 41, 3), (41, 12, 40), (4, 5, 2)]


@pytest.mark.parametrize(("n", "m", "d"), SIZES)
@pytest.mark.parametrize(("measure", "definition"), [(kid, kid_by_definition), (cmmd, cmmd_by_definition)])
def test_is_what_the_paper_defines_in_blocks_too(measure, definition, n, m, d, monkeypatch):
    monkeypatch.setattr(mmd, "BLOCK", 7)
    real, generated = pair(n, m, d)
    found = measure(real, generated, "x")
    assert found.value == pytest.approx(definition(real, generated), rel=1e-4, abs=1e-5)
    assert (found.metric, found.n) == (f"{measure.__name__}/x", min(n, m))
    assert found.ci[0] <= found.value <= found.ci[1]


@pytest.mark.parametrize(("n", "d"), [(200, 64), (90, 300)])
def test_kid_is_the_one_of_torch_fidelity_with_all_images_as_its_subset(n, d):
    real, generated = pair(n, n, d)
    theirs = kid_features_to_metric(
        torch.from_numpy(generated), torch.from_numpy(real), kid_subsets=1, kid_subset_size=n, verbose=False
    )
    assert kid(real, generated, "x").value == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-4)


@pytest.mark.parametrize(("n", "d"), [(60, 8), (20, 100)])
def test_cmmd_is_torch_fidelitys_biased_estimate_with_its_rbf_kernel_on_unit_rows(n, d):
    x, y = (v.astype(float) / np.linalg.norm(v.astype(float), axis=1, keepdims=True) for v in pair(n, n, d))
    pairs = (x, x), (x, y), (y, y)
    theirs = mmd2(*(kernel_rbf(a, b, kid_kernel_rbf_sigma=10.0) for a, b in pairs), mmd_est="biased")
    assert cmmd(*pair(n, n, d), "x").value == pytest.approx(1000 * theirs, rel=1e-4)


def test_kid_is_what_the_subsets_of_torch_fidelity_average_to():
    real, generated = pair(400, 400, 16)
    theirs = kid_features_to_metric(
        torch.from_numpy(generated), torch.from_numpy(real), kid_subsets=100, kid_subset_size=100, verbose=False
    )
    near = 3 * theirs["kernel_inception_distance_std"] / 10
    assert kid(real, generated, "x").value == pytest.approx(theirs["kernel_inception_distance_mean"], abs=near)


@pytest.mark.parametrize(("measure", "times"), [(kid, 2), (cmmd, 1.5)])
def test_intervals_hold_the_average_of_other_draws_and_floors_are_lower(measure, times):
    drawn = [measure(*pair(80, 80, 6, 0.25, 1.0, seed), "x", seed) for seed in range(40)]
    values = np.array([one.value for one in drawn])
    assert np.mean([one.ci[0] <= values.mean() <= one.ci[1] for one in drawn]) >= 0.85
    assert np.mean([one.details["standard_error"] for one in drawn]) == pytest.approx(values.std(), rel=0.35)
    told = {
        name: np.mean([one.details[name] for one in drawn]) for name in ("at_floor_n", "floor_real", "floor_generated")
    }
    assert told["at_floor_n"] > times * max(told["floor_real"], told["floor_generated"])
    assert drawn[0].details["floor_n"] == 40


@pytest.mark.parametrize("measure", [kid, cmmd])
def test_floors_are_of_the_size_they_name_where_one_set_is_far_larger(measure):
    """Of images of one kind all three are alike, up to the spread of so few."""
    drawn = [measure(*pair(600, 40, 8, 0.0, 1.0, seed), "x", seed).details for seed in range(30)]
    at, *floors = (np.array([one[name] for one in drawn]) for name in ("at_floor_n", "floor_real", "floor_generated"))
    for own in floors:
        assert abs(own.mean() - at.mean()) < 4 * np.hypot(own.std(), at.std()) / np.sqrt(30)
        assert 0.75 < own.std() / at.std() < 3  # which is a mean of two


def test_kid_of_one_kind_is_about_nothing_on_average():
    values = [kid(*pair(60, 60, 5, 0.0, 1.0, seed), "x").value for seed in range(60)]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(60)

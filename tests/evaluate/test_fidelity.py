"""The Fréchet distance against the textbook, an installed library and its own statistics."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import scipy.linalg
from sklearn.metrics import accuracy_score, f1_score

from figment.errors import FigmentError
from figment.evaluate.fidelity import frechet, frechet_distance, recognisability
from figment.evaluate.sets import dealt, jackknife


def features(n: int, dimensions: int, seed: int, shift: float = 0.0, scale: float = 1.0) -> np.ndarray:
    """Correlated features, the same correlation for every seed."""
    mixing = np.random.default_rng(99).normal(size=(dimensions, dimensions)) / np.sqrt(dimensions)
    return np.random.default_rng(seed).normal(size=(n, dimensions)) @ mixing * scale + shift


def with_moments(n: int, mean: np.ndarray, deviations: np.ndarray) -> np.ndarray:
    """Features whose sample mean and (diagonal) sample covariance are exactly these."""
    x = np.random.default_rng(0).normal(size=(n, len(mean)))
    x -= x.mean(axis=0)
    orthogonal = np.linalg.qr(x)[0] * np.sqrt(n - 1)
    return orthogonal * deviations + mean


def statistics(x: np.ndarray) -> dict[str, np.ndarray]:
    return {"mu": x.mean(axis=0), "sigma": np.cov(x, rowvar=False)}


def test_two_gaussians_with_diagonal_covariances_have_a_closed_form():
    mean_a, mean_b = np.array([0.0, 1.0, -2.0]), np.array([0.5, 1.0, 1.0])
    deviations_a, deviations_b = np.array([1.0, 0.5, 3.0]), np.array([2.0, 0.0, 1.0])
    a, b = with_moments(50, mean_a, deviations_a), with_moments(80, mean_b, deviations_b)
    expected = np.square(mean_a - mean_b).sum() + np.square(deviations_a - deviations_b).sum()
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("n, m", [(400, 300), (64, 500)])
def test_agrees_with_scipys_matrix_root(n, m):
    a, b = features(n, 24, 1), features(m, 24, 2, shift=0.1, scale=1.3)
    sa, sb = statistics(a), statistics(b)
    trace = np.trace(np.real(scipy.linalg.sqrtm(sa["sigma"] @ sb["sigma"])))
    gap = sa["mu"] - sb["mu"]
    expected = gap @ gap + np.trace(sa["sigma"]) + np.trace(sb["sigma"]) - 2 * trace
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)


def test_agrees_with_torch_fidelity():
    metric_fid = pytest.importorskip("torch_fidelity.metric_fid")
    a, b = features(500, 32, 3), features(400, 32, 4, shift=0.2)
    theirs = metric_fid.fid_statistics_to_metric(statistics(a), statistics(b), verbose=False)
    assert frechet_distance(a, b) == pytest.approx(theirs["frechet_inception_distance"], rel=1e-9)


@pytest.mark.parametrize("n", [200, 12])
def test_a_set_is_at_no_distance_from_itself_also_with_fewer_images_than_dimensions(n):
    a = features(n, 48, 5)
    assert frechet_distance(a, a) < 1e-12
    assert frechet_distance(a, a[::-1].astype(np.float32)) < 1e-9  # order does not matter, and float32 is taken too


def test_is_symmetric_and_is_moved_by_no_rotation():
    a, b = features(40, 16, 6), features(30, 16, 7, scale=2.0)
    rotation = np.linalg.qr(np.random.default_rng(8).normal(size=(16, 16)))[0]
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-12)
    assert frechet_distance(a @ rotation, b @ rotation) == pytest.approx(frechet_distance(a, b), rel=1e-12)


def test_the_excess_of_small_sets_is_what_the_docstring_says():
    rng, d, n, m = np.random.default_rng(9), 8, 200, 300
    measured = np.mean([frechet_distance(rng.normal(size=(n, d)), rng.normal(size=(m, d))) for _ in range(100)])
    assert measured == pytest.approx((d + d * (d + 1) / 4) * (1 / n + 1 / m), rel=0.1)


def test_the_interval_holds_the_average_of_other_draws_and_the_excess_is_taken_off():
    rng, d, shift = np.random.default_rng(10), 8, 0.15
    results = [frechet(rng.normal(size=(150, d)) + shift, rng.normal(size=(200, d)), "x", seed=k) for k in range(60)]
    values, average = [r.value for r in results], np.mean([r.value for r in results])
    assert np.mean([r.ci[0] <= average <= r.ci[1] for r in results]) >= 0.85
    assert np.mean([r.details["standard_error"] for r in results]) == pytest.approx(np.std(values), rel=0.35)
    true = d * shift**2
    assert average > 1.5 * true
    assert np.mean([r.details["without_excess"] for r in results]) == pytest.approx(true, rel=0.15)


def at_once(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """The distance and its standard error from whole sets in float64: centred, and their QR decompositions with both factors."""
    x, y = (one.astype(np.float64) - one.mean(axis=0, dtype=np.float64) for one in (a, b))
    (q, r), (p, s) = np.linalg.qr(x), np.linalg.qr(y)
    r, s = r / np.sqrt(len(a) - 1), s / np.sqrt(len(b) - 1)
    u, values, vt = np.linalg.svd(r @ s.T)
    gap = a.mean(axis=0, dtype=np.float64) - b.mean(axis=0, dtype=np.float64)
    of_a = 2 * x @ gap + np.einsum("nd,nd->n", x - np.sqrt(len(a) - 1) * q @ (u @ vt @ s), x)
    of_b = -2 * y @ gap + np.einsum("nd,nd->n", y - np.sqrt(len(b) - 1) * p @ ((u @ vt).T @ r), y)
    error = np.sqrt(of_a.var(ddof=1) / len(a) + of_b.var(ddof=1) / len(b))
    return gap @ gap + np.square(r).sum() + np.square(s).sum() - 2 * values.sum(), error


@pytest.mark.parametrize(("n", "m", "scale"), [(5_000, 3_000, 1.3), (5_000, 1_100, 1.0), (40, 3_000, 2.0)])
def test_a_set_that_is_gone_through_in_parts_is_as_far_as_at_once(n, m, scale):
    a, b = features(n, 24, 1).astype(np.float32), features(m, 24, 2, shift=0.1, scale=scale).astype(np.float32)
    value, error = at_once(a, b)
    assert frechet_distance(a, b) == pytest.approx(value, rel=1e-9)
    found = frechet(a, b, "x")
    assert (found.value, found.details["standard_error"]) == pytest.approx((value, error), rel=1e-9)


def test_dimensions_that_say_nothing_add_nothing():
    """As dead units of a network, in more images than are looked at once."""
    a, b = features(3_000, 12, 3), features(2_500, 12, 4, shift=0.2)
    wide_a, wide_b = (np.concatenate([x, np.full((len(x), 6), 0.25), x[:, :2]], axis=1) for x in (a, b))
    doubled_a, doubled_b = (np.concatenate([x, x[:, :2]], axis=1) for x in (a, b))
    told, plain = frechet(wide_a, wide_b, "x"), frechet(doubled_a, doubled_b, "x")
    assert told.value == pytest.approx(plain.value, rel=1e-9) == at_once(wide_a, wide_b)[0]
    assert told.details["standard_error"] == pytest.approx(plain.details["standard_error"], rel=1e-6)


def test_large_sets_are_not_copied():
    rng = np.random.default_rng(5)
    a, b = (rng.normal(size=(80_000, 48)).astype(np.float32) for _ in range(2))  # 15 MB each, in float64 31
    tracemalloc.start()
    try:
        frechet(a, b, "x")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < a.nbytes / 2


def test_the_result_says_what_it_was_measured_with():
    a, b = features(90, 16, 11), features(60, 16, 12)
    result = frechet(a, b, "clip-vit-b-16", seed=3)
    assert result == frechet(a, b, "clip-vit-b-16", seed=3)
    assert result.value == frechet_distance(a, b) and result.ci[0] <= result.value <= result.ci[1]
    assert (result.metric, result.n) == ("frechet/clip-vit-b-16", 60)
    assert {k: result.details[k] for k in ("extractor", "n_a", "n_b", "dimensions", "note")} == {
        "extractor": "clip-vit-b-16",
        "n_a": 90,
        "n_b": 60,
        "dimensions": 16,
        "note": "",
    }
    few = frechet(a[:14], b, "x")
    assert few.details["note"].startswith("14 images for 16 dimensions")


@pytest.mark.parametrize(
    "a, b, message",
    [
        (np.zeros((5, 3)), np.zeros((5, 4)), r"\(5, 3\) and \(5, 4\)"),
        (np.zeros((1, 3)), np.zeros((5, 3)), "at least 2 images"),
        (np.zeros(3), np.zeros(3), "shape"),
        (np.zeros((5, 0)), np.zeros((5, 0)), "shape"),
        (np.full((5, 3), np.nan), np.zeros((5, 3)), "NaN"),
    ],
)
def test_features_that_do_not_fit_are_refused(a, b, message):
    with pytest.raises(FigmentError, match=message):
        frechet_distance(a, b)


def test_too_few_images_for_halves_are_refused():
    with pytest.raises(FigmentError, match=r"at least 4 images.*\(3, 3\) and \(30, 3\)|\(30, 3\) and \(3, 3\)"):
        frechet(features(3, 3, 13), features(30, 3, 14), "x")


@pytest.mark.parametrize(("n", "m", "d"), [(300, 200, 6), (60, 60, 20), (30, 40, 50)])
def test_the_interval_is_the_one_of_leaving_out_groups_in_turn(n, m, d):
    """Also where there are fewer images than dimensions."""
    a, b = features(n, d, 15, shift=0.2), features(m, d, 16)
    rng = np.random.default_rng(0)
    of_a, of_b = dealt(n, 20, rng), dealt(m, 20, rng)
    without = [frechet_distance(a[of_a != g], b[of_b != g]) for g in range(20)]
    assert frechet(a, b, "x").details["standard_error"] == pytest.approx(jackknife(np.array(without))[0], rel=0.35)


def test_the_floor_is_what_halves_of_one_kind_are_from_one_another():
    a, b = features(400, 4, 17, shift=1.0), features(300, 4, 18)
    told = frechet(a, b, "x").details
    assert told["floor_n"] == 150 and told["at_floor_n"] > 5 * max(told["floor_real"], told["floor_generated"]) > 0
    same = frechet(features(400, 4, 19), b, "x").details
    assert same["at_floor_n"] < 3 * same["floor_real"]


def test_recognisability_counts_the_images_that_are_called_by_their_own_class():
    logits = np.array([[2.0, 1.0], [0.0, 1.0], [3.0, 0.0], [0.0, 5.0]])
    result = recognisability(logits, np.array([0, 0, 0, 1]), ["cat", "dog"], "clip")
    assert (result.metric, result.value, result.n) == ("recognisability", 0.75, 4)
    assert result.per_class == {"cat": pytest.approx(2 / 3), "dog": 1.0} and result.details["classifier"] == "clip"


@pytest.mark.parametrize("n_classes", [2, 5])
def test_recognisability_is_scikit_learns_accuracy_and_f1(n_classes):
    rng = np.random.default_rng(20)
    labels, found = rng.integers(0, n_classes, 80), rng.integers(0, n_classes, 80)
    result = recognisability(found, labels, [str(c) for c in range(n_classes)], "x")
    assert result.value == pytest.approx(accuracy_score(labels, found), rel=1e-12)
    assert result.details["f1"] == pytest.approx(f1_score(labels, found, average="macro"), rel=1e-12)

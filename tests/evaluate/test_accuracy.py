from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import confusion_matrix

from figment.errors import FigmentError
from figment.evaluate.accuracy import accuracy, correctness, interval, paired_difference, predicted, verdict, wilson
from figment.types import Result

NAMES = ["bag", "coat", "dress"]


def logits_for(predicted: np.ndarray, n_classes: int = 3) -> np.ndarray:
    return np.eye(n_classes, dtype=np.float32)[predicted]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize(("k", "n"), [(0, 7), (7, 7), (3, 11), (830, 1000)])
def test_one_seed_has_the_interval_of_wilson(k, n):
    labels = np.zeros(n, dtype=np.int64)
    result = accuracy(logits_for(np.where(np.arange(n) < k, 0, 1)), labels, NAMES)
    expected = stats.binomtest(k, n).proportion_ci(method="wilson")
    assert result.value == pytest.approx(k / n) and result.n == n
    assert result.ci == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_confusion_per_class_and_per_seed(rng):
    labels, predicted = rng.integers(2, size=40), rng.integers(3, size=(4, 40))  # no test image of the third class
    result = accuracy([logits_for(p) for p in predicted], labels, NAMES, metric="top1", seeds=[5, 6, 7, 8])
    tables = np.array([confusion_matrix(labels, p, labels=[0, 1, 2]) for p in predicted])
    np.testing.assert_allclose(result.details["confusion"], tables.mean(axis=0))
    assert result.details["per_seed"] == pytest.approx((predicted == labels).mean(axis=1).tolist())
    assert result.value == pytest.approx((predicted == labels).mean())
    assert result.per_class == pytest.approx(
        {c: (predicted == labels)[:, labels == i].mean() for i, c in enumerate(NAMES[:2])}
    )
    assert [result.details["classes"][c]["n"] for c in NAMES] == [(labels == 0).sum(), (labels == 1).sum(), 0]
    assert result.details["classes"]["dress"]["ci"] is None
    low, high = result.details["classes"]["bag"]["ci"]
    assert low < result.per_class["bag"] < high
    assert result.metric == "top1" and result.seeds == (5, 6, 7, 8)
    json.dumps(result.details, allow_nan=False)


def test_an_array_of_seeds_is_a_list_of_seeds(rng):
    labels, logits = rng.integers(3, size=30), rng.normal(size=(2, 30, 3))
    assert accuracy(logits, labels, NAMES) == accuracy(list(logits), labels, NAMES)
    np.testing.assert_array_equal(correctness(logits, labels), logits.argmax(-1) == labels)
    assert correctness(logits[0], labels).shape == (1, 30)


def test_seeds_that_agree_leave_the_interval_and_others_widen_it():
    z = stats.norm.ppf(0.975)
    assert interval(np.array([0.8]), 500) == pytest.approx(wilson(0.8, 500, z))
    assert interval(np.array([0.8, 0.8, 0.8]), 500) == pytest.approx(wilson(0.8, 500, z))
    little, much = interval(np.array([0.79, 0.80, 0.81]), 500), interval(np.array([0.7, 0.8, 0.9]), 500)
    low, high = wilson(0.8, 500, z)
    assert much[0] < little[0] < low and high < little[1] < much[1]


def test_where_seeds_are_all_the_variance_it_is_students_interval():
    shares = np.array([0.48, 0.50, 0.53, 0.49])
    low, high = stats.t.interval(0.95, 3, loc=shares.mean(), scale=stats.sem(shares))
    assert interval(shares, 10**9) == pytest.approx((low, high), abs=2e-3)  # Wilson draws towards a half


def test_interval_covers_the_mean_over_seeds_and_images(rng):
    """Three seeds whose accuracies differ; images differ in how hard they are."""
    hit, runs, n = 0, 600, 200
    for _ in range(runs):
        hardness, skill = rng.normal(size=n), 1.0 + 0.15 * rng.normal(size=3)
        right = hardness[None] + rng.normal(size=(3, n)) < skill[:, None]
        low, high = interval(right.mean(axis=1), n)
        hit += low <= stats.norm.cdf(1.0 / math.sqrt(2 + 0.15**2)) <= high
    assert hit / runs >= 0.93


@pytest.mark.parametrize(
    ("logits", "labels", "names", "message"),
    [
        (np.zeros((4, 3)), np.zeros(5, int), NAMES, "labels of"),
        (np.zeros((0, 3)), np.zeros(0, int), NAMES, "at least 1"),
        ([np.zeros((4, 3)), np.zeros((5, 3))], np.zeros(4, int), NAMES, "same for every seed"),
        (np.zeros((4, 3)), np.full(4, 3), NAMES, "0 to 2"),
        (np.zeros((4, 3)), np.zeros(4), NAMES, "whole numbers"),
        (np.full((4, 3), np.nan), np.zeros(4, int), NAMES, "NaN"),
        (np.zeros((4, 3)), np.zeros(4, int), NAMES[:2], "2 class names"),
    ],
)
def test_unsound_predictions_are_refused(logits, labels, names, message):
    with pytest.raises(FigmentError, match=message):
        accuracy(logits, labels, names)


def test_seeds_must_match_the_runs():
    with pytest.raises(FigmentError, match="1 seeds"):
        accuracy(np.zeros((2, 4, 3)), np.zeros(4, int), NAMES, seeds=[1])


# ---- paired differences ----------------------------------------------------------------------------------------------


def pairs(both: int, only_a: int, only_b: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    a = np.repeat([True, True, False, False], [both, only_a, only_b, neither])
    return a, np.repeat([True, False, True, False], [both, only_a, only_b, neither])


@pytest.mark.parametrize("cells", [(50, 4, 12, 34), (0, 0, 5, 5), (10, 0, 0, 0), (3, 7, 0, 0)])
def test_one_seed_has_the_interval_of_bonett_and_price(cells):
    _, only_a, only_b, _ = cells
    n, z = sum(cells), stats.norm.ppf(0.975)
    p_a, p_b = (only_a + 1) / (n + 2), (only_b + 1) / (n + 2)
    half = z * math.sqrt((p_a + p_b - (p_b - p_a) ** 2) / (n + 2))
    result = paired_difference(*pairs(*cells))
    assert result.value == pytest.approx((only_b - only_a) / n)
    assert result.ci == pytest.approx((max(-1, p_b - p_a - half), min(1, p_b - p_a + half)))
    assert (result.details["only_a"], result.details["only_b"]) == pytest.approx((only_a / n, only_b / n))
    json.dumps(result.details, allow_nan=False)


def test_covers_at_95_percent_with_one_seed(rng):
    for p_a, p_b in ((0.05, 0.10), (0.01, 0.01), (0.2, 0.35)):
        counts = rng.multinomial(150, [0.4, p_a, p_b, 0.6 - p_a - p_b], size=1000)
        hits = [low <= p_b - p_a <= high for low, high in (paired_difference(*pairs(*c)).ci for c in counts)]
        assert np.mean(hits) >= 0.935


def test_covers_with_seeds_that_differ_and_would_not_without_them(rng):
    """The seed moves every image of a run a little: with many images that is most of the error."""
    hits, naive_hits, n, runs = 0, 0, 2000, 400
    for _ in range(runs):
        gain = 0.05 + 0.03 * rng.normal(size=(3, 1))
        a, b = rng.random((3, n)) < 0.6, rng.random((3, n)) < 0.6 + gain
        low, high = paired_difference(a, b).ci
        hits += low <= 0.05 <= high
        low, high = paired_difference(a.mean(axis=0), b.mean(axis=0)).ci
        naive_hits += low <= 0.05 <= high
    assert hits / runs >= 0.93
    assert naive_hits / runs < 0.85


def test_one_untuned_run_pairs_with_several_seeds(rng):
    a, b = rng.random(100) < 0.5, rng.random((3, 100)) < 0.6
    result, swapped = paired_difference(a, b, seeds=[1, 2, 3]), paired_difference(b, a)
    assert result.details["per_seed"] == pytest.approx((b.mean(axis=1) - a.mean()).tolist())
    assert result.value == pytest.approx(-swapped.value)
    assert result.ci == pytest.approx((-swapped.ci[1], -swapped.ci[0]))
    assert result.seeds == (1, 2, 3)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (np.ones(3), np.ones(4)),
        (np.ones((2, 4)), np.ones((3, 4))),
        (np.ones(0), np.ones(0)),
        (np.ones(3), np.full(3, 1.5)),
        (np.ones(3), np.full(3, np.nan)),
    ],
)
def test_unsound_pairs_are_refused(a, b):
    with pytest.raises(FigmentError, match="paired difference"):
        paired_difference(a, b)


@pytest.mark.parametrize(
    ("ci", "said"),
    [((0.01, 0.05), "better"), ((-0.05, -0.01), "worse"), ((-0.01, 0.05), "no evidence"), ((0.0, 0.05), "no evidence")],
)
def test_a_side_is_taken_only_where_the_interval_excludes_zero(ci, said):
    assert verdict(Result("accuracy difference", 0.02, 100, ci)) == said


def test_noise_alone_seldom_helps_or_hurts(rng):
    said = [verdict(paired_difference(rng.random(300) < 0.7, rng.random(300) < 0.7)) for _ in range(500)]
    assert said.count("no evidence") >= 0.93 * 500


def test_predictions_are_as_good_as_logits(rng):
    labels, logits = rng.integers(3, size=30), rng.normal(size=(2, 30, 3))
    found = np.stack([predicted(one) for one in logits])
    assert found.dtype == np.int32 and accuracy(found, labels, NAMES) == accuracy(logits, labels, NAMES)
    assert accuracy(found[0], labels, NAMES) == accuracy(logits[:1], labels, NAMES)
    np.testing.assert_array_equal(correctness(found, labels), correctness(logits, labels))
    with pytest.raises(FigmentError, match="Predictions must be whole numbers from 0 to 2"):
        accuracy(np.full(30, 3), labels, NAMES)
    with pytest.raises(FigmentError, match="NaN or infinite"):
        predicted(np.full((30, 3), np.nan))

"""The interval of a difference, for the images and for the draw of the set."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from figment.errors import FigmentError
from figment.evaluate.accuracy import paired_difference
from figment.evaluate.kind import difference, images_for, smallest_visible


def study(seed: int, n: int = 2000, set_sd: float = 0.01, b: int = 20, other: int = 0):
    """A classifier whose accuracy varies by the draw of its set, beside one that is always the same; truth: no difference."""
    rng = np.random.default_rng(seed)
    hard = rng.random(n)
    a = hard < 0.8
    rng = np.random.default_rng([seed, other]) if other else rng  # of the same test images

    def draw() -> np.ndarray:
        moved = rng.random(n) < 0.1
        return np.where(moved, rng.random(n) < 0.8 + 10 * rng.normal(0, set_sd), a)

    return draw().astype(float) - a, np.stack([draw().astype(float) - a for _ in range(b)])


def test_without_sets_it_is_the_interval_of_bonett_and_price():
    rng = np.random.default_rng(0)
    a, b = rng.random(300) < 0.7, rng.random(300) < 0.75
    ours, theirs = difference(b.astype(float) - a), paired_difference(a, b)
    assert ours.value == pytest.approx(theirs.value) and ours.ci == pytest.approx(theirs.ci)
    only_a, only_b = (a & ~b).sum(), (b & ~a).sum()
    assert ours.discordance == pytest.approx((only_a + only_b) / 300)


def test_by_the_formula_step_by_step():
    d, sets = study(3, n=50, b=4)
    n = len(d)
    centre = sum(d) / (n + 2)
    image = ((sum(x * x for x in d) + 2) / (n + 2) - centre**2) / (n + 2)
    means = [sum(row) / n for row in sets]
    between = sum((m - sum(means) / 4) ** 2 for m in means) / 3
    noise = sum(np.var(sets[:, i], ddof=1) for i in range(n)) / n / n
    of_sets = max(0.0, between - noise)
    freedom = (image + of_sets) ** 2 / (of_sets**2 / 3) if of_sets else math.inf
    half = stats.t.ppf(0.975, freedom) * math.sqrt(image + of_sets)
    assert difference(d, resampled=sets).ci == pytest.approx((centre - half, centre + half))


def test_the_interval_of_the_kind_covers_and_that_of_the_images_does_not():
    covered = np.zeros(2)
    for seed in range(300):
        d, sets = study(seed)
        for i, found in enumerate((difference(d), difference(d, resampled=sets))):
            covered[i] += found.ci[0] <= 0 <= found.ci[1]
    assert covered[0] / 300 < 0.8
    assert covered[1] / 300 > 0.9


def test_the_right_labels_are_one_more_shuffle():
    """Placebos that differ a lot among themselves: right labels that are just another of them are not told from their mean."""
    false, simple = 0, 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        correct = rng.random((7, 4000)) < (0.7 + rng.normal(0, 0.03, 7))[:, None]
        found = difference(correct[0] - correct[1:].mean(0), shuffles=correct[1:])
        false += found.ci[0] > 0
        simple += difference(correct[0] - correct[1:].mean(0)).ci[0] > 0
    assert false / 300 <= 0.06 < 0.25 < simple / 300


def test_bursts_count_as_groups():
    rng = np.random.default_rng(0)
    false = np.zeros(2)
    groups = np.repeat(np.arange(80), 5)
    for _ in range(300):
        d = np.repeat(rng.choice([-1.0, 0.0, 1.0], 80, p=[0.1, 0.8, 0.1]), 5)
        false += [difference(d).ci[0] > 0, difference(d, groups=groups).ci[0] > 0]
    assert false[1] / 300 < 0.05 < 0.1 < false[0] / 300


def test_p_agrees_with_the_interval():
    for seed in range(20):
        d, sets = study(seed)
        found = difference(d + 0.01, resampled=sets)
        assert (found.p < 0.025) == (found.ci[0] > 0)


def test_what_does_not_fit_is_refused():
    with pytest.raises(FigmentError, match="one number for each test image"):
        difference(np.zeros(5), resampled=np.zeros((3, 4)))
    with pytest.raises(FigmentError, match="one group"):
        difference(np.zeros(5), groups=np.zeros(5, int))


def test_plans():
    """Four of five studies of so many images find what is said to be visible; and the other way round."""
    found = [round(100 * smallest_visible(n), 2) for n in (200, 500, 2_000, 10_000)]
    assert found == pytest.approx([4.5, 2.9, 1.5, 0.84], abs=0.06)
    for effect in (0.01, 0.03, 0.05):
        n = images_for(effect)
        assert smallest_visible(n) == pytest.approx(effect, rel=0.01)
    assert images_for(0.005) is None  # sets of one recipe differ by as much
    assert [images_for(d, 0.05, 0) for d in (0.01, 0.02, 0.05)] == pytest.approx([3925, 980, 157], rel=0.01)
    rng, effect, n = np.random.default_rng(0), smallest_visible(500, set_se=0), 500
    share = (0.05 + effect) / 2, (0.05 - effect) / 2
    seen = [difference(rng.choice([1.0, -1.0, 0.0], n, p=[*share, 1 - sum(share)])).ci[0] > 0 for _ in range(400)]
    assert 0.7 < np.mean(seen) < 0.9


def test_between_two_recipes_the_sets_of_both_count():
    """What is known of either is put in; the formula step by step, and how often the interval holds the truth."""
    d, first = study(3, n=50, b=4)
    found, ses = difference(d, sets=[(0.02, 20), (0.03, 4)]), (0.02, 0.03)
    image = difference(d).se ** 2
    variance = image + sum(se**2 for se in ses)
    freedom = variance**2 / (0.02**4 / 19 + 0.03**4 / 3)
    half = stats.t.ppf(0.975, freedom) * math.sqrt(variance)
    assert found.ci == pytest.approx((found.centre - half, found.centre + half)) and found.image_se**2 == pytest.approx(
        image
    )
    assert difference(d, sets=[(difference(d, resampled=first).set_se, 4)]).ci == pytest.approx(
        difference(d, resampled=first).ci
    )
    covered = np.zeros(2)
    for seed in range(150):  # two recipes that are alike
        (a, of_a), (b, of_b) = study(seed), study(seed, other=1)
        known = [(difference(x, resampled=sets).set_se, len(sets)) for x, sets in ((a, of_a), (b, of_b))]
        covered += [one.ci[0] <= 0 <= one.ci[1] for one in (difference(b - a), difference(b - a, sets=known))]
    assert covered[0] / 150 < 0.85 and covered[1] / 150 > 0.9

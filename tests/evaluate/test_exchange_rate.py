from __future__ import annotations

import dataclasses
import json
import math
import time

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from figment.errors import FigmentError
from figment.evaluate.exchange_rate import Curve, Draw, crossing, exchange_rate, real_curve
from figment.learners.clip_head.head import Head
from figment.learners.clip_head.settings import FEW_SHOT_STEPS, MixSettings
from figment.learners.clip_head.tune import Chosen, few_shot, tune_many

SHOTS = (1, 2, 4, 8, 16, 32, 64)


def planted(
    accuracies,
    zero_shot: float,
    synthetic: float,
    n: int = 1000,
    draws: int = 5,
    seeds: int = 3,
    seed: int = 0,
    wobble: float = 0.0,
):
    """A curve and synthetic runs of these true accuracies. Runs agree on hard images; draws, seeds wobble."""
    rng = np.random.default_rng(seed)
    hardness = rng.random(n)

    def run(accuracy) -> np.ndarray:
        own = np.where(rng.random(n) < 0.3, rng.random(n), hardness)  # uniform, and correlated over runs
        return own < accuracy

    offsets = wobble * rng.normal(size=draws)
    correct = np.stack([np.stack([run(a + offset) for a in accuracies]) for offset in offsets])
    made = np.stack([run(synthetic + wobble * rng.normal()) for _ in range(seeds)])
    return Curve(SHOTS[: len(accuracies)], correct, run(zero_shot)), made


RISING = [0.60 + 0.05 * k for k in range(7)]  # 0.60 at 1 shot, 0.90 at 64


def exact(accuracies, zero_shot: float, synthetic: float, n: int = 1000) -> tuple[Curve, np.ndarray]:
    """The same without chance: exactly these shares of the images are right."""
    rows = [np.arange(n) < round(a * n) for a in accuracies]
    return Curve(SHOTS[: len(rows)], np.stack([rows] * 3), np.arange(n) < round(zero_shot * n)), np.arange(n) < round(
        synthetic * n
    )


@pytest.mark.parametrize(
    ("synthetic", "worth"),
    [
        (0.60, 1),
        (0.65, 2),
        (0.675, 2 * math.sqrt(2)),
        (0.80, 16),
        (0.85, 32),
        (0.90, 64),
        (0.901, math.inf),
        (0.599, 0),
        (0.5, 0),
    ],
)
def test_meets_the_curve_where_it_should(synthetic, worth):
    result = exchange_rate(*exact(RISING, 0.55, synthetic), n_bootstrap=50)
    assert result.value == pytest.approx(worth)
    assert result.ci[0] <= result.value <= result.ci[1] and result.n == 1000


def words(x: float) -> str:
    """Two significant figures, without trailing zeros, for numbers up to 99."""
    return f"{float(f'{x:.2g}'):g}"


def test_text_of_an_ordinary_answer():
    result = exchange_rate(*planted(RISING, 0.55, 0.775), n_bootstrap=500)
    low, high = result.ci
    assert 1 < low < result.value < high < 64
    assert (
        result.details["text"]
        == f"about {words(result.value)} real photographs a class ({words(low)} to {words(high)})"
    )
    assert [words(x) for x in (11.31, 9.96, 3.0, 1.44)] == ["11", "10", "3", "1.4"]


def test_text_beyond_the_largest_number_of_shots():
    result = exchange_rate(*exact(RISING, 0.55, 0.99), n_bootstrap=200)
    assert result.value == math.inf and result.ci == (math.inf, math.inf)
    assert result.details["text"] == "more than 64 real photographs a class" and result.details["beyond"] == 1


def test_text_below_one_shot():
    result = exchange_rate(*exact([0.7, 0.8, 0.9], 0.3, 0.5), n_bootstrap=200)
    assert result.value == 0 and result.ci == (0, 0)
    assert result.details["text"] == "less than 1 real photograph a class" and result.details["below"] == 1


def test_text_at_the_edges_of_the_curve():
    low = exchange_rate(*planted(RISING, 0.55, 0.59, n=300), n_bootstrap=300)
    assert low.value == 0 and low.ci[1] > 1
    assert low.details["text"] == f"less than 1 real photograph a class ({words(low.ci[1])} at the most)"
    high = exchange_rate(*planted(RISING, 0.55, 0.93, n=300), n_bootstrap=300)
    assert high.value == math.inf and high.ci[0] < 64
    assert high.details["text"] == f"more than 64 real photographs a class ({words(high.ci[0])} at the least)"
    flat = exchange_rate(*planted([0.7] * 7, 0.7, 0.7, n=300), n_bootstrap=300)
    assert flat.ci == (0, math.inf) and flat.details["text"].startswith(
        "anything from less than 1 to more than 64 real "
    )
    inside = exchange_rate(*planted([0.70, 0.71, 0.72], 0.6, 0.71, n=200), n_bootstrap=300)
    assert "less than 1 to more than 4" in inside.details["text"] or inside.ci == (0, math.inf)


def test_text_where_more_photographs_change_nothing():
    level = exchange_rate(*exact([1.0] * 7, 0.5, 1.0))
    assert level.details["text"] == "as much as any number of real photographs: more of them do not help it here"
    assert exchange_rate(*exact([1.0] * 7, 0.5, 0.9)).details["text"] == "less than 1 real photograph a class"
    assert "(1 to 1)" in exchange_rate(*exact([1.0], 0.5, 1.0)).details["text"]  # one number is no curve


def test_below_the_untuned_classifier_is_worth_nothing():
    curve, made = exact([0.60, 0.65, 0.75], 0.70, 0.68)  # the first shots hurt, so that 0.68 does lie on the curve
    result = exchange_rate(curve, made, n_bootstrap=300)
    assert result.value == 0


def test_equal_to_the_untuned_classifier_is_worth_nothing():
    assert exchange_rate(*exact(RISING, 0.62, 0.62), n_bootstrap=20).value == 0


def test_isotonic_step_is_that_of_scikit_learn():
    rng = np.random.default_rng(1)
    curves, targets = rng.random((50, 7)), rng.random(50)
    got = crossing(SHOTS, curves, np.zeros(50), targets)
    for curve, target, answer in zip(curves, targets, got, strict=True):
        risen = IsotonicRegression().fit_transform(np.arange(7), curve)
        if target < risen[0]:
            assert answer == 0
        elif target > risen[-1]:
            assert answer == math.inf
        else:
            assert np.interp(np.log2(answer), np.arange(7), risen) == pytest.approx(target)
            assert (
                answer == 1 or np.interp(np.log2(answer) - 1e-6, np.arange(7), risen) < target
            )  # the first such point


def test_a_single_number_of_shots():
    assert crossing((5,), np.full((3, 1), 0.5), np.zeros(3), np.array([0.4, 0.5, 0.6])).tolist() == [0, 5, math.inf]


@pytest.mark.parametrize(("n", "wobble", "factor"), [(800, 0.01, 4), (2000, 0.03, 30)])
def test_interval_covers_the_planted_crossing(n, wobble, factor):
    """Images, draws and seeds vary, in the second case mostly the few draws and seeds; the planted answer is 8."""
    cis = []
    for seed in range(150):
        arms = planted(RISING, 0.5, 0.75, n=n, wobble=wobble, seed=seed)
        cis.append(exchange_rate(*arms, n_bootstrap=200, seed=seed).ci)
    assert np.mean([low <= 8 <= high for low, high in cis]) >= 0.94
    assert np.median([high / low if low else math.inf for low, high in cis]) < factor  # and it says something


def test_draws_and_seeds_are_part_of_the_interval():
    steady = exchange_rate(*planted(RISING, 0.5, 0.75, n=2000, seed=3), n_bootstrap=400)
    shaky = exchange_rate(*planted(RISING, 0.5, 0.75, n=2000, wobble=0.03, seed=3), n_bootstrap=400)
    assert math.log2(shaky.ci[1] / shaky.ci[0]) > 1.5 * math.log2(steady.ci[1] / steady.ci[0])


def test_bootstrap_has_the_spread_of_the_binomial():
    curve, made = exact([0.6, 0.7], 0.5, 0.65, n=400)
    points = exchange_rate(curve, made, n_bootstrap=4000).details["curve"]
    half = 1.96 * math.sqrt(0.6 * 0.4 / 400)
    assert points[0]["ci"] == pytest.approx([0.6 - half, 0.6 + half], abs=0.006)
    assert points[0]["shots"] == 1 and points[0]["per_draw"] == pytest.approx([0.6] * 3)


def test_details_are_json_and_the_seed_decides():
    arms = planted(RISING, 0.55, 0.95, n=300)
    a, b = (exchange_rate(*arms, n_bootstrap=260, seed=4) for _ in range(2))
    assert a == b
    json.dumps(a.details, allow_nan=False)
    assert a.details["synthetic"] == pytest.approx(arms[1].mean())


def test_full_size_is_quick():
    arms = planted(RISING, 0.55, 0.78, n=10_000)
    start = time.process_time()
    exchange_rate(*arms)
    assert time.process_time() - start < 4  # about 1 s on one core; the margin is for busy machines


def test_other_test_images_are_refused():
    curve, made = exact(RISING, 0.5, 0.7)
    with pytest.raises(FigmentError, match="1000 test images"):
        exchange_rate(curve, made[:-1])


# ---- the curve of real images --------------------------------------------------------------------------------------


def real_task(per_class: int = 70, n_test: int = 600):
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(4, 16))

    def images(labels):
        return (centres[labels] + 1.3 * rng.normal(size=(len(labels), 16))).astype(np.float32), labels

    head = Head.from_texts(centres + 1.5 * rng.normal(size=centres.shape), logit_scale=10.0)
    return head, *images(rng.permutation(np.repeat(np.arange(4), per_class))), *images(rng.integers(4, size=n_test))


class Recorder:
    """A learner that learns nothing and remembers what it was asked."""

    def __init__(self, n_test: int = 600):
        self.calls: list[list[Draw]] = []
        self.answer = np.zeros(n_test, int)

    def __call__(self, trainings):
        self.calls.append(list(trainings))
        return [self.answer for _ in trainings]


def curve_of(arms, learn, **settings) -> Curve:
    _, _, labels, test_features, test_labels = arms
    return real_curve(labels, test_labels, learn, arms[0].predict(test_features).argmax(1), **settings)


def test_draws_are_nested_balanced_and_differ():
    arms, learner = real_task(), Recorder()
    curve = curve_of(arms, learner, shots=(4, 1, 2), draws=3, seed=9)
    assert curve.shots == (1, 2, 4) and curve.correct.shape == (3, 3, 600) and curve.correct.dtype == bool
    (asked,) = learner.calls  # all at once
    assert len(asked) == 9 and not curve.note
    sets = [set(d.index.tolist()) for d in asked]
    for draw in range(3):
        one, two, four = sets[3 * draw : 3 * draw + 3]
        assert one < two < four
    assert sets[2] != sets[5] != sets[8]
    for d, k in zip(asked, [1, 2, 4] * 3, strict=True):
        assert np.bincount(arms[2][d.index]).tolist() == [k] * 4
    assert [d.seed for d in asked] == [9] * 3 + [10] * 3 + [11] * 3


def test_answers_go_to_their_draw_and_shots():
    arms = real_task()
    test_labels = arms[4]

    def learn(trainings):
        for i, _ in enumerate(trainings):  # the i-th is right on the first i images
            yield np.where(np.arange(600) < i, test_labels, test_labels + 1)

    curve = curve_of(arms, learn, shots=(1, 2), draws=3)
    assert curve.correct.sum(2).tolist() == [[0, 1], [2, 3], [4, 5]]


def test_a_draw_does_not_depend_on_the_other_shots():
    arms, a, b = real_task(), Recorder(), Recorder()
    curve_of(arms, a, shots=(2,), draws=1)
    curve_of(arms, b, shots=(1, 2, 8), draws=2)
    np.testing.assert_array_equal(a.calls[0][0].index, b.calls[0][1].index)


def test_shots_stop_at_the_smallest_class_and_the_curve_says_so():
    head, features, labels, *test = real_task(per_class=20)
    keep = np.flatnonzero((labels != 2) | (np.cumsum(labels == 2) <= 9))  # 9 images of class 2
    curve = curve_of((head, features[keep], labels[keep], *test), Recorder(), draws=1)
    assert curve.shots == (1, 2, 4, 8)
    assert curve.note == "Left out 16, 32, 64 shots: the smallest class has 9 real images."
    result = exchange_rate(curve, np.ones(600, bool), n_bootstrap=10)
    assert result.details["text"] == "more than 8 real photographs a class" and result.details["note"] == curve.note


def test_without_an_untrained_classifier_nothing_is_compared_with_it():
    curve, made = exact([0.60, 0.65, 0.75], 0.70, 0.68)
    result = exchange_rate(dataclasses.replace(curve, zero_shot=None), made, n_bootstrap=300)
    assert exchange_rate(curve, made, n_bootstrap=300).value == 0
    assert 2 < result.value < 4 and result.ci[0] > 0
    assert "untuned" not in result.details["text"] and result.details["zero_shot"] is None
    json.dumps(result.details, allow_nan=False)
    _, _, labels, _, test_labels = real_task()
    assert real_curve(labels, test_labels, Recorder(), None, draws=1).zero_shot is None


@pytest.mark.parametrize("wrong", [{"shots": (100,)}, {"shots": (0, 1)}, {"shots": ()}, {"draws": 0}])
def test_impossible_curves_are_refused(wrong):
    with pytest.raises(FigmentError, match="smallest class"):
        curve_of(real_task(), Recorder(), **wrong)


def test_a_class_without_real_images_is_refused():
    head, features, labels, *test = real_task()
    with pytest.raises(FigmentError, match="shots from 1 to 0"):
        curve_of((head, features[labels != 3], labels[labels != 3], *test), Recorder())


def test_real_learning_rises_and_its_own_accuracy_comes_back():
    """The synthetic arm is 16 real images a class of a draw the curve does not hold: worth about 16."""
    arms = head, features, labels, test_features, _ = real_task(n_test=1500)

    def learn(trainings):
        chosen = [Chosen(d.index, labels[d.index]) for d in trainings]
        seeds = [d.seed for d in trainings]
        settings = few_shot(MixSettings(learning_rate=0.02))
        for tuned in tune_many(head, features, chosen, settings, seeds, min_steps=FEW_SHOT_STEPS):
            yield tuned.head.predict(test_features).argmax(1)

    curve = curve_of(arms, learn, shots=(1, 4, 16, 64), draws=3)
    accuracies = curve.correct.mean(axis=(0, 2))
    assert (np.diff(accuracies) > 0).all() and accuracies[-1] > curve.zero_shot.mean() + 0.05
    stand_in = curve_of(arms, learn, shots=(16,), draws=3, seed=50).correct[:, 0]
    result = exchange_rate(curve, stand_in, n_bootstrap=300)
    assert result.ci[0] <= 16 <= result.ci[1] and 4 < result.value < 64

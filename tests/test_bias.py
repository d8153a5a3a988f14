"""A bias found without labels, and taken away."""

from __future__ import annotations

import numpy as np
import pytest

from figment.bias import ENOUGH_REAL, bias_of, bias_shown, shares_of


def softmax(x):
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def planted(n: int = 3000, seed: int = 0, planted_bias=(2.0, 0.0, -1.0, 0.5)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 4
    logits = rng.normal(0, 1.5, (n, 4)) + 3 * np.eye(4)[labels]
    return logits + np.array(planted_bias), labels


def test_step_by_step():
    logits, _ = planted(200)
    b = np.zeros(4)
    for _ in range(500):
        b = b + np.log(1 / 4) - np.log(softmax(logits + b).mean(0))
    assert bias_of(logits) == pytest.approx(b - b.mean(), abs=1e-4)


def test_classes_are_given_their_shares():
    logits, _ = planted()
    assert softmax(logits + bias_of(logits)).mean(0) == pytest.approx([0.25] * 4, abs=1e-4)
    shares = np.array([0.4, 0.3, 0.2, 0.1])
    assert softmax(logits + bias_of(logits, shares)).mean(0) == pytest.approx(shares, abs=1e-4)


def test_a_planted_bias_is_found_and_the_accuracy_is_back():
    logits, labels = planted()
    bias = bias_of(logits)
    true = np.array([2.0, 0.0, -1.0, 0.5])
    assert bias == pytest.approx(-(true - true.mean()), abs=0.15)
    assert bias.dtype == np.float32 and abs(bias.sum()) < 1e-5
    clean = (planted(planted_bias=(0, 0, 0, 0))[0].argmax(1) == labels).mean()
    assert (logits.argmax(1) == labels).mean() < clean - 0.05
    assert ((logits + bias).argmax(1) == labels).mean() == pytest.approx(clean, abs=0.01)


def test_large_logits_do_not_overflow():
    logits, _ = planted()
    assert np.isfinite(bias_of(logits * 1_000)).all()


def test_a_class_that_is_far_from_being_said_is_given_its_share_all_the_same():
    """Further than a float's exponential reaches, which is worked out anew on the way."""
    logits, _ = planted()
    far = logits - np.array([0, 0, 0, 1_500.0])
    assert softmax(far + bias_of(far)).mean(0) == pytest.approx([0.25] * 4, abs=1e-4)


def test_what_is_not_looked_at_is_not_worked_out():
    made, real = (np.arange(400), np.arange(400) % 4), planted(4 * ENOUGH_REAL, seed=1)

    def logits(given: np.ndarray) -> np.ndarray:
        assert given.ndim == 2, "the logits of the generated images are not needed"
        return 2 * given

    assert bias_shown(made, real, logits=logits) == pytest.approx(bias_of(2 * real[0]))


def test_real_images_show_it_where_there_are_enough_of_each_class():
    made, real = planted(400, planted_bias=(3.0, 0, 0, 0)), planted(4 * ENOUGH_REAL, seed=1)
    few = real[0][:-1], real[1][:-1]  # one class has one image less
    assert bias_shown(made, real) == pytest.approx(bias_of(real[0]))
    assert bias_shown(made, few) == pytest.approx(bias_of(made[0]))
    assert bias_shown(None, few) == pytest.approx(bias_of(few[0]))


def test_generated_classes_have_the_shares_that_were_asked_for_and_real_ones_even_ones():
    logits, labels = planted(400)
    rows = np.flatnonzero((labels != 2) | (np.arange(400) % 8 == 2))  # half of class 2
    some = logits[rows], labels[rows]
    assert bias_shown(some, None) == pytest.approx(bias_of(some[0], shares_of(some[1], 4)))
    assert bias_shown(None, some) == pytest.approx(bias_of(some[0]))
    assert not np.allclose(bias_shown(some, None), bias_shown(None, some), atol=0.05)


def test_unlabelled_photographs_come_first():
    made, real, free = planted(400), planted(40, seed=1), planted(100, seed=2, planted_bias=(0, 3.0, 0, 0))[0]
    assert bias_shown(made, real, free) == pytest.approx(bias_of(free))

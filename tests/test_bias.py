"""A bias found without labels, and taken away."""

from __future__ import annotations

import numpy as np
import pytest

from figment.bias import bias_of


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

"""CLIP's first choice, against a loop over images and classes."""

from __future__ import annotations

import numpy as np
import pytest

from figment.filters.argmax import ArgmaxFilter
from planted import cosine, encoded, images, kept, unit

NAMES = ["0", "1", "2"]


def test_argmax_equals_its_naive_twin():
    rng = np.random.default_rng(0)
    x, labels = unit(rng.normal(size=(45, 6))), rng.integers(3, size=45)
    verdicts = ArgmaxFilter(encoded(), NAMES, remove_bias=False)(images(x, labels))
    for feature, label, verdict in zip(x, labels, verdicts, strict=True):
        e = [np.exp(5 * cosine(feature, np.eye(6)[c])) for c in range(3)]
        p = [value / sum(e) for value in e]
        assert verdict.keep == (max(range(3), key=lambda c: p[c]) == label)
        assert verdict.scores["argmax_p"] == pytest.approx(p[label], rel=1e-5)
        assert verdict.scores["argmax_p_other"] == pytest.approx(max(p[c] for c in range(3) if c != label), rel=1e-5)
    assert 0 < sum(kept(verdicts)) < 45
    assert {v.reason for v in verdicts if not v.keep} == {"argmax: CLIP would rather call it another class"}


def test_a_tie_is_no_first_choice():
    tie = unit([[1, 1, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0]])
    assert kept(ArgmaxFilter(encoded(), NAMES, remove_bias=False)(images(tie, [0, 2]))) == [False, False]


def test_argmax_asks_for_more_than_the_clip_filter():
    """With p = (0.4, 0.38, 0.22) the second class is above 1/3, and not the first choice."""
    feature = np.zeros(6)
    feature[:3] = np.log([0.4, 0.38, 0.22]) / 5
    feature[5] = np.sqrt(1 - (feature**2).sum())
    (verdict,) = ArgmaxFilter(encoded(), NAMES, remove_bias=False)(images([feature], [1]))
    assert verdict.scores["argmax_p"] == pytest.approx(0.38, abs=1e-4) and not verdict.keep


def test_no_images_no_verdicts():
    assert ArgmaxFilter(encoded(), NAMES, remove_bias=False)(images(np.zeros((0, 6)), [])) == []

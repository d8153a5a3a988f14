"""The real filter of He et al. 2023, against a loop over pairs."""

from __future__ import annotations

import numpy as np
import pytest

from figment.errors import FigmentError
from figment.filters.real import RealFilter
from planted import clusters, cosine, encoded, images, kept

REASON = "real: close to a real image of another class"


def nearest_of_another_class(feature, label, real, real_labels):
    return max(cosine(feature, r) for r, y in zip(real, real_labels, strict=True) if y != label)


@pytest.mark.parametrize("quantile", [0.0, 0.5, 0.95, 1.0])
def test_real_equals_its_naive_twin(quantile):
    real, real_labels = clusters(20, spread=0.8, seed=1)
    made, labels = clusters(60, spread=1.5, seed=2)
    among = sorted(nearest_of_another_class(r, y, real, real_labels) for r, y in zip(real, real_labels, strict=True))
    place = quantile * (len(among) - 1)
    low, high = among[int(np.floor(place))], among[int(np.ceil(place))]
    limit = low + (place - np.floor(place)) * (high - low)
    verdicts = RealFilter(encoded(), images(real, real_labels), quantile)(images(made, labels))
    for feature, label, verdict in zip(made, labels, verdicts, strict=True):
        near = nearest_of_another_class(feature, label, real, real_labels)
        assert verdict.keep == (near <= limit)
        assert verdict.scores["other_class_cosine"] == pytest.approx(near, abs=1e-6)
        assert verdict.reason == ("" if verdict.keep else REASON)
    if quantile == 0.5:
        assert 0 < sum(kept(verdicts)) < 60


@pytest.mark.parametrize("n", [12, 120])
def test_real_images_themselves_pass_in_the_share_that_the_quantile_says(n):
    train, fresh = clusters(n, seed=3), clusters(600, seed=4)
    share = np.mean(kept(RealFilter(encoded(), images(*train), 0.8)(images(*fresh))))
    assert abs(share - 0.8) < 0.2 if n == 12 else abs(share - 0.8) < 0.08


def test_one_image_a_class_is_enough():
    real = images(np.eye(6)[:2], [0, 1])
    verdicts = RealFilter(encoded(), real, threshold=0.9)(images(np.eye(6)[[0, 0]], [0, 1]))
    assert kept(verdicts) == [True, False]  # one is like its own class's image, the other like the other's


def test_the_limit_itself_still_passes():
    half = np.full((1, 6), 0.5)
    half[0, 4:] = 0  # its cosine to each of four axes is 0.5 exactly
    real = images(np.eye(6)[:2], [0, 1])
    assert kept(RealFilter(encoded(), real, threshold=0.5)(images(half, [0]))) == [True]
    assert kept(RealFilter(encoded(), real, threshold=0.4999)(images(half, [0]))) == [False]


def test_real_images_of_one_class_have_no_others():
    with pytest.raises(FigmentError, match="all of one class.*task.real.train"):
        RealFilter(encoded(), images(np.eye(6)[:2], [1, 1]))


def test_images_of_one_class_and_none_at_all():
    real = images(*clusters(9))
    made, _ = clusters(5, seed=7)
    assert len(RealFilter(encoded(), real)(images(made, [2] * 5))) == 5
    assert RealFilter(encoded(), real)(images(np.zeros((0, 6)), [])) == []

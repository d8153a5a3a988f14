"""Shares of a class by distance to its centre, against a loop."""

from __future__ import annotations

import numpy as np
import pytest

from figment.errors import FigmentError
from figment.filters.centroid import CentroidFilter
from planted import clusters, encoded, images, kept, unit

FAR, NEAR = "centroid: far from its class's centre", "centroid: too close to its class's centre"


def naive(x, labels, reference, reference_labels, farthest, nearest):
    reasons = [""] * len(x)
    for label in set(labels):
        members = [r.astype(float) for r, y in zip(reference, reference_labels, strict=True) if y == label]
        centre = sum(members) / len(members)
        centre /= np.sqrt((centre**2).sum())
        own = sorted((i for i in range(len(x)) if labels[i] == label), key=lambda i: 1 - x[i].astype(float) @ centre)
        for i in own[: int(nearest * len(own) + 1e-9)]:
            reasons[i] = NEAR
        for i in own[len(own) - int(farthest * len(own) + 1e-9) :]:
            reasons[i] = FAR
    return reasons


@pytest.mark.parametrize(("farthest", "nearest"), [(0.2, 0.0), (0.5, 0.0), (0.0, 0.3), (0.29, 0.13), (0.0, 0.0)])
@pytest.mark.parametrize("of", ["generated", "real"])
def test_centroid_equals_its_naive_twin(farthest, nearest, of):
    x, labels = clusters(70, seed=1)
    reference, reference_labels = (x, labels) if of == "generated" else clusters(15, seed=2)
    train = None if of == "generated" else images(reference, reference_labels)
    verdicts = CentroidFilter(encoded(), farthest, nearest, train)(images(x, labels))
    assert [v.reason for v in verdicts] == naive(x, labels, reference, reference_labels, farthest, nearest)
    assert [v.keep for v in verdicts] == [not v.reason for v in verdicts]


def test_the_outlier_goes_first_and_its_distance_is_told():
    x = unit([[1, 0.1, 0, 0, 0, 0], [1, -0.1, 0, 0, 0, 0], [1, 0, 0.1, 0, 0, 0], [0, 0, 0, 1, 0, 0]])
    verdicts = CentroidFilter(encoded(), drop_farthest=0.25)(images(x, [0] * 4))
    assert kept(verdicts) == [True, True, True, False]
    assert verdicts[3].scores["centroid_distance"] > 0.5 > 0.1 > verdicts[0].scores["centroid_distance"]


def test_shares_are_rounded_down_and_exact_where_they_are_whole():
    x, _ = clusters(100, classes=1)
    assert sum(kept(CentroidFilter(encoded(), drop_farthest=0.29)(images(x, [0] * 100)))) == 71
    assert kept(CentroidFilter(encoded(), drop_farthest=0.99)(images(x[:1], [0]))) == [True]


def test_features_that_cancel_out_have_no_centre_and_no_nan():
    x = np.eye(6)[[0, 0]] * [[1], [-1]]
    verdicts = CentroidFilter(encoded(), drop_farthest=0.5)(images(x, [0, 0]))
    assert [v.scores["centroid_distance"] for v in verdicts] == [1, 1]
    assert kept(verdicts) == [True, False]  # of equally far ones the later


def test_a_class_without_real_images():
    real = images(np.eye(6)[:1], [0])
    with pytest.raises(FigmentError, match="a class has none"):
        CentroidFilter(encoded(), train=real)(images(np.eye(6)[:2], [0, 1]))


def test_shares_that_leave_nothing():
    with pytest.raises(ValueError, match="below 1"):
        CentroidFilter(encoded(), 0.5, 0.5)


def test_no_images_no_verdicts():
    assert CentroidFilter(encoded())(images(np.zeros((0, 6)), [])) == []

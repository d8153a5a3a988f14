"""The Inception score against its definition and torch-fidelity."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch_fidelity.metric_isc import isc_features_to_metric

from figment.evaluate.inception_score import inception_score, inception_scores
from sets_of import pair


def by_definition(logits: np.ndarray) -> float:
    """Salimans et al. 2016, section 4, one image and class after another."""
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    marginal = p.mean(0)
    return float(np.exp(np.mean([sum(q * np.log(q / r) for q, r in zip(row, marginal, strict=True)) for row in p])))


@pytest.mark.parametrize(("n", "classes", "scale"), [(200, 12, 1.0), (57, 30, 4.0), (20, 3, 9.0)])
def test_is_the_one_of_torch_fidelity(n, classes, scale):
    logits = scale * pair(n, 20, classes)[0]
    theirs = isc_features_to_metric(torch.from_numpy(logits))
    scores = inception_scores(logits)
    assert (scores.mean(), scores.std()) == pytest.approx(
        (theirs["inception_score_mean"], theirs["inception_score_std"]), rel=1e-6
    )
    assert inception_score(logits, logits, "x").value == pytest.approx(theirs["inception_score_mean"], rel=1e-6)


def test_is_what_the_paper_defines():
    logits = pair(40, 1, 6)[0].astype(float)
    assert inception_scores(logits, 1)[0] == pytest.approx(by_definition(logits), rel=1e-9)


def test_clear_and_varied_images_score_as_many_as_there_are_classes():
    logits = np.tile(1000.0 * np.eye(8), (50, 1))  # probabilities of which all but one are 0 in float64
    found = inception_score(np.zeros((400, 8)), logits, "x")
    assert 7 < found.value <= 8 and found.details["of_real"] == pytest.approx(1)

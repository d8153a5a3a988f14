"""What all measures of two sets refuse, in one paragraph each."""

from __future__ import annotations

import numpy as np
import pytest

from figment.errors import FigmentError
from figment.evaluate.coverage import coverage
from figment.evaluate.fidelity import frechet
from figment.evaluate.inception_score import inception_score
from figment.evaluate.memorisation import memorisation
from figment.evaluate.mind import mind
from figment.evaluate.mmd import cmmd, kid
from figment.evaluate.sets import as_many, floor, floor_of_score
from figment.evaluate.vendi import vendi
from sets_of import pair

MEASURES = [cmmd, coverage, frechet, inception_score, kid, memorisation, mind, vendi]


def with_nan(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x[2:4, 1] = np.nan, np.inf
    return x


GOOD = pair(30, 30, 5)
BAD = {
    "NaN in the generated": ((GOOD[0], with_nan(GOOD[1])), "features of 2 of 30 images are NaN or infinite.*encoder"),
    "NaN in the real": ((with_nan(GOOD[0]), GOOD[1]), "features of 2 of 30 images are NaN or infinite.*encoder"),
    "another encoder": (
        (GOOD[0], GOOD[1][:, :4]),
        r"same encoder.*\(30, 5\) and \(30, 4\)|same encoder.*\(30, 4\) and",
    ),
    "one image": ((GOOD[0], GOOD[1][:1]), "needs"),
    "no images": ((GOOD[0], GOOD[1][:0]), "needs"),
    "no features": ((GOOD[0][:, :0], GOOD[1][:, :0]), "same encoder"),
    "one feature": ((GOOD[0][:, 0], GOOD[1][:, 0]), "same encoder"),
}


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("bad", BAD)
def test_features_that_cannot_be_compared_are_refused(measure, bad):
    sets, said = BAD[bad]
    with pytest.raises(FigmentError, match=said):
        measure(*sets, "x")
    assert np.isfinite(np.array([r.value for r in np.ravel([measure(*GOOD, "x")])])).all()


@pytest.mark.parametrize("measure", MEASURES)
def test_every_measure_has_an_interval_and_floors_and_is_the_same_again(measure):
    sets = pair(60, 50, 5)
    for first, again in zip(
        np.ravel([measure(*sets, "x", seed=1)]), np.ravel([measure(*sets, "x", seed=1)]), strict=True
    ):
        assert first == again and first.ci[0] <= first.value <= first.ci[1] and first.ci[0] < first.ci[1]
        assert {"extractor", "floor_n", "at_floor_n", "floor_real", "floor_generated"} <= first.details.keys()
        assert first.details["floor_n"] in (25, 30) or measure is inception_score


def test_floors_are_of_halves_that_share_no_image():
    real, generated = np.arange(20.0)[:, None], 100 + np.arange(11.0)[:, None]
    seen = []
    floor(lambda a, b: seen.append((a, b)) or 0.0, real, generated)
    assert [len(a) == len(b) == 5 for a, b in seen] == [True] * 4
    (first, made), (second, made_too), *_ = seen
    assert not np.intersect1d(first, second).size and not np.intersect1d(made, made_too).size
    assert np.isin(first, real).all() and np.isin(made, generated).all()
    assert floor_of_score(lambda x: len(x), real, generated)["of_real"] == 5


def test_as_many_are_drawn_in_their_order():
    rng = np.random.default_rng(0)
    first, second = as_many(np.arange(30), np.arange(9), 7, rng)
    assert len(first) == len(second) == 7 and (np.diff(first) > 0).all() and (np.diff(second) > 0).all()

"""Several arms: as if each of them were asked alone, one of them is always lucky."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from figment.evaluate.holm import among, as_best, best_of, holm
from figment.evaluate.verdict import ALONE
from figment.types import Result


def naive(p: list[float], level: float) -> list[bool]:
    """Holm's step-down as it is told: cross out the smallest as long as it passes."""
    holds, left = [False] * len(p), list(range(len(p)))
    while left:
        smallest = min(left, key=lambda i: p[i])
        if p[smallest] > level / len(left):
            break
        holds[smallest] = True
        left.remove(smallest)
    return holds


def worth(value: float, se: float, word: str = "", level: float | None = None) -> Result:
    p = float(stats.norm.sf(value / se))
    one = {
        "value": value,
        "ci": [value - 1.96 * se, value + 1.96 * se],
        "p": p,
        "centre": value,
        "image_se": se,
        "set_se": 0.0,
        "discordance": 0.1,
    }
    told = {"verdict": word or ("helps" if p <= 0.025 else "no evidence"), "p": p, "differences": {"top1/placebo": one}}
    look = {} if level is None else {"look": {"level": level}}
    return Result("worth", value, 500, (value - 1.96 * se, value + 1.96 * se), details={**told, **look})


def test_as_the_naive_one():
    rng = np.random.default_rng(0)
    for _ in range(500):
        p = (rng.random(rng.integers(1, 8)) * rng.choice([0.01, 0.1, 1])).round(3).tolist()  # with ties
        assert holm(p) == naive(p, 0.025), p
    assert holm([0.025]) == [True] and holm([0.0251]) == [False] and holm([]) == []
    assert holm([0.02, 0.01]) == [True, True] and holm([0.02, 0.013]) == [False, False]


def test_any_false_one_of_ten_arms():
    """Ten arms that share the test images, and so much of their luck."""
    false = np.zeros(2)
    for seed in range(2000):
        rng = np.random.default_rng(seed)
        z = 0.5**0.5 * rng.normal() + 0.5**0.5 * rng.normal(size=10)
        p = stats.norm.sf(z)
        false += [min(p) <= 0.025, any(holm(p.tolist()))]
    assert false[1] / 2000 <= 0.03 < 0.08 < false[0] / 2000


def test_the_words():
    lucky, strong, none = worth(0.021, 0.01), worth(0.05, 0.01), worth(0.005, 0.01)
    assert among([lucky]) == ["helps"] and among([]) == []
    assert among([lucky, none, none]) == [ALONE, "no evidence", "no evidence"]
    assert among([lucky, strong]) == ["helps", "helps"]  # the second smallest p has one test less beside it
    assert among([worth(0.05, 0.01, "not told from a placebo"), none]) == ["not told from a placebo", "no evidence"]


def test_each_arm_has_the_level_of_its_own_look():
    p = worth(0.03, 0.01).details["p"]  # .00135
    assert among([worth(0.03, 0.01), worth(0, 0.01)]) == ["helps", "no evidence"]
    assert among([worth(0.03, 0.01, level=1.5 * p), worth(0, 0.01)]) == [ALONE, "no evidence"]
    assert among([worth(0.03, 0.01, "no evidence", level=0.0)]) == ["no evidence"]  # nothing was left to spend


def test_the_best_of_several_is_said_with_an_interval_that_knows_it():
    arms = [worth(0.01, 0.01), worth(0.03, 0.01), worth(0.02, 0.01)]
    assert best_of(arms) == 1 and best_of(arms[:1]) is None
    found = as_best(arms[1], 3)
    half = stats.norm.ppf(1 - 0.025 / 3) * 0.01
    assert found.value == 0.03 and found.ci == pytest.approx((0.03 - half, 0.03 + half))
    assert math.isclose(as_best(arms[1], 1).ci[0], arms[1].ci[0], abs_tol=1e-5)
    covered = 0
    for seed in range(1000):  # ten that are worth nothing: the best one's interval must not say otherwise
        values = np.random.default_rng(seed).normal(0, 0.01, 10)
        found = as_best(worth(max(values), 0.01), 10)
        covered += found.ci[0] <= 0 <= found.ci[1]
    assert 0.95 <= covered / 1000 < 1
    older = Result("worth", 0.1, 9, (0, 1), details={"differences": {"x": {"value": 0.1, "ci": [0, 1], "p": 0.5}}})
    assert best_of([*arms, older]) is None

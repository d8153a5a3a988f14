"""The answer for a set of images from elsewhere, and sets in pairs."""

from __future__ import annotations

import numpy as np
import pytest

from figment.evaluate.kind import difference
from figment.evaluate.worth import COPIES, STANDS_IN, TEST_INSIDE, answer, pairs, some_copies
from figment.types import Result

TOLD = {"alone": "ALONE.", "beside": "BESIDE."}


def leak(exact: int = 0, near: int = 3, p: float = 0.5) -> Result:
    told = {"exact": exact, "near": near, "by_chance": 3.0, "p": p, "caveats": ["some"] if exact or p < 0.001 else []}
    return Result("leaks/generated", (exact + near) / 500, 500, (0, 1), details=told)


def copies(share: float, low: float, by_chance: float = 0.1, p: float = 0.5) -> Result:
    return Result("memorisation", share, 300, (low, 1.0), details={"by_chance": by_chance, "n_real": 20, "p": p})


def word(beside: str, alone: str, **results: Result) -> str:
    return answer(beside, alone, TOLD, {"leaks/generated": leak(), "memorisation": copies(0.1, 0.07), **results}).word


def test_it_is_the_verdicts_word_and_says_both():
    assert word("helps", "helps") == word("helps", "no evidence") == "helps"
    assert word("hurts", "helps") == "hurts"
    assert word("no evidence", "not told from a placebo") == "no evidence"
    assert word("no evidence", "helps") == word("helps alone, not among the arms", "helps") == STANDS_IN
    assert answer("", "hurts", TOLD, {}).word == "hurts"  # without real training images
    said = answer("no evidence", "helps", TOLD, {}).sentence
    assert "ALONE." in said and "BESIDE." in said


def test_where_augmenting_does_as_much_that_is_said():
    even, more = (difference(np.full(500, gain) + np.tile([0.3, -0.3], 250)) for gain in (0.0, 0.2))
    said = [answer("helps", "helps", TOLD, {}, over).sentence for over in (even, more, None)]
    assert ["augmenting your photographs more" in one for one in said] == [True, False, False]


def test_most_must_surely_be_copies_beyond_chance():
    assert word("helps", "helps", memorisation=copies(0.9, 0.85)) == COPIES
    assert word("helps", "helps", memorisation=copies(0.62, 0.56)) == "helps"  # .56 less .1 by chance
    assert word("helps", "helps", memorisation=copies(0.95, 0.9, by_chance=0.6)) == "helps"
    assert some_copies({"memorisation": copies(0.3, 0.2, p=1e-6)}) and not some_copies(
        {"memorisation": copies(0.3, 0.2)}
    )


def test_a_set_with_the_test_images_in_it_says_nothing():
    most = {"memorisation": copies(0.9, 0.85)}
    assert word("helps", "helps", **{"leaks/generated": leak(exact=6)}, **most) == TEST_INSIDE
    assert word("helps", "helps", **{"leaks/generated": leak(near=40, p=1e-9)}) == TEST_INSIDE
    assert word("helps", "helps", **{"leaks/generated": leak(exact=5)}) == "helps"  # 1 % of 500


@pytest.mark.parametrize(("n_sets", "all_hold"), [(2, True), (12, False)])
def test_pairs_are_corrected_for_their_number(n_sets, all_hold):
    """One set is better by 1.3 points of 1,000 images: p of .006 alone, and one of 66 pairs."""
    rng = np.random.default_rng(0)
    base = (rng.random(1_000) < 0.7).astype(float)
    better = base.copy()
    wrong, right = np.flatnonzero(base == 0), np.flatnonzero(base == 1)
    better[wrong[:25]], better[right[:9]] = 1, 0
    sets = {"a": base, "b": better, **{f"same {i}": base for i in range(n_sets - 2)}}
    own = pairs(sets)
    assert len(own) == n_sets * (n_sets - 1) // 2
    assert (own[0].first, own[0].second, own[0].holds) == ("a", "b", all_hold)
    assert own[0].difference.value == pytest.approx(0.016) and own[0].told()["holds"] is all_hold
    assert pairs({"a": base}) == []

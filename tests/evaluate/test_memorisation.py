"""The share of generated images that are copies, on sets whose copies were planted."""

from __future__ import annotations

import numpy as np
import pytest

from figment.evaluate.memorisation import memorisation, memorised_share
from sets_of import pair


@pytest.mark.parametrize("copies", [0, 20, 100])
@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_planted_copies_are_counted(copies, noise):
    real, generated = pair(300, 200, 16, 0.0, 1.0)
    generated[:copies] = real[:copies] + noise * pair(max(copies, 1), 1, 16, seed=1)[0][:copies]
    found = memorisation(real, generated, "x")
    assert found.value == pytest.approx(copies / 200, abs=0.02)
    assert found.ci[0] <= copies / 200 + 0.02 and found.ci[1] >= copies / 200


def test_is_what_the_definition_says():
    real, generated = (x.astype(float) for x in pair(40, 30, 3))

    def cosine(a, b):
        return a @ b / np.linalg.norm(a) / np.linalg.norm(b)

    own = [max(cosine(x, y) for j, y in enumerate(real) if j != i) for i, x in enumerate(real)]
    limit = np.quantile(own, 0.999)
    near = [max(cosine(x, y) for y in real) > limit for x in generated]
    assert memorised_share(real, generated) == np.mean(near)


def test_halves_of_real_images_are_new_to_one_another():
    told = memorisation(*pair(2000, 500, 8, 0.0, 1.0), "x").details
    assert told["floor_n"] == 250 and told["by_chance"] == pytest.approx(0.002) and told["p"] > 0.001
    assert max(told["floor_real"], told["floor_generated"], told["at_floor_n"]) < 0.03


@pytest.mark.parametrize("n", [50, 200])
def test_new_photographs_are_taken_for_copies_as_often_as_is_said(n):
    drawn = [memorisation(*pair(n, 400, 16, 0.0, 1.0, seed), "x") for seed in range(40)]
    said = np.mean([one.details["by_chance"] for one in drawn])
    assert said > 0.005 and np.mean([one.value for one in drawn]) == pytest.approx(said, rel=0.5)

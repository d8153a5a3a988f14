"""The names of the baselines: one table, and the recipe's schema agrees with it."""

from typing import get_args

from figment.learners.clip_head.baseline_names import BASELINES
from figment.recipe.train import Baseline


def test_the_recipe_knows_the_baselines_that_there_are():
    assert get_args(Baseline) == tuple(BASELINES)

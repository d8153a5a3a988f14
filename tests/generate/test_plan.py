"""Which image is the n-th: the same whatever number of them is asked for later."""

from __future__ import annotations

import pytest

from figment.generate.plan import Plan
from figment.types import Prompt


def prompts(*counts: int) -> list[Prompt]:
    """So many of each class."""
    return [Prompt(f"{c}/{i}", f"{c} {i}", c, f"{c}/{i}") for c, n in enumerate(counts) for i in range(n)]


@pytest.mark.parametrize("counts", [(5, 5), (5, 3), (1, 4)])
def test_a_set_of_more_images_a_prompt_is_known_again_by_a_plan_of_fewer(counts):
    """`verify` and `repair` ask for a plan that reaches what is there; what it does not know they take for somebody else's."""
    made = Plan(prompts(*counts), 3 * max(counts), seed=0, per_prompt=3)
    assert len(made) == 3 * sum(counts)
    again = Plan(prompts(*counts), max(counts), seed=0, per_prompt=1).reaching(len(made))
    assert [again[i] for i in range(len(made))] == [made[i] for i in range(len(made))]


def test_no_more_images_are_made_than_a_pilot_asks_for():
    few = Plan(prompts(*[23] * 10), 24, seed=0, per_prompt=4)
    assert len(few) == 240
    whole = Plan(prompts(*[23] * 10), 92, seed=0, per_prompt=4)
    assert len(whole) == 920 and [few[i] for i in range(240)] == [whole[i] for i in range(240)]

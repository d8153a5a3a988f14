"""BOB's prompts: each class in the backgrounds and poses of the images of all classes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from figment.errors import FigmentError
from figment.prompts.check import check_prompts
from figment.prompts.contexts import Contexts
from figment.task import Task

TASK = Task(class_names=["cat", "dog"], templates=["a photo of a {}."])
SHOTS = ["on grass, from above", "at sea", "at sea", "indoors"]


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_every_class_is_asked_for_in_every_images_context_as_often_as_it_occurs():
    prompts = Contexts(SHOTS, exactly=False)(TASK, 50, rng())
    check_prompts(prompts, TASK.class_names)
    for label, name in enumerate(TASK.class_names):
        texts = [p.text for p in prompts if p.label == label]
        assert Counter(texts) == Counter(f"a photo of a {name}, {context}" for context in SHOTS)
    orders = [[p.source for p in prompts if p.label == label] for label in (0, 1)]
    assert orders[0] != orders[1]  # classes are paired with contexts at random, each by itself


def test_pairs_are_drawn_evenly():
    """A class sees a context no more often for having images in it: the context is summed out."""
    writer, draws = Contexts(SHOTS, "{} it"), np.random.default_rng(1)
    counts = Counter(p.source for _ in range(500) for p in writer(TASK, 1, draws))
    assert counts.total() == 1000 and all(200 < n < 300 for n in counts.values()) and len(counts) == 4


def test_fewer_contexts_than_were_asked_for():
    assert len(Contexts(SHOTS, exactly=False)(TASK, 5, rng())) == 8
    with pytest.raises(FigmentError, match=r"per_class is 5, and there are 4 images .* Set prompts\.per_class to 4"):
        Contexts(SHOTS)(TASK, 5, rng())


def test_a_set_can_grow_and_other_contexts_are_others():
    few, many = Contexts(SHOTS)(TASK, 2, rng()), Contexts(SHOTS)(TASK, 2, rng())
    assert few == many
    assert Contexts(SHOTS).fingerprint != Contexts(SHOTS[:3]).fingerprint

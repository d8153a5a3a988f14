"""Mixing real and generated images, against a loop over torch's own layers, optimiser and losses."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from figment.errors import FigmentError
from figment.learners.clip_head.head import Head
from figment.learners.clip_head.mix import tune_mixed
from figment.learners.clip_head.settings import MixSettings
from figment.learners.clip_head.tune import tune

N, D = 4, 6


def start() -> Head:
    rng = np.random.default_rng(3)
    return Head.from_texts(rng.normal(size=(N, D)), logit_scale=10.0)


def data(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, D)).astype(np.float32), rng.integers(0, N, n)


def naive(head: Head, real, made, s: MixSettings, seed: int) -> Head:
    """The paper's loop, written down: autograd, torch's AdamW, torch's clipping."""
    teacher, head = copy.deepcopy(head).eval(), copy.deepcopy(head)
    optimizer = torch.optim.AdamW(head.parameters(), lr=1.0, weight_decay=s.weight_decay)
    rx, ry = torch.tensor(real[0]), torch.tensor(real[1])
    x, y = torch.tensor(made[0]), torch.tensor(made[1])
    order, real_order = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(seed + 1)
    waiting: list[torch.Tensor] = []
    total, step = s.epochs * math.ceil(len(x) / s.batch_size), 0
    for _ in range(s.epochs):
        for batch in torch.randperm(len(x), generator=order).split(s.batch_size):
            if not waiting:
                waiting = list(torch.randperm(len(rx), generator=real_order).split(s.real_batch_size))
            own = waiting.pop(0)
            soft = (teacher(x[batch]).detach() / s.temperature).softmax(-1)
            if s.hard_pseudo_labels:
                soft = F.one_hot(soft.argmax(-1), N).float()
            logits = head(x[batch])
            loss = s.real_weight * F.cross_entropy(head(rx[own]), ry[own]) + s.synthetic_weight * (
                s.soft_weight * -(soft * logits.log_softmax(-1)).sum(-1).mean()
                + (1 - s.soft_weight) * F.cross_entropy(logits, y[batch])
            )
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(head.parameters(), s.grad_clip)
            for group in optimizer.param_groups:
                group["lr"] = s.learning_rate * 0.5 * (1 + math.cos(math.pi * step / total))
            optimizer.step()
            step += 1
    return head


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"real_weight": 0.8, "synthetic_weight": 0.2},
        {"soft_weight": 0.0},
        {"real_batch_size": 3},
        {"hard_pseudo_labels": True},
    ],
)
def test_mix_is_the_loop_of_the_paper(changes):
    s = MixSettings(epochs=3, batch_size=16, learning_rate=0.05, **changes)
    real, made = data(7, 0), data(50, 1)
    own, twin = tune_mixed(start(), real, made, s, seed=5).head, naive(start(), real, made, s, seed=5)
    assert torch.allclose(own.linear.weight, twin.linear.weight, atol=1e-4)
    assert torch.allclose(own.linear.bias, twin.linear.bias, atol=1e-4)


def test_one_kind_after_the_other_is_two_trainings_with_soft_targets_on_the_generated_alone():
    s = MixSettings(epochs=2, batch_size=16, order="synthetic_then_real")
    real, made = data(9, 0), data(40, 1)
    on_real = s.model_copy(update={"soft_weight": 0.0, "batch_size": 32})
    first = tune(start(), *made, s, 0).head
    expected = tune(first, *real, on_real, 0).head
    got = tune_mixed(start(), real, made, s, 0)
    assert torch.equal(got.head.linear.weight, expected.linear.weight) and len(got.history) == 4
    other = tune_mixed(start(), real, made, s.model_copy(update={"order": "real_then_synthetic"}), 0).head
    twin = tune(tune(start(), *real, on_real, 0).head, *made, s, 0, teacher=start()).head
    assert torch.equal(other.linear.weight, twin.linear.weight)
    assert not torch.equal(other.linear.weight, got.head.linear.weight)


def test_the_schedule_ends_with_the_training():
    s = MixSettings(epochs=4, batch_size=16)
    history = tune_mixed(start(), data(5, 0), data(50, 1), s, 0).history
    assert history[-1]["learning_rate"] < history[0]["learning_rate"] / 5
    assert [h["epoch"] for h in history] == [1, 2, 3, 4]


def test_no_weight_is_no_images():
    s = MixSettings(epochs=2, batch_size=16, synthetic_weight=0.0)
    a = tune_mixed(start(), data(8, 0), data(40, 1), s, 0).head
    b = tune_mixed(start(), data(8, 0), (data(40, 2)[0], data(40, 3)[1]), s, 0).head
    assert torch.equal(a.linear.weight, b.linear.weight)


def test_the_start_stays_as_it_is_and_a_seed_gives_the_same_weights():
    head = start()
    before = head.linear.weight.clone()
    one, two = (tune_mixed(head, data(8, 0), data(40, 1), MixSettings(epochs=2), 4).head for _ in range(2))
    assert torch.equal(head.linear.weight, before) and torch.equal(one.linear.weight, two.linear.weight)


def test_validation_has_to_be_there():
    with pytest.raises(FigmentError, match="select: validation"):
        tune_mixed(start(), data(4, 0), data(8, 1), MixSettings(select="validation"), 0)
    with pytest.raises(FigmentError, match="exists to reproduce published numbers"):
        tune_mixed(start(), data(4, 0), data(8, 1), MixSettings(select="test_best"), 0)


@pytest.mark.parametrize("select", ["validation", "test_best"])
def test_the_best_epoch_is_kept(select):
    val = data(30, 9)
    settings = MixSettings(select=select, epochs=5, learning_rate=0.2)
    tuned = tune_mixed(start(), data(4, 0), data(80, 1), settings, 0, val=val)
    assert len({h["val_accuracy"] for h in tuned.history}) > 1
    best = max(h["val_accuracy"] for h in tuned.history)
    assert (tuned.head.predict(val[0]).argmax(1) == val[1]).mean() == pytest.approx(best)


def test_few_images_get_more_epochs_where_steps_are_wanted():
    """Not fewer steps than the shots alone get; a schedule that ends with them; nothing else changes."""
    rng = np.random.default_rng(0)
    head, (x, y) = Head(6, 3), (rng.normal(size=(10, 6)).astype(np.float32), rng.integers(0, 3, 10))
    settings = MixSettings(epochs=2, batch_size=4, real_batch_size=2)
    tuned = tune_mixed(head, (x, y), (x, y), settings.model_copy(update={"min_steps": 14}), 0)
    as_many = tune_mixed(head, (x, y), (x, y), settings.model_copy(update={"epochs": 5}), 0)
    assert len(tuned.history) == 5 and torch.equal(tuned.head.linear.weight, as_many.head.linear.weight)
    assert len(tune_mixed(head, (x, y), (x, y), settings.model_copy(update={"min_steps": 6}), 0).history) == 2

"""The loop of every training of a generator: any step can be gone on from, and what it keeps is an average of the weights."""

from __future__ import annotations

import pytest
import torch
from diffusers.optimization import get_cosine_schedule_with_warmup
from diffusers.training_utils import EMAModel
from pydantic import ValidationError
from torch import nn

from figment.checkpoint import Checkpoint
from figment.errors import FigmentError
from figment.files import as_path
from figment.generate.training import loop
from figment.generate.training.loop import Advice, Training, resume
from figment.generate.training.settings import TrainingSettings

ADVICE = Advice("The training", "Lower it.", "trying it. Lower it.")
FAST = {"steps": 8, "warmup_steps": 2, "learning_rate": 0.1, "ema_decay": 0.9}


def training(loss=None, **settings) -> Training:
    """Fits a small network to noise that follows from the number of the step."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))

    def loss_of(step: int) -> torch.Tensor:
        x = torch.randn(5, 3, generator=torch.Generator().manual_seed(step))
        return (model(x) - x.sum(1, keepdim=True)).square().mean()

    return Training(dict(model.named_parameters()), loss or loss_of, TrainingSettings(**{**FAST, **settings}), ADVICE)


def all_of(own: Training) -> list[torch.Tensor]:
    return [*own.weights.values(), *(own.average or {}).values(), torch.tensor(own.losses, dtype=torch.float64)]


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("dies_after", range(1, 8))
def test_a_killed_training_ends_with_the_same_bits(tmp_path, dies_after, every):
    whole = training()
    assert [step.number for step in whole] == list(range(1, 9))
    checkpoint = Checkpoint(tmp_path / "checkpoint.safetensors", "it")
    for step in resume(training(), checkpoint, every):
        if step.number == dies_after:
            break
    again = training()
    numbers = [step.number for step in resume(again, checkpoint, every)]
    assert numbers == list(range(dies_after - dies_after % every + 1, 9))
    assert all(torch.equal(a, b) for a, b in zip(all_of(again), all_of(whole), strict=True))


@pytest.mark.parametrize("dies_after", [3, 7])
def test_adafactor_and_the_judge_go_on_with_the_same_bits(tmp_path, dies_after):
    def start():
        own = training(optimizer="adafactor")
        own.judge, own.judge_every = lambda: sum(w.square().sum().item() for w in own.weights.values()), 2
        return own

    whole = start()
    list(whole)
    checkpoint = Checkpoint(tmp_path / "checkpoint.safetensors", "it")
    for step in resume(start(), checkpoint, 1):
        if step.number == dies_after:
            break
    again = start()
    assert next(iter(resume(again, checkpoint, 1))).number == dies_after + 1
    list(again)
    assert [number for number, _ in whole.scores] == [2, 4, 6, 8] and again.scores == whole.scores
    assert all(torch.equal(again.best[name], w) for name, w in whole.best.items())
    assert all(torch.equal(a, b) for a, b in zip(all_of(again), all_of(whole), strict=True))


def test_a_checkpoint_of_before_there_were_judges_is_gone_on_from(tmp_path):
    whole, checkpoint = training(), Checkpoint(tmp_path / "checkpoint.safetensors", "it")
    list(whole)
    older = training()
    for step in older:
        if step.number == 3:
            break
    checkpoint.write({name: part for name, part in older.state_dict().items() if name not in ("best", "scores")})
    again = training()
    assert [step.number for step in resume(again, checkpoint, 1)] == [4, 5, 6, 7, 8]
    assert all(torch.equal(a, b) for a, b in zip(all_of(again), all_of(whole), strict=True))


@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_the_best_weights_are_those_that_the_judge_liked_most(ema_decay):
    """And to ask it changes nothing: a judge who always says the same leaves the first weights that it saw."""
    own, plain, said = training(ema_decay=ema_decay), training(ema_decay=ema_decay), iter([3.0, 1.0, 1.0, 2.0])
    seen = []
    own.judge, own.judge_every = lambda: seen.append([w.clone() for w in own.weights.values()]) or next(said), 2
    list(own), list(plain)
    assert all(torch.equal(a, b) for a, b in zip(all_of(own), all_of(plain), strict=True))
    own.use_best()
    assert own.scores == [(2, 3.0), (4, 1.0), (6, 1.0), (8, 2.0)]
    assert all(torch.equal(w, best) for w, best in zip(own.weights.values(), seen[1], strict=True))
    plain.use_best()
    kept = plain.average.values() if ema_decay else all_of(own)[:0]
    assert all(torch.equal(w, mean) for w, mean in zip(plain.weights.values(), kept, strict=False))


@pytest.mark.parametrize("n", [1, 2, 3, 5])
@pytest.mark.parametrize(("precision", "rounding"), [("float32", 1e-5), ("bfloat16", 1e-2)])
def test_parts_of_a_batch_are_the_batch(n, precision, rounding):
    """Up to rounding: gradients add up, and are cut only afterwards."""

    def run(parts: int) -> Training:
        own = training(precision=precision, grad_clip=0.1)
        whole = own.loss_of
        own.loss_of = lambda step: (whole(step) * (1 / parts) for _ in range(parts)) if parts > 1 else whole(step)
        list(own)
        return own

    a, b = run(n), run(1)
    assert a.losses == pytest.approx(b.losses, rel=rounding)
    for name, weight in a.weights.items():
        torch.testing.assert_close(weight, b.weights[name], rtol=rounding, atol=rounding)


@pytest.mark.parametrize("start", [0.0, 1.0])
def test_adafactor_is_that_of_the_paper(start):
    """Shazeer and Stern 2018, algorithm 4 with a given step size; a matrix of zeros, as half of a LoRA is, moves as fast as others."""
    weight = nn.Parameter(torch.full((3, 5), start))
    gradients = [torch.randn(3, 5, generator=torch.Generator().manual_seed(i)) for i in range(4)]
    settings = {"optimizer": "adafactor", "ema_decay": None, "steps": 4, "warmup_steps": 0, "weight_decay": 0.1}
    own = Training(
        {"w": weight},
        lambda step: (weight * gradients[step]).sum(),
        TrainingSettings(**settings, learning_rate=0.1, grad_clip=1e6),
        ADVICE,
    )
    twin, row, column = torch.full((3, 5), start), torch.zeros(3), torch.zeros(5)
    for t, (step, g) in enumerate(zip(own, gradients, strict=True), 1):
        beta = 1 - t**-0.8
        row = beta * row + (1 - beta) * (g.square() + 1e-30).mean(1)
        column = beta * column + (1 - beta) * (g.square() + 1e-30).mean(0)
        u = g / (row[:, None] * column[None, :] / row.mean()).sqrt()
        u = u / u.square().mean().sqrt().clamp(min=1.0)
        twin = twin - step.learning_rate * u - 0.1 * step.learning_rate * twin
        torch.testing.assert_close(weight.detach(), twin, rtol=1e-4, atol=1e-5)


def test_the_checkpoint_of_another_training_is_not_gone_on_from(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    next(resume(training(), Checkpoint(path, "one"), 1))
    assert next(resume(training(), Checkpoint(path, "another"), 1)).number == 1
    assert next(resume(training(), Checkpoint(path, "another"), 1)).number == 2


def test_a_checkpoint_may_lie_in_an_object_store():
    checkpoint = Checkpoint(as_path("memory://trainings/checkpoint.safetensors"), "it")
    next(resume(training(), checkpoint, 1))
    again, whole = training(), training()
    assert next(iter(resume(again, checkpoint, 1))).number == 2
    list(again), list(whole)
    assert all(torch.equal(a, b) for a, b in zip(all_of(again), all_of(whole), strict=True))


def test_the_average_is_that_of_diffusers():
    own = training(steps=30)
    twin = EMAModel(own.weights.values(), decay=0.9)
    for _ in own:
        twin.step(own.weights.values())
    for mean, expected in zip(own.average.values(), twin.shadow_params, strict=True):
        torch.testing.assert_close(mean, expected)
    last = [w.detach().clone() for w in own.weights.values()]
    own.use_average()
    assert all(torch.equal(w, own.average[name]) for name, w in own.weights.items())
    assert not any(torch.equal(w, old) for w, old in zip(own.weights.values(), last, strict=True))


def test_without_an_average_the_last_weights_are_kept():
    own = training(ema_decay=None)
    list(own)
    last = [w.detach().clone() for w in own.weights.values()]
    own.use_average()
    assert own.average is None and all(torch.equal(w, old) for w, old in zip(own.weights.values(), last, strict=True))


@pytest.mark.parametrize("warmup", [0, 2, 7])
def test_the_learning_rate_is_that_of_diffusers(warmup):
    rates = [step.learning_rate for step in training(warmup_steps=warmup)]
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=0.1)
    twin = get_cosine_schedule_with_warmup(optimizer, warmup, 8)
    expected = []
    for _ in range(8):
        expected.append(twin.get_last_lr()[0])
        optimizer.step()
        twin.step()
    assert rates == pytest.approx(expected)


def test_minutes_end_a_training_at_rate_zero(tmp_path, monkeypatch):
    now = iter(range(10_000))
    monkeypatch.setattr(loop.time, "perf_counter", lambda: 3.0 * next(now))  # a step takes 3 seconds
    checkpoint = Checkpoint(tmp_path / "checkpoint.safetensors", "it")
    settings = {"steps": None, "minutes": 1.0, "warmup_steps": 0}
    assert next(resume(training(**settings), checkpoint, 1)).number == 1
    steps = list(resume(training(**settings), checkpoint, 1))  # what was spent before counts
    assert (steps[0].number, steps[-1].number, steps[-1].done) == (2, 20, 1.0)
    assert steps[-1].learning_rate < 0.01 * 0.1 < steps[0].learning_rate


def test_what_fails_is_told_in_a_paragraph():
    nan = lambda step: nn.Parameter(torch.ones(1)).sum() * float("nan" if step == 2 else 1)
    with pytest.raises(FigmentError, match=r"The training diverged: its loss became nan at step 3 \(learning rate"):
        list(training(nan))

    def starved(step):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(FigmentError, match=r"Out of memory while trying it\. Lower it"):
        list(training(starved))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_products_are_in_the_asked_precision(precision):
    seen = []

    def loss(step):
        weight = nn.Parameter(torch.ones(2, 2))
        seen.append((weight @ weight).dtype)
        return (weight @ weight).float().sum()

    list(training(loss, precision=precision, steps=3))
    assert set(seen) == {getattr(torch, precision)}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "would never end"),
        ({"steps": 5, "warmup_steps": 5}, "only 5 steps"),
        ({"steps": 5, "ema_decay": 1}, "ema_decay"),
    ],
)
def test_settings_that_cannot_be(given, said):
    with pytest.raises(ValidationError, match=said):
        TrainingSettings(**given)


def test_only_matrices_decay():
    groups = training(weight_decay=0.5).optimizer.param_groups
    assert [(g["weight_decay"], {w.ndim for w in g["params"]}) for g in groups] == [(0.5, {2}), (0.0, {1})]

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from figment.learners.clip_head.losses import soft_target_cross_entropy, soft_targets
from figment.learners.clip_head.together import Loss


def naive(
    student: list[float], teacher: list[float], teacher_temperature: float, student_temperature: float = 1.0
) -> float:
    """One row, written from the formula with plain floats."""

    def softmax(z: list[float], t: float) -> list[float]:
        e = [math.exp(v / t) for v in z]
        return [v / sum(e) for v in e]

    p, q = softmax(teacher, teacher_temperature), softmax(student, student_temperature)
    return -sum(a * math.log(b) for a, b in zip(p, q, strict=True))


@pytest.mark.parametrize(("student", "value"), [((2.0, 0.0), 0.66481), ((1.0, 0.0), 0.58220), ((0.0, 0.0), 0.69315)])
def test_known_values(student, value):
    loss = soft_target_cross_entropy(torch.tensor([student]), torch.tensor([[2.0, 0.0]]), temperature=2.0)
    assert loss.item() == pytest.approx(value, abs=5e-6)


def test_is_the_mean_of_the_naive_twin_over_the_batch():
    torch.manual_seed(0)
    student, teacher = torch.randn(5, 4, dtype=torch.float64) * 3, torch.randn(5, 4, dtype=torch.float64) * 3
    rows = list(zip(student.tolist(), teacher.tolist(), strict=True))
    one_sided = sum(naive(s, t, 3.0) for s, t in rows) / 5
    hinton = 9 * sum(naive(s, t, 3.0, 3.0) for s, t in rows) / 5
    assert soft_target_cross_entropy(student, teacher, 3.0).item() == pytest.approx(one_sided, rel=1e-12)
    assert soft_target_cross_entropy(student, teacher, 3.0, symmetric=True).item() == pytest.approx(hinton, rel=1e-12)


def test_at_temperature_one_both_forms_agree():
    student, teacher = torch.randn(3, 7), torch.randn(3, 7)
    a, b = (soft_target_cross_entropy(student, teacher, 1.0, symmetric=s) for s in (False, True))
    assert torch.equal(a, b)


def closed_form(logits: torch.Tensor, labels, soft_weights, hard_weights, soft=None, smoothing=None, temperature=1.0):
    """Loss and slope of K trainings: logits (K, B, N), labels (K, B), weights (K, B), soft (K * B, N)."""
    k, b, n = logits.shape
    own = Loss((1, k, n, b), logits, soft, smoothing, temperature)
    rows = torch.arange(k * b).view(1, k, b)
    own.prepare(rows, labels[None], soft_weights[None], hard_weights[None])
    slope = own.slope(0, logits.transpose(1, 2).contiguous()).transpose(1, 2)
    return own.values(1)[0], slope


@pytest.mark.parametrize("n_classes", [5, 40])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_closed_form_is_what_autograd_finds(temperature, label_smoothing, n_classes):
    """Two trainings of six images, each of which counts differently; one counts nothing, as an empty place does."""
    torch.manual_seed(0)
    logits = torch.randn(2, 6, n_classes, dtype=torch.float64, requires_grad=True)
    soft = soft_targets(torch.randn(12, n_classes, dtype=torch.float64), 2.0)
    labels = torch.tensor([[0, 4, 2, 2, 1, 0], [1, 1, 3, 0, 4, 2]])
    a, b = torch.rand(2, 6, dtype=torch.float64), torch.rand(2, 6, dtype=torch.float64)
    a[1, 3] = b[1, 3] = 0
    z = logits.flatten(0, 1) / temperature
    ce = lambda targets, smooth=0.0: F.cross_entropy(z, targets, reduction="none", label_smoothing=smooth).view(2, 6)
    expected = temperature**2 * (a * ce(soft) + b * ce(labels.flatten(), label_smoothing)).sum(1)
    expected.sum().backward()
    loss, slope = closed_form(logits.detach(), labels, a, b, soft, label_smoothing, temperature)
    torch.testing.assert_close(loss, expected.detach())
    torch.testing.assert_close(slope, logits.grad)


@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_each_part_of_the_loss_alone(kind):
    torch.manual_seed(0)
    logits = torch.randn(1, 6, 5, dtype=torch.float64, requires_grad=True)
    soft, labels = soft_targets(torch.randn(6, 5, dtype=torch.float64), 2.0), torch.tensor([[0, 4, 2, 2, 1, 0]])
    weight, nothing = torch.rand(1, 6, dtype=torch.float64), torch.ones(1, 6, dtype=torch.float64)
    targets = soft if kind == "soft" else labels[0]
    expected = (weight[0] * F.cross_entropy(logits[0], targets, reduction="none")).sum()
    expected.backward()
    given = (labels, weight, nothing, soft, None) if kind == "soft" else (labels, nothing, weight, None, 0.0)
    loss, slope = closed_form(logits.detach(), *given)
    torch.testing.assert_close(loss[0], expected.detach())
    torch.testing.assert_close(slope, logits.grad)


def test_survives_logits_of_clip_size():
    student, teacher = torch.tensor([[100.0, -100.0]]), torch.tensor([[-100.0, 100.0]])
    assert soft_target_cross_entropy(student, teacher, 2.0).item() == pytest.approx(200.0)

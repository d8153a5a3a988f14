from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from figment.learners.clip_head.losses import cross_entropy_and_gradient, soft_target_cross_entropy, soft_targets


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


@pytest.mark.parametrize("n_classes", [5, 15, 16, 40])  # few are worked out another way
@pytest.mark.parametrize("symmetric", [False, True])
def test_closed_form_is_what_autograd_finds(symmetric, n_classes):
    torch.manual_seed(0)
    student = torch.randn(6, n_classes, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(6, n_classes, dtype=torch.float64)
    expected = soft_target_cross_entropy(student, teacher, 3.0, symmetric=symmetric)
    expected.backward()
    before = student.detach().clone()
    loss, gradient = cross_entropy_and_gradient(student.detach(), soft_targets(teacher, 3.0), 3.0 if symmetric else 1.0)
    torch.testing.assert_close(loss, expected.detach())
    torch.testing.assert_close(gradient, student.grad)
    assert torch.equal(student.detach(), before)


def test_survives_logits_of_clip_size():
    student, teacher = torch.tensor([[100.0, -100.0]]), torch.tensor([[-100.0, 100.0]])
    assert soft_target_cross_entropy(student, teacher, 2.0).item() == pytest.approx(200.0)


@pytest.mark.parametrize("n_classes", [5, 40])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_classes_as_targets_are_what_autograd_finds(label_smoothing, n_classes):
    torch.manual_seed(0)
    logits = torch.randn(6, n_classes, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 4, 2, 2, 1, 0])
    expected = 0.3 * 9 * F.cross_entropy(logits / 3, labels, label_smoothing=label_smoothing)
    expected.backward()
    loss, gradient = cross_entropy_and_gradient(logits.detach(), labels, 3.0, label_smoothing, weight=0.3)
    torch.testing.assert_close(loss, expected.detach())
    torch.testing.assert_close(gradient, logits.grad)

"""The soft-target loss of He et al. 2023 (section 3.2): the untuned classifier's opinion as a second label.

Generated images are labelled by their prompts, and some prompts are not obeyed. The zero-shot classifier's softened
probabilities say which classes an image may also show, and so take the edge off the wrong labels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def soft_targets(teacher_logits: Tensor, temperature: float) -> Tensor:
    """``softmax(teacher_logits / temperature)``: float (B, N) to float (B, N), rows summing to 1."""
    return torch.softmax(teacher_logits / temperature, dim=-1)


def soft_target_cross_entropy(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float, symmetric: bool = False
) -> Tensor:
    """Cross-entropy of the student to the teacher's softened probabilities, the mean over the batch.

    Args:
        student_logits: float (B, N).
        teacher_logits: float (B, N); gradients are not blocked here.
        temperature: above 0. He et al. soften the teacher alone and scale by nothing.
        symmetric: soften the student as well and multiply by ``temperature ** 2``, as Hinton et al. 2015 do, so that
            the gradient keeps its size.

    Returns:
        A scalar, in nats.
    """
    targets = soft_targets(teacher_logits, temperature)
    if symmetric:
        return temperature**2 * F.cross_entropy(student_logits / temperature, targets)
    return F.cross_entropy(student_logits, targets)


def cross_entropy_and_gradient(
    logits: Tensor, targets: Tensor, temperature: float = 1.0, label_smoothing: float = 0.0, weight: float = 1.0
) -> tuple[Tensor, Tensor]:
    """``T^2 * mean_b -sum_c targets_bc * log_softmax(logits / T)_bc``, and its gradient by the logits in closed form.

    Args:
        logits: float (B, N).
        targets: float (B, N), rows summing to 1; or classes, int64 (B,), as `F.cross_entropy` takes them.
        temperature: T, above 0.
        label_smoothing: share of a class that is spread over all of them, in [0, 1); of classes alone.
        weight: what both results are multiplied by.

    Returns:
        The scalar loss in nats, and float (B, N): ``T / B * (softmax(logits / T) - targets)``.
    """
    log_p = _log_softmax(logits / temperature if temperature != 1 else logits)
    if targets.is_floating_point():
        likelihood = torch.dot(targets.flatten(), log_p.flatten())
        slope = log_p.exp_().sub_(targets)
    else:
        sure, spread = 1 - label_smoothing, label_smoothing / logits.shape[1]
        likelihood = sure * log_p.gather(1, targets[:, None]).sum() + spread * log_p.sum()
        slope = add_at_labels(log_p.exp_().sub_(spread), targets, -sure)
    scale = weight * temperature / len(logits)
    return likelihood * (-scale * temperature), slope.mul_(scale)


def add_at_labels(matrix: Tensor, labels: Tensor, value: float) -> Tensor:
    """Add ``value`` in place where each row of ``matrix`` (B, N) has its class of ``labels`` (B,)."""
    return matrix.scatter_add_(1, labels[:, None], matrix.new_full((len(labels), 1), value))


def _log_softmax(logits: Tensor) -> Tensor:
    """By rows. Where they are shorter than a vector register, torch is slow along them, and fast across them."""
    if logits.shape[1] < 16:
        return torch.log_softmax(logits.T, dim=0).T.contiguous()
    return torch.log_softmax(logits, dim=1)

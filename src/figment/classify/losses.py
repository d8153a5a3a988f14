"""The soft-target loss of He et al. 2023 (section 3.2): the untuned classifier's opinion as a second label.

Generated pictures are labelled by their prompts, and some prompts are not obeyed. The zero-shot classifier's softened
probabilities say which classes a picture may also show, and so take the edge off the wrong labels.
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


def cross_entropy_and_gradient(logits: Tensor, targets: Tensor, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """``T^2 * mean_b -sum_c targets_bc * log_softmax(logits / T)_bc``, and its gradient by the logits in closed form.

    Args:
        logits: float (B, N).
        targets: float (B, N), rows summing to 1.
        temperature: T, above 0.

    Returns:
        The scalar loss in nats, and float (B, N): ``T / B * (softmax(logits / T) - targets)``.
    """
    log_p = torch.log_softmax(logits / temperature if temperature != 1 else logits, dim=-1)
    loss = -(temperature**2) / len(logits) * torch.sum(targets * log_p)
    return loss, (log_p.exp_() - targets).mul_(temperature / len(logits))

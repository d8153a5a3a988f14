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


def cross_entropy_to(targets: Tensor, student_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """``T^2 * mean_b -sum_c targets_bc * log_softmax(student_logits / T)_bc``.

    The factor ``T^2`` keeps the size of the gradient where a temperature above 1 would shrink it (Hinton et al. 2015).

    Args:
        targets: float (B, N), rows summing to 1.
        student_logits: float (B, N).
        temperature: T, above 0.

    Returns:
        A scalar, in nats.
    """
    return temperature**2 * F.cross_entropy(student_logits / temperature, targets)


def soft_target_cross_entropy(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float, symmetric: bool = False
) -> Tensor:
    """Cross-entropy of the student to the teacher's softened probabilities, the mean over the batch.

    Args:
        student_logits: float (B, N).
        teacher_logits: float (B, N); gradients are not blocked here.
        temperature: above 0. He et al. soften the teacher alone and scale by nothing.
        symmetric: soften the student as well and multiply by ``temperature ** 2``, as Hinton et al. 2015 do.

    Returns:
        A scalar, in nats.
    """
    return cross_entropy_to(
        soft_targets(teacher_logits, temperature), student_logits, temperature if symmetric else 1.0
    )

"""The soft-target loss of He et al. 2023 (section 3.2): the untuned classifier's opinion as a second label.

Generated images are labelled by their prompts, and some prompts are not obeyed. The zero-shot classifier's softened
probabilities say which classes an image may also show, and so take the edge off the wrong labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from figment.learners.clip_head.settings import TuneSettings


def soft_targets(teacher_logits: Tensor, temperature: float, hard: bool = False) -> Tensor:
    """``softmax(teacher_logits / temperature)``: float (B, N) to float (B, N), rows summing to 1.

    With ``hard`` the teacher's first choice has all of it, as in the authors' program with ``--hard_pseudo_label``.
    """
    if hard:
        return F.one_hot(teacher_logits.argmax(-1), teacher_logits.shape[-1]).to(teacher_logits.dtype)
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


@dataclass(frozen=True)
class Term:
    """A part of the loss: ``weight`` times the cross-entropy, at ``temperature``, to ``targets``.

    Those are classes, int64 (n,), of which ``label_smoothing`` is spread over all, or probabilities, float (n, N).
    """

    weight: float
    targets: Tensor
    temperature: float = 1.0
    label_smoothing: float = 0.0


def loss_terms(y: Tensor, teacher_logits: Tensor, settings: TuneSettings) -> list[Term]:
    """The loss ``soft_weight * SCE + (1 - soft_weight) * CE``, with targets worked out once for every image.

    Cross-entropy is linear in its targets, so both parts are one wherever the student's temperature is 1. Takes labels
    int64 (n,) and the teacher's logits float (n, N).
    """
    weight, smoothing, n_classes = settings.soft_weight, settings.label_smoothing, teacher_logits.shape[1]
    hard = Term(1 - weight, y, label_smoothing=smoothing)
    if weight == 0:
        return [hard]
    soft = soft_targets(teacher_logits, settings.temperature, settings.hard_pseudo_labels)
    if settings.symmetric_temperature:
        return [Term(weight, soft, settings.temperature), hard]
    smooth = (1 - smoothing) * F.one_hot(y, n_classes) + smoothing / n_classes
    return [Term(1.0, weight * soft + (1 - weight) * smooth)]

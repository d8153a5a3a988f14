"""What every training of a head shares: its weights as one matrix, unit features, the schedule, and AdamW.

The encoder is frozen, so a training step is two small matrix products. What costs time is everything around them:
`figment.learners.clip_head.together` has the step, and `benchmarks/tune.py` measures it.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor

from figment.errors import FigmentError
from figment.learners.clip_head.head import Head
from figment.learners.clip_head.settings import TuneSettings
from figment.learners.training import schedule

BETAS, EPS = (0.9, 0.999), 1e-8  # AdamW's


class AdamW:
    """AdamW with the schedule on K matrices at once, float32 (K, N, W), each clipped by the norm of its own gradient."""

    def __init__(self, weights: Tensor, settings: TuneSettings, steps: int) -> None:
        self.weights, self.settings = weights, settings
        self.rates = schedule(settings.learning_rate, settings.warmup_steps, steps)
        self.mean, self.square = torch.zeros_like(weights), torch.zeros_like(weights)
        self.done = torch.zeros((), device=weights.device)  # steps; the kernel wants a tensor

    def step(self, gradient: Tensor, rate: float) -> None:
        """One update in place, which spoils ``gradient`` (K, N, W)."""
        most = self.settings.grad_clip
        length = torch.linalg.vector_norm(gradient, dim=(1, 2), keepdim=True).clamp_(min=most)
        gradient.div_(length if most == 1 else length.div_(most))
        self.done += 1
        # The kernel under torch.optim.AdamW(fused=True). What the class looks up around it takes longer than a step.
        torch._fused_adamw_(
            [self.weights],
            [gradient],
            [self.mean],
            [self.square],
            [],
            [self.done],
            amsgrad=False,
            beta1=BETAS[0],
            beta2=BETAS[1],
            lr=rate,
            weight_decay=self.settings.weight_decay,
            eps=EPS,
            maximize=False,
        )


def matrix_of(head: Head) -> Tensor:
    """A copy of the head's weights with the bias as one more column, and zeros after it: float32 (N, W)."""
    n_classes, n_features = head.linear.weight.shape
    matrix = head.linear.weight.new_zeros(n_classes, width_of(n_features))
    matrix[:, :n_features] = head.linear.weight.detach()
    matrix[:, n_features] = head.linear.bias.detach()
    return matrix


def width_of(n_features: int) -> int:
    """W: D + 1 rounded up to a multiple of 16. Rows then begin at cache lines, and products are a sixth faster."""
    return n_features // 16 * 16 + 16


def with_matrix(head: Head, weights: Tensor) -> Head:
    """A copy of ``head`` with the weights and bias of such a matrix."""
    head = copy.deepcopy(head)
    n_features = head.linear.in_features
    with torch.no_grad():
        head.linear.weight.copy_(weights[:, :n_features])
        head.linear.bias.copy_(weights[:, n_features])
    return head


def tensors_of(head: Head, features: np.ndarray, labels: np.ndarray, what: str) -> tuple[Tensor, Tensor]:
    """Unit features, a 1 for the bias and zeros, float32 (n, W), and labels int64 (n,), once they prove to be sound."""
    features = np.asarray(features)
    n_classes, n_features = head.linear.weight.shape
    if features.ndim != 2 or features.shape[1] != n_features or np.shape(labels) != (len(features),) or not len(labels):
        raise FigmentError(
            f"The {what} features have shape {features.shape} and the labels {np.shape(labels)}; needed are "
            f"(n, {n_features}) and (n,), with n at least 1. Encode the images with the encoder of the classifier."
        )
    labels = checked_labels(labels, n_classes, what)
    x = unit_rows(features, what, head.linear.weight.device)
    return x, torch.from_numpy(labels).to(x.device)


def checked_labels(labels: np.ndarray, n_classes: int, what: str) -> np.ndarray:
    """int64, once they prove to be classes of the head."""
    labels = np.array(labels, dtype=np.int64)
    if labels.min() < 0 or labels.max() >= n_classes:
        raise FigmentError(
            f"The {what} labels run from {labels.min()} to {labels.max()}; the classifier has {n_classes} classes, so "
            f"they must lie in 0 to {n_classes - 1}. Check that the images and the classifier are of the same task."
        )
    return labels


def unit_rows(features: np.ndarray, what: str, device: torch.device) -> Tensor:
    """float (n, D) to float32 (n, W): rows of unit length, a 1 for the bias, and zeros. Raises FigmentError for a NaN."""
    features = np.require(features, dtype=np.float32, requirements=["C", "W"])  # torch warns of what it cannot write to
    n_features = features.shape[1]
    x = torch.empty(len(features), width_of(n_features), device=device)
    x[:, n_features:] = 0
    x[:, n_features] = 1
    unit = x[:, :n_features].copy_(torch.from_numpy(features))
    lengths = torch.linalg.vector_norm(unit, dim=1, keepdim=True)
    # a row that is not finite has no finite length; the converse fails where squares are too large for float32
    if not lengths.isfinite().all() and (broken := int((~np.isfinite(features).all(axis=1)).sum())):
        raise FigmentError(
            f"{broken} of {len(features)} {what} features are NaN or infinite, and would spoil every weight. "
            "Drop those images, or encode them again in float32."
        )
    unit /= lengths.clamp_min_(1e-12)
    return x


def accuracy_of(weights: Tensor, x: Tensor, y: Tensor) -> float:
    """Share of the images ``x`` (m, W) that go to their class in ``y`` (m,)."""
    return ((x @ weights.T).argmax(dim=-1) == y).float().mean().item()

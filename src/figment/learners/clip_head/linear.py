"""Softmax regression on features held in memory: its gradient written down, its update in one pass.

The encoder is frozen, so a training step is two small matrix products. What costs time is everything around them: so
there is no data loader, targets are worked out once, and autograd records nothing. `benchmarks/tune.py` measures it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce

import numpy as np
import torch
from torch import Tensor
from torch.optim.adamw import adamw

from figment.errors import FigmentError
from figment.learners.clip_head.head import Head
from figment.learners.clip_head.losses import add_at_labels, cross_entropy_and_gradient, soft_targets
from figment.learners.clip_head.settings import TuneSettings
from figment.learners.training import schedule

BETAS, EPS = (0.9, 0.999), 1e-8  # AdamW's
ROWS_AT_ONCE = 8_192  # of soft targets: bounds what is needed besides them


class AdamW:
    """AdamW on one matrix, with clipping and the schedule.

    The update is that of ``torch.optim.AdamW(fused=True)``, a single pass, less what the class looks up at every step.
    """

    def __init__(self, weights: Tensor, settings: TuneSettings, steps: int) -> None:
        self.weights, self.settings = weights, settings
        self.rates = iter(schedule(settings.learning_rate, settings.warmup_steps, steps))
        self.mean, self.square = torch.zeros_like(weights), torch.zeros_like(weights)
        self.done = torch.zeros((), device=weights.device)  # steps: torch counts them here

    def step(self, gradient: Tensor) -> float:
        """One update in place, which spoils ``gradient``; the learning rate it was made with."""
        rate = next(self.rates)
        gradient *= (self.settings.grad_clip / (torch.linalg.vector_norm(gradient) + 1e-6)).clamp_(max=1.0)
        adamw(
            [self.weights],
            [gradient],
            [self.mean],
            [self.square],
            [],
            [self.done],
            fused=True,
            amsgrad=False,
            beta1=BETAS[0],
            beta2=BETAS[1],
            lr=rate,
            weight_decay=self.settings.weight_decay,
            eps=EPS,
            maximize=False,
        )
        return rate


def _onednn() -> Callable[..., Tensor] | None:
    """oneDNN's linear layer where the processor has AVX-512; private to torch, so a torch without it does without."""
    if not torch.backends.mkldnn.is_available() or torch.backends.cpu.get_cpu_capability() != "AVX512":
        return None
    return getattr(torch.ops.mkldnn, "_linear_pointwise", None)


ONEDNN = _onednn()


def product(a: Tensor, b: Tensor) -> Tensor:
    """``a @ b.T``: float32 (p, k) and (q, k) to (p, q).

    On a CPU, ``@`` is MKL's product, which takes twice as long as oneDNN's on an AMD processor, with a thousand classes
    and with ten.
    """
    if ONEDNN is None or a.device.type != "cpu":
        return a @ b.T
    return ONEDNN(a, b, None, "none", [], "")


@dataclass(frozen=True)
class Term:
    """A part of the loss: ``weight`` times the cross-entropy, at ``temperature``, to ``targets``.

    Those are classes, int64 (n,), of which ``label_smoothing`` is spread over all, or probabilities, float (n, N).
    """

    weight: float
    targets: Tensor
    temperature: float = 1.0
    label_smoothing: float = 0.0


def loss_terms(x: Tensor, y: Tensor, teacher: Tensor, settings: TuneSettings) -> list[Term]:
    """The loss ``soft_weight * SCE + (1 - soft_weight) * CE``, with targets worked out once for every image.

    Cross-entropy is linear in its targets, so both parts are one wherever the student's temperature is 1. Only soft
    targets take a matrix (n, N), about as large as the features where there are a thousand classes.
    """
    weight, smoothing, n_classes = settings.soft_weight, settings.label_smoothing, len(teacher)
    hard = Term(1 - weight, y, label_smoothing=smoothing)
    if weight == 0:
        return [hard]
    soft = torch.empty(len(x), n_classes, device=x.device)
    for some, into in zip(x.split(ROWS_AT_ONCE), soft.split(ROWS_AT_ONCE), strict=True):
        into.copy_(soft_targets(product(some, teacher), settings.temperature))
    if settings.symmetric_temperature:
        return [Term(weight, soft, settings.temperature), hard]
    soft.mul_(weight).add_((1 - weight) * smoothing / n_classes)
    return [Term(1.0, add_at_labels(soft, y, (1 - weight) * (1 - smoothing)))]


def loss_and_gradient(weights: Tensor, x: Tensor, terms: list[Term], batch: Tensor) -> tuple[Tensor, Tensor]:
    """The mean loss of the images ``batch`` (B,) of ``x`` (n, W) and ``terms``, and its gradient (N, W)."""
    x = x.index_select(0, batch)  # in a third of the time of x[batch]
    logits = product(x, weights)  # (B, N)
    losses, slopes = zip(*(loss_and_slope(logits, term, batch) for term in terms), strict=True)
    return reduce(torch.add, losses), product(reduce(torch.add, slopes).T, x.T)


def loss_and_slope(logits: Tensor, term: Term, batch: Tensor) -> tuple[Tensor, Tensor]:
    """What ``term`` adds to the loss of the images ``batch``, and to its gradient by their ``logits``: (B, N) both."""
    targets = term.targets.index_select(0, batch)
    return cross_entropy_and_gradient(logits, targets, term.temperature, term.label_smoothing, term.weight)


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
    head.linear.weight.copy_(weights[:, :n_features])
    head.linear.bias.copy_(weights[:, n_features])
    return head


def tensors_of(head: Head, features: np.ndarray, labels: np.ndarray, what: str) -> tuple[Tensor, Tensor]:
    """Unit features, a 1 for the bias and zeros, float32 (n, W), and labels int64 (n,), once they prove to be sound."""
    features = np.require(features, dtype=np.float32, requirements=["C", "W"])  # torch warns of what it cannot write to
    labels = np.asarray(labels, dtype=np.int64)
    n_classes, n_features = head.linear.weight.shape
    if features.ndim != 2 or features.shape[1] != n_features or labels.shape != (len(features),) or not len(features):
        raise FigmentError(
            f"The {what} features have shape {features.shape} and the labels {labels.shape}; needed are "
            f"(n, {n_features}) and (n,), with n at least 1. Encode the images with the encoder of the classifier."
        )
    if labels.min() < 0 or labels.max() >= n_classes:
        raise FigmentError(
            f"The {what} labels run from {labels.min()} to {labels.max()}; the classifier has {n_classes} classes, so "
            f"they must lie in 0 to {n_classes - 1}. Check that the images and the classifier are of the same task."
        )
    x = torch.empty(len(features), width_of(n_features), device=head.linear.weight.device)
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
    return x, torch.tensor(labels, device=x.device)


def accuracy_of(weights: Tensor, x: Tensor, y: Tensor) -> float:
    """Share of the images ``x`` (m, W) that go to their class in ``y`` (m,)."""
    return (product(x, weights).argmax(dim=-1) == y).float().mean().item()

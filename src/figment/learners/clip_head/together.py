"""Many heads trained at once: softmax regression on features in memory, its gradient written down, no autograd.

One head's step is a few microseconds of arithmetic under a hundred of calls, so K heads share the calls: all their
products are one, and so is every pass over their weights. Each sees its own images in its own order, and ends with the
weights it would have on its own, up to rounding.

Everything a step writes goes to buffers that live as long as the training: a fresh megabyte from the system costs more
than the arithmetic on it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from figment.errors import WEIGHTS, diverged
from figment.learners.clip_head.linear import AdamW, accuracy_of
from figment.learners.clip_head.losses import soft_targets
from figment.learners.clip_head.settings import TuneSettings
from figment.learners.training import MEND

CHUNK_BYTES = (
    2**21
)  # of the images, and of the targets, of steps that are prepared at a time: about what stays in a cache
GROUP_BYTES = 2**22  # of the images in one step of all trainings that run together: more would not be faster
SHORT_STEP = 15_000_000  # floating-point operations: a few hundred microseconds of one core
ROWS_AT_ONCE = 8_192  # of soft targets: bounds what is needed besides them


@dataclass(frozen=True)
class Part:
    """Images of one kind that a training learns from, by their rows in the features that all trainings share.

    ``rows`` and ``labels`` are int64 (n,). A step takes ``batch_size`` of them, whose loss counts ``weight``; its share
    ``soft_weight`` is the cross-entropy to the teacher's probabilities, the rest that to the labels.
    """

    rows: Tensor
    labels: Tensor
    batch_size: int
    soft_weight: float = 0.0
    weight: float = 1.0


@dataclass(frozen=True)
class Plan:
    """The T steps of one training: at each, which images it sees and how much each counts. Places may be empty."""

    rows: Tensor  # int64 (T, B)
    labels: Tensor  # int64 (T, B)
    soft: Tensor  # float32 (T, B): weight of the cross-entropy to the teacher's probabilities; 0 where a place is empty
    hard: Tensor  # float32 (T, B): weight of that to the label
    shares: Tensor  # float32 (T,): of the epoch's images
    epoch_steps: int

    def __len__(self) -> int:
        return len(self.rows)


def plan(parts: Sequence[Part], epochs: int, seed: int, min_steps: int = 0) -> Plan:
    """A batch of each part a step. An epoch is one pass over the first; others go round and round, in new orders.

    The order of part i is ``torch.randperm`` with a generator of seed + i, anew at each turn. Where the epochs give
    fewer than ``min_steps``, there are as many more as it takes.
    """
    first = parts[0]
    epoch_steps = math.ceil(len(first.rows) / first.batch_size)
    steps = max(epochs, math.ceil(min_steps / epoch_steps)) * epoch_steps
    rows, labels, soft, hard = [], [], [], []
    shares = torch.empty(0)
    for i, part in enumerate(parts):
        places = _places(len(part.rows), part.batch_size, steps, seed + i)  # (T, B), -1 where empty
        filled = (places >= 0).float()
        count = filled.sum(1)  # (T,)
        shares = count / len(part.rows) if i == 0 else shares
        each = filled * (part.weight / count)[:, None]
        places.clamp_(min=0)
        rows.append(part.rows[places])
        labels.append(part.labels[places])
        soft.append(each * part.soft_weight)
        hard.append(each * (1 - part.soft_weight))
    return Plan(
        torch.cat(rows, dim=1),
        torch.cat(labels, dim=1),
        torch.cat(soft, dim=1),
        torch.cat(hard, dim=1),
        shares,
        epoch_steps,
    )


def _places(n: int, size: int, steps: int, seed: int) -> Tensor:
    """The places of ``n`` images in batches, int64 (steps, min(n, size)): each turn over them in a new order."""
    generator = torch.Generator().manual_seed(seed)
    a_turn, size = math.ceil(n / size), min(n, size)
    turns = math.ceil(steps / a_turn)
    orders = torch.stack([torch.randperm(n, generator=generator) for _ in range(turns)])
    return F.pad(orders, (0, a_turn * size - n), value=-1).view(-1, size)[:steps]


def teacher_probabilities(x: Tensor, teacher: Tensor, s: TuneSettings) -> Tensor:
    """What a teacher (N, W) says of the images x (n, W), softened or hardened: float32 (n, N)."""
    soft = x.new_empty(len(x), len(teacher))
    for some, into in zip(x.split(ROWS_AT_ONCE), soft.split(ROWS_AT_ONCE), strict=True):
        into.copy_(soft_targets(some @ teacher.T, s.temperature, s.hard_pseudo_labels))
    return soft


@dataclass(frozen=True)
class Trained:
    """Weights float32 (N, W), and the history of `figment.learners.clip_head.tune.Tuned`."""

    weights: Tensor
    history: list[dict[str, Any]]


@torch.no_grad()
def train_together(
    starts: Tensor,
    x: Tensor,
    soft: Tensor | None,
    plans: Sequence[Plan],
    settings: TuneSettings,
    seen: tuple[Tensor, Tensor] | None = None,
) -> list[Trained]:
    """Train each plan from its start; those of one length run together, as many at a time as is fast.

    Args:
        starts: float32 (K, N, W), one a plan; stays as it is.
        x: float32 (n, W), the features whose rows the plans name.
        soft: float32 (n, N), the teacher's softened probabilities of them; None where no plan asks for them.
        settings: the learning rate, its schedule, AdamW, temperature, label smoothing, and which epoch to keep.
        seen: validation features (m, W) and labels (m,).

    Raises FigmentError where one of them diverges, with the step.
    """
    groups: dict[int, list[int]] = defaultdict(list)
    for k, p in enumerate(plans):
        groups[len(p)].append(k)
    done: dict[int, Trained] = {}
    for members in groups.values():
        widest = max(plans[k].rows.shape[1] for k in members)
        at_once = max(1, GROUP_BYTES // (widest * x.shape[1] * x.element_size()))
        for start in range(0, len(members), at_once):
            some = members[start : start + at_once]
            group = _Group(starts[some], x, soft, [plans[k] for k in some], settings, seen)
            with _threads(group.flops):
                done.update(zip(some, group.train(), strict=True))
    return [done[k] for k in range(len(plans))]


class _Group:
    """K trainings of T steps, side by side."""

    def __init__(
        self,
        weights: Tensor,
        x: Tensor,
        soft: Tensor | None,
        plans: Sequence[Plan],
        s: TuneSettings,
        seen: tuple[Tensor, Tensor] | None,
    ) -> None:
        self.x, self.plans, self.s, self.seen = x, plans, s, seen
        self.steps, n_classes = len(plans[0]), weights.shape[1]
        self.optimizer = AdamW(weights, s, self.steps)
        self.rows, self.labels, self.soft, self.hard = (
            _side_by_side([getattr(p, name) for p in plans], x.device) for name in ("rows", "labels", "soft", "hard")
        )  # (T, K, B)
        k, b = self.rows.shape[1:]
        at_once = CHUNK_BYTES // (k * b * x.element_size())
        self.chunk = min(self.steps, max(1, at_once // (2 * n_classes)))  # steps whose targets are worked out at a time
        self.images = x.new_empty(min(self.chunk, max(1, at_once // x.shape[1])), k, b, x.shape[1])  # of fewer steps
        self.views = list(
            zip(self.images.unbind(), self.images.transpose(2, 3).unbind(), strict=True)
        )  # once, not a step
        self.logits, self.gradient = x.new_empty(k, n_classes, b), torch.empty_like(weights)
        shape = (self.chunk, k, n_classes, b)
        soft = soft if bool(self.soft.any()) else None
        if soft is not None and s.symmetric_temperature:
            self.losses = [Loss(shape, x, soft, None, s.temperature), Loss(shape, x, None, s.label_smoothing)]
        else:  # cross-entropy is linear in its targets, so both parts are one
            self.losses = [Loss(shape, x, soft, s.label_smoothing)]

    @property
    def flops(self) -> int:
        """Of the two products of a step."""
        return 4 * self.images[0].numel() * self.logits.shape[1]

    def train(self) -> list[Trained]:
        weights = self.optimizer.weights
        spent = self.x.new_empty(self.steps, len(self.plans))  # the loss of each step; a GPU need not wait at any
        watch = _Watch(self.plans, self.s, self.seen)
        for start in range(0, self.steps, self.chunk):
            n = min(self.chunk, self.steps - start)
            steps = slice(start, start + n)
            for loss in self.losses:
                loss.prepare(self.rows[steps], self.labels[steps], self.soft[steps], self.hard[steps])
            for i in range(n):
                place = i % len(self.images)
                if not place:
                    self._fetch(self.rows[start + i : start + min(n, i + len(self.images))])
                images, transposed = self.views[place]
                torch.bmm(weights, transposed, out=self.logits)  # (K, N, B)
                slope = self.losses[0].slope(i, self.logits)
                for other in self.losses[1:]:
                    slope += other.slope(i, self.logits)
                torch.bmm(slope, images, out=self.gradient)
                self.optimizer.step(self.gradient, self.optimizer.rates[start + i])
                watch.after(start + i, weights)
            spent[steps] = sum(loss.values(n) for loss in self.losses)
        self._check_finite(weights, spent)
        history = _histories(self.plans, spent.cpu(), self.optimizer.rates, watch.accuracies)
        return [Trained(watch.best.get(k, weights[k]), h) for k, h in enumerate(history)]

    def _check_finite(self, weights: Tensor, spent: Tensor) -> None:
        """Raise FigmentError for losses (T, K) or last weights (K, N, W) that are NaN or infinite, with the first step."""
        wrong = (
            ~spent.isfinite()
        )  # looked at once, at the end: a head takes seconds, and a GPU need not wait at any step
        if bool(wrong.any()):
            step, k = wrong.nonzero()[0].tolist()
            found = f"its loss became {spent[step, k].item()}"
        elif not bool(weights.isfinite().all()):
            found, step, k = WEIGHTS, self.steps - 1, int((~weights.isfinite()).flatten(1).any(1).nonzero()[0])
        else:
            return
        epoch = step // self.plans[k].epoch_steps + 1
        raise diverged("The training of the classifier", found, step + 1, epoch, self.optimizer.rates[step], MEND)

    def _fetch(self, rows: Tensor) -> None:
        """Features of the next few steps, int64 (S, K, B), in the order of their use."""
        torch.index_select(self.x, 0, rows.flatten(), out=self.images[: len(rows)].view(-1, self.x.shape[1]))


@contextmanager
def _threads(flops: int) -> Iterator[None]:
    """One thread for steps that are short: waiting for the others takes longer, on a busy machine a hundred times."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if flops < SHORT_STEP else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Loss:
    """``T^2 * sum_b weight_b * CE(targets_b, softmax(logits_b / T))`` of each training, for a chunk of S steps.

    The targets are the ``soft`` probabilities (n, N), the labels with ``smoothing``, or both, as their weights say. All
    buffers have the images last, (K, N, B): where classes are few, torch is fast across them and slow along them.
    """

    def __init__(
        self, shape: tuple[int, ...], x: Tensor, soft: Tensor | None, smoothing: float | None, temperature: float = 1.0
    ) -> None:
        self.soft, self.smoothing, self.temperature = soft, smoothing, temperature
        self.minus_targets, self.log_p = x.new_empty(shape), x.new_empty(shape)  # (S, K, N, B), times their weights
        self.p = x.new_empty(shape[1:])
        s, k, n_classes, b = shape
        self.fetched = x.new_empty(s * k * b if soft is not None else 0, n_classes)
        self.weights = x.new_empty(s, k, 1, b)
        self.views = list(zip(self.minus_targets.unbind(), self.log_p.unbind(), self.weights.unbind(), strict=True))

    def prepare(self, rows: Tensor, labels: Tensor, soft: Tensor, hard: Tensor) -> None:
        """Targets and weights of some steps, from (S, K, B) each."""
        s, k, b = rows.shape
        targets, n_classes = self.minus_targets[:s], self.minus_targets.shape[2]
        if self.soft is not None:
            fetched = self.fetched[: rows.numel()]
            torch.index_select(self.soft, 0, rows.flatten(), out=fetched)
            torch.mul(fetched.view(s, k, b, n_classes).transpose(2, 3), -soft[:, :, None], out=targets)
        else:
            targets.zero_()
        if self.smoothing is not None:
            if self.smoothing:
                targets.sub_(hard[:, :, None] * (self.smoothing / n_classes))
            targets.scatter_add_(2, labels[:, :, None], hard[:, :, None] * -(1 - self.smoothing))
        used = [w for w, is_used in ((soft, self.soft is not None), (hard, self.smoothing is not None)) if is_used]
        self.weights[:s] = torch.stack(used).sum(0)[:, :, None]
        if self.temperature != 1:  # T^2 of the loss, 1 / T of the chain rule
            targets.mul_(self.temperature)
            self.weights.mul_(self.temperature)

    def slope(self, i: int, logits: Tensor) -> Tensor:
        """The gradient by the logits (K, N, B) at step i: ``T * weight * (softmax(logits / T) - targets)``."""
        minus_targets, log_p, weights = self.views[i]
        torch.log_softmax(logits if self.temperature == 1 else logits / self.temperature, dim=1, out=log_p)
        torch.exp(log_p, out=self.p)
        return torch.addcmul(minus_targets, self.p, weights, out=self.p)

    def values(self, n: int) -> Tensor:
        """The loss at each of the n steps, (n, K), once all slopes are worked out."""
        log_p = self.log_p[:n]
        return torch.mul(self.minus_targets[:n], log_p, out=log_p).sum((2, 3)) * self.temperature


class _Watch:
    """Validation at the end of each epoch, and the weights of the best one where it is to be kept."""

    def __init__(self, plans: Sequence[Plan], s: TuneSettings, seen: tuple[Tensor, Tensor] | None) -> None:
        self.plans, self.seen, self.keeps_best = plans, seen, s.select != "last"
        self.accuracies: list[list[float]] = [[] for _ in plans]
        self.best: dict[int, Tensor] = {}

    def after(self, step: int, weights: Tensor) -> None:
        if self.seen is None:
            return
        for k, p in enumerate(self.plans):
            if (step + 1) % p.epoch_steps == 0:
                accuracy, before = accuracy_of(weights[k], *self.seen), self.accuracies[k]
                if self.keeps_best and accuracy > max(before, default=-1.0):
                    self.best[k] = weights[k].clone()
                before.append(accuracy)


def _histories(
    plans: Sequence[Plan], spent: Tensor, rates: list[float], accuracies: list[list[float]]
) -> list[list[dict[str, Any]]]:
    """One dict an epoch of each training, from the losses of all steps (T, K)."""
    found = []
    for k, p in enumerate(plans):
        losses = (spent[:, k] * p.shares).view(-1, p.epoch_steps).sum(1).tolist()
        ends = rates[p.epoch_steps - 1 :: p.epoch_steps]
        seen: Sequence[float | None] = accuracies[k] or [None] * len(losses)
        found.append(
            [
                {"epoch": i + 1, "loss": loss, "learning_rate": rate, "val_accuracy": accuracy}
                for i, (loss, rate, accuracy) in enumerate(zip(losses, ends, seen, strict=True))
            ]
        )
    return found


def _side_by_side(columns: Sequence[Tensor], device: torch.device) -> Tensor:
    """(T, B_k) each to (T, K, B), zeros where there are fewer than B = max B_k."""
    most = max(c.shape[1] for c in columns)
    return torch.stack([F.pad(c, (0, most - c.shape[1])) for c in columns], dim=1).to(device)

"""The loop that every training of a generator shares. It yields after each step, and any step can be gone on from.

Everything random in a step must follow from its number: then weights, optimizer and average are all there is to a state,
and a training that was killed ends with the same weights as one that was not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from figment.checkpoint import Checkpoint
from figment.errors import WEIGHTS, FigmentError, diverged
from figment.generate.training.settings import TrainingSettings


@dataclass(frozen=True, slots=True)
class Step:
    """``number`` counts from 1; ``done`` is the share of the training in (0, 1]."""

    number: int
    loss: float
    learning_rate: float
    done: float


class Share(Protocol):
    """One of many processes, as `figment.learners.processes.processes` returns it."""

    @property
    def rank(self) -> int: ...

    @property
    def world_size(self) -> int: ...

    @property
    def device(self) -> torch.device: ...

    def sum(self, value: Tensor) -> Tensor:
        """Of the values of all processes."""
        ...


def is_first(on: Share | None) -> bool:
    """Whether this is the process that writes: the only one, or the first of many."""
    return on is None or on.rank == 0


def first_says(on: Share | None, value: bool) -> bool:
    """What the first process gave; all processes come here, and none goes on before."""
    return value if on is None else bool(on.sum(torch.tensor(int(value and on.rank == 0), device=on.device)))


@dataclass(frozen=True)
class Advice:
    """What is said of a training that fails: its name, and what mends it when it diverges or memory runs out."""

    name: str
    diverged: str
    memory: str
    steps_an_epoch: int | None = None  # None: there are no epochs


class Training:
    """A training at some point of it; iterating takes it on from there to its end.

    Args:
        weights: what learns, by name: float32, changed in place.
        loss_of: the number of a step, from 0 -> its loss (), with a gradient; or the parts that add up to it, of which each is let go
            before the next is computed (gradient accumulation): less memory for the same step, up to rounding.
        settings: how the weights follow.
        judge: how bad the weights are that lie in ``weights`` while it is called; those that it found best can be had again.
        judge_every: after so many steps it is asked, and at the end.
        on: which of many processes this is; its ``loss_of`` is then its share of a step's loss, and all take the step of the sum.

    Raises FigmentError, while iterated, for a loss or weights that are not finite and when memory runs out.
    """

    def __init__(
        self,
        weights: Mapping[str, torch.nn.Parameter],
        loss_of: Callable[[int], Tensor | Iterable[Tensor]],
        settings: TrainingSettings,
        advice: Advice,
        *,
        judge: Callable[[], float] | None = None,
        judge_every: int = 1,
        on: Share | None = None,
    ):
        self.on = on
        if on is not None and settings.minutes is not None:
            raise FigmentError(
                "Processes that train together cannot end by the clock, as each has its own. Set steps, not minutes."
            )
        self.judge, self.judge_every = judge, judge_every
        self.scores: list[tuple[int, float]] = []  # what the judge said after each number of steps
        self.best: dict[str, Tensor] | None = None  # on the CPU
        self.weights, self.loss_of, self.settings, self.advice = dict(weights), loss_of, settings, advice
        groups = [
            {"params": [w for w in weights.values() if w.ndim > 1], "weight_decay": settings.weight_decay},
            {"params": [w for w in weights.values() if w.ndim <= 1], "weight_decay": 0.0},
        ]
        self.optimizer = _optimizer([g for g in groups if g["params"]], settings)
        self.average = {n: w.detach().clone() for n, w in weights.items()} if settings.ema_decay is not None else None
        self.losses: list[float] = []
        self.seconds = 0.0

    @property
    def device(self) -> torch.device:
        return next(iter(self.weights.values())).device

    def done(self) -> float:
        """The share of the training that is over, in [0, 1]."""
        return min(1.0, self._share(0))

    def _share(self, warmup: int) -> float:
        """Of what follows ``warmup`` steps, by the steps or the clock, whichever ends first."""
        s = self.settings
        steps = (len(self.losses) - warmup) / (s.steps - warmup) if s.steps else 0.0
        return max(0.0, steps, self.seconds / (60 * s.minutes) if s.minutes else 0.0)

    def learning_rate(self) -> float:
        """Of the next step: 0 at the first where there is a warm-up, as in diffusers' schedules."""
        s = self.settings
        rise = min(1.0, len(self.losses) / s.warmup_steps) if s.warmup_steps else 1.0
        return s.learning_rate * rise * 0.5 * (1 + math.cos(math.pi * min(1.0, self._share(s.warmup_steps))))

    def __iter__(self) -> Iterator[Step]:
        while self.done() < 1:
            step = self._step()
            if self.judge is not None and (step.number % self.judge_every == 0 or step.done >= 1):
                self._judge(self.judge)
            yield step
        if not all(bool(weight.isfinite().all()) for weight in self.weights.values()):
            raise self._diverged(WEIGHTS)

    def _step(self) -> Step:
        started, rate = time.perf_counter(), self.learning_rate()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        try:
            loss = self._backward()
        except torch.OutOfMemoryError as error:
            raise FigmentError(f"Out of memory while {self.advice.memory}") from error
        self.losses.append(loss if self.on is None else self._add_up(self.on, loss))
        if not math.isfinite(self.losses[-1]):
            raise self._diverged(f"its loss became {self.losses[-1]}")
        torch.nn.utils.clip_grad_norm_(self.weights.values(), self.settings.grad_clip)
        self.optimizer.step()
        self._follow()
        self.seconds += time.perf_counter() - started
        return Step(len(self.losses), self.losses[-1], rate, self.done())

    def _backward(self) -> float:
        """The loss of a step; its gradients are those of all its parts."""
        half, total = self.settings.precision == "bfloat16", 0.0
        parts: Iterator[Tensor] | None = None
        while True:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
                if parts is None:
                    loss = self.loss_of(len(self.losses))
                    parts = iter([loss] if isinstance(loss, Tensor) else loss)
                part = next(parts, None)
            if part is None:
                return total
            part.backward()
            total += part.item()

    @torch.no_grad()
    def _add_up(self, on: Share, loss: float) -> float:
        """The loss of all processes; so are the gradients afterwards."""
        for weight in self.weights.values():
            weight.grad = on.sum(torch.zeros_like(weight) if weight.grad is None else weight.grad)
        return on.sum(torch.tensor(loss, device=self.device)).item()

    @torch.no_grad()
    def _follow(self) -> None:
        """Take the average on. It forgets its start: the decay rises to its full value, (1 + n) / (10 + n) as in diffusers."""
        if self.average is not None and self.settings.ema_decay is not None:
            n = len(self.losses) - 1
            decay = min(self.settings.ema_decay, (1 + n) / (10 + n))
            for name, weight in self.weights.items():
                self.average[name].lerp_(weight, 1 - decay)

    @torch.no_grad()
    def _judge(self, judge: Callable[[], float]) -> None:
        """Ask the judge of the average, where one is kept, and keep what is better than all before."""
        own = {name: weight.detach().clone() for name, weight in self.weights.items()} if self.average else {}
        self.use_average()
        score = judge()
        if all(score < known for _, known in self.scores):
            self.best = {name: weight.detach().to("cpu", copy=True) for name, weight in self.weights.items()}
        self.scores.append((len(self.losses), score))
        for name, weight in own.items():
            self.weights[name].copy_(weight)

    @torch.no_grad()
    def use_best(self) -> None:
        """Put what was judged best in the place of the weights, or the average where nobody judged."""
        if self.best is None:
            self.use_average()
        for name, weight in (self.best or {}).items():
            self.weights[name].copy_(weight)

    @torch.no_grad()
    def use_average(self) -> None:
        """Put the average in the place of the weights, where one is kept: what a finished training is used with."""
        for name, mean in (self.average or {}).items():
            self.weights[name].copy_(mean)

    def _diverged(self, found: str) -> FigmentError:
        number, an_epoch = len(self.losses), self.advice.steps_an_epoch
        epoch = None if an_epoch is None else (number - 1) // an_epoch + 1
        rate = self.optimizer.param_groups[0]["lr"]
        return diverged(self.advice.name, found, number, epoch, rate, self.advice.diverged)

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of the training depends on."""
        return {
            "weights": {name: weight.detach() for name, weight in self.weights.items()},
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "losses": torch.tensor(self.losses, dtype=torch.float64),
            "seconds": self.seconds,
            "best": self.best,
            "scores": self.scores,
        }

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, weight in self.weights.items():
            weight.copy_(state["weights"][name])
        for name, mean in (self.average or {}).items():
            mean.copy_(state["average"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.losses, self.seconds = state["losses"].tolist(), state["seconds"]
        # A checkpoint of before there were judges has neither.
        self.best, self.scores = state.get("best"), [(number, score) for number, score in state.get("scores", [])]


def _optimizer(groups: list[dict[str, Any]], settings: TrainingSettings) -> torch.optim.Optimizer:
    """The one that is asked for; its learning rate is set before each step."""
    if settings.optimizer == "adafactor":
        from transformers.optimization import Adafactor

        # Here the learning rate is the step's size, as AdamW's is. torch's own Adafactor multiplies it by each matrix's RMS, so that a
        # LoRA, half of which starts at zero, would stay there.
        return Adafactor(groups, lr=0.0, scale_parameter=False, relative_step=False)
    return torch.optim.AdamW(groups, lr=0.0, betas=settings.betas)


def resume(training: Training, checkpoint: Checkpoint, every: int | None = None) -> Iterator[Step]:
    """Take a training to its end, from where its checkpoint left it if there is one.

    A checkpoint is written after every so many steps, or with ``None`` as often as the checkpoint's own clock says.
    """
    saved = checkpoint.read()
    if saved is not None:
        training.load_state_dict(saved)
    for step in training:
        if checkpoint.is_due() if every is None else step.number % every == 0 and step.done < 1:
            checkpoint.write(training.state_dict())
        yield step

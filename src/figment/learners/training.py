"""How every learner trains: a loop takes the steps and yields; `train` is what calls it, and does all the rest.

The rest is progress, history, the choice of the best epoch, and checkpoints from which a killed training goes on to the
same weights. So a loop holds its method and nothing else.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from figment.checkpoint import Checkpoint
from figment.errors import WEIGHTS, FigmentError, diverged
from figment.progress import progress
from figment.tracking import Curves, untracked

Select = Literal["last", "validation", "test_best"]
LOOK_EVERY = 50  # steps between two looks at the losses: a GPU is waited for no more often than that
MEND = "Lower train.learning_rate (or that of train.unfrozen), let it rise more slowly (warmup), set grad_clip: 1, or use precision: float32."

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Step:
    """What a loop yields after each step.

    ``epoch`` counts from 1, ``images`` are those the step showed in all processes, ``loss`` () is their mean loss, still on
    the device, and the same in all processes.
    """

    epoch: int
    images: int
    loss: Tensor
    learning_rate: float
    ends_epoch: bool


class Loop(Protocol):
    """A training at some point of it. Iterating takes it on from there to its end."""

    images: int  # that all steps of the training show together, for the time left

    def __iter__(self) -> Iterator[Step]: ...

    def weights(self) -> Mapping[str, Tensor]:
        """What is learnt, by name: the tensors themselves, which the next step may change."""
        ...

    def load_weights(self, weights: Mapping[str, Tensor]) -> None: ...

    def state_dict(self) -> dict[str, Any]:
        """All that the next steps depend on: tensors, numbers, texts, and lists and dicts of them."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@dataclass
class _Record:
    """What `train` knows of the training so far."""

    history: list[dict[str, Any]] = field(default_factory=list)
    best_accuracy: float = -1.0
    best: dict[str, Tensor] | None = None
    steps: int = 0
    shown: int = 0  # images, in all
    epoch_shown: int = 0
    epoch_loss: float = 0.0  # summed over the epoch's images
    waiting: list[Step] = field(default_factory=list)  # whose losses were not looked at yet

    def state_dict(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "waiting"}

    def look(self) -> dict[str, float]:
        """Add up the losses that wait; their mean, and the last learning rate.

        Raises FigmentError, with the step's number, for a loss that is not finite.
        """
        losses = torch.stack([step.loss for step in self.waiting]).tolist() if self.waiting else []
        for i, (step, loss) in enumerate(zip(self.waiting, losses, strict=True), self.steps - len(losses) + 1):
            if not math.isfinite(loss):
                raise diverged("The training", f"its loss became {loss}", i, step.epoch, step.learning_rate, MEND)
            self.epoch_loss += loss * step.images
            self.epoch_shown += step.images
        if not losses:
            return {}
        rate, self.waiting = self.waiting[-1].learning_rate, []
        return {"loss": sum(losses) / len(losses), "learning_rate": rate}


def train(
    loop: Loop,
    *,
    select: Select = "last",
    validate: Callable[[], float] | None = None,
    look: Callable[[int], Mapping[str, float]] = lambda epoch: {},
    checkpoint: Checkpoint | None = None,
    curves: Curves = untracked,
    description: str = "train",
) -> list[dict[str, Any]]:
    """Take a loop to its end, from where the checkpoint left it if there is one.

    Args:
        loop: is trained in place. With ``select`` other than "last" it ends with the weights of its best epoch, the
            earliest of equals.
        select: "validation" and "test_best" choose the epoch by ``validate``; see `needs_validation`.
        validate: the accuracy in [0, 1] of the weights as they are; called after each epoch.
        look: what else to write down of an epoch, by its number, from 1.
        checkpoint: where to go on from and what to write every so often. A training that had been finished is read
            from it and not repeated.
        curves: where to draw the loss and what is written down of an epoch, by the number of the step.
        description: beside the progress, which shows images a second and the time left.

    Returns:
        One dict an epoch: ``epoch`` from 1, ``loss`` (mean over its images), ``learning_rate`` (of its last step),
        ``val_accuracy`` (None without ``validate``), and what ``look`` gives.

    Raises:
        FigmentError: for a loss that is NaN or infinite, with the number of the step, and for such weights at the end.
    """
    needs_validation(select, validate)
    record = _Record()
    saved = None if checkpoint is None else checkpoint.read()
    if saved is not None:
        for name, value in saved["record"].items():
            setattr(record, name, value)
        if "weights" in saved:
            loop.load_weights(saved["weights"])
            return record.history
        loop.load_state_dict(saved["loop"])
        log.info("%s: going on from step %d", description, record.steps)
    with progress(description, loop.images - record.shown) as advance, curves(record.steps) as draw:
        for step in loop:
            record.steps += 1
            record.shown += step.images
            record.waiting.append(step)
            if step.ends_epoch or len(record.waiting) >= LOOK_EVERY:
                draw(record.steps, record.look())
            if step.ends_epoch:
                _end_of_epoch(record, step, loop, select, validate)
                seen = look(step.epoch)
                record.history[-1].update(seen)
                accuracy = record.history[-1]["val_accuracy"]
                draw(record.steps, seen if accuracy is None else {"val_accuracy": accuracy, **seen})
            if checkpoint is not None and checkpoint.is_due():
                draw(record.steps, record.look())  # a checkpoint never holds what a loss of NaN did
                checkpoint.write({"record": record.state_dict(), "loop": loop.state_dict()})
            advance(step.images)
    if record.best is not None:
        loop.load_weights(record.best)
    if not all(bool(w.isfinite().all()) for w in loop.weights().values() if w.is_floating_point()):
        last = record.history[-1]
        raise diverged("The training", WEIGHTS, record.steps, last["epoch"], last["learning_rate"], MEND)
    if checkpoint is not None:
        record.best = None
        checkpoint.write({"record": record.state_dict(), "weights": dict(loop.weights())})
    return record.history


def _end_of_epoch(
    record: _Record, step: Step, loop: Loop, select: Select, validate: Callable[[], float] | None
) -> None:
    accuracy = None if validate is None else validate()
    loss = record.epoch_loss / record.epoch_shown
    record.history.append(
        {"epoch": step.epoch, "loss": loss, "learning_rate": step.learning_rate, "val_accuracy": accuracy}
    )
    record.epoch_loss, record.epoch_shown = 0.0, 0
    if select != "last" and accuracy is not None and accuracy > record.best_accuracy:
        record.best_accuracy = accuracy
        record.best = {name: value.detach().clone() for name, value in loop.weights().items()}


def needs_validation(select: Select, val: object) -> None:
    """Raise FigmentError where the settings choose an epoch and there is nothing to choose it on."""
    if select != "last" and val is None:
        its = "validation images" if select == "validation" else "the test images"
        raise FigmentError(
            f"select: {select} keeps the best epoch on {its}, and there are none. "
            "Give some real images that are not the test ones and set select: validation, or set select: last. "
            "(select: test_best exists to reproduce published numbers: an accuracy chosen on the test images flatters.)"
        )


def n_epochs(epochs: int, steps_an_epoch: int, min_steps: int = 0) -> int:
    """How many epochs it takes to have ``min_steps`` steps, at least ``epochs``."""
    return max(epochs, math.ceil(min_steps / steps_an_epoch))


def schedule(learning_rate: float, warmup_steps: int, steps: int) -> list[float]:
    """The learning rate of each step: a linear rise over ``warmup_steps``, then half a cosine down to 0.

    Raises FigmentError where the warm-up is as long as the training or longer.
    """
    if warmup_steps >= steps:
        raise FigmentError(
            f"warmup_steps is {warmup_steps}, but the training has {steps} steps in all, so the learning rate would "
            f"never come down. Set warmup_steps below {steps} (0 is usual for a head), or train for more epochs or "
            "with a smaller batch_size."
        )
    rise = [learning_rate * (step + 1) / warmup_steps for step in range(warmup_steps)]
    left = steps - warmup_steps
    return rise + [learning_rate * 0.5 * (1 + math.cos(math.pi * step / left)) for step in range(left)]


def half_cosine(start: float, end: float, done: float) -> float:
    """From ``start`` to ``end`` as ``done`` goes from 0 to 1, slowly at both."""
    return end - (end - start) * (1 + math.cos(math.pi * done)) / 2


@contextmanager
def random_numbers_of(*place: int) -> Iterator[None]:
    """Whoever draws from torch's, numpy's or Python's own generators draws what ``place`` (numbers >= 0) decides.

    Afterwards the generators are as they were. A step that draws like this needs no state of theirs in a checkpoint, and
    does not depend on what else draws in between.
    """
    seed = int(np.random.SeedSequence(place).generate_state(1)[0])
    numpy_state, python_state = np.random.get_state(), random.getstate()
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(numpy_state)
            random.setstate(python_state)

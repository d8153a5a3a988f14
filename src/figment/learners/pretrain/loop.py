"""The training loop of a backbone, the same for all methods."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from figment.learners.pretrain.backbone import with_checkpoints
from figment.learners.pretrain.method import SEEN, Batch, Method
from figment.learners.pretrain.settings import PretrainSettings
from figment.learners.pretrain.views import Part, Views
from figment.learners.processes import Processes
from figment.learners.training import Step, half_cosine, random_numbers_of, schedule
from figment.learners.updates import Updates
from figment.loading.loader import Loader

WORDS = "words."  # how the names of weights begin that are not the backbone's


@dataclass(frozen=True)
class Known:
    """What is known of each training image, by position: int64 (N,) each; the tokens (T, L) are those of its text.

    ``images`` are equal for copies of one image.
    """

    captions: Tensor
    images: Tensor
    labels: Tensor
    texts: Tensor | None = None
    tokens: Tensor | None = None

    def of(self, views: list[Tensor], rows: Tensor) -> Batch:
        own = [self.captions[rows], self.images[rows], self.labels[rows]]
        if self.texts is not None and self.tokens is not None:
            own += [self.texts[rows], self.tokens[self.texts[rows]]]
        return Batch(views, *[value.to(views[0].device) for value in own])


class PretrainLoop:
    """A `figment.learners.training.Loop`: views of a batch, the method's loss, an update, and what follows.

    ``loader`` gives ``uint8 (B, 3, H, W)``, or a list of these and their sizes (see `ToOneSize`), and the images' positions
    ``int64 (B,)``. What is learnt is the backbone.
    """

    def __init__(
        self,
        method: Method,
        loader: Loader,
        known: Known,
        data: Mapping[str, Any],
        epochs: int,
        s: PretrainSettings,
        seed: int,
    ):
        from timm.optim import create_optimizer_v2

        self.on: Processes = method.on
        self.loader, self.known, self.s, self.seed = loader, known, s, seed
        self.steps = s.steps or epochs * len(loader)
        self.batch_size = loader.batches.batch_size * self.on.world_size
        self.images = self.steps * self.batch_size
        self.step = 0
        rate = s.highest_rate(self.batch_size)
        self.rates = schedule(rate, int(s.warmup * self.steps), self.steps)
        self.on.synchronised(method.to(self.on.device))  # in place: a method is no BatchNorm itself
        if s.gradient_checkpointing:
            with_checkpoints(method.backbone, s.backbone)
        if s.compile:
            method.backbone.compile()
        self.method = method.train()
        self.trained = self.on.wrap(method)
        self.views = Views(method.views(), data, self.on.device)
        own: dict[str, Any] = {"momentum": 0.9}
        if s.optimizer == "adamw":  # in one kernel on GPUs; on a CPU that would be other bits
            own = {"betas": s.betas, "fused": self.on.device.type == "cuda"}
        optimizer = create_optimizer_v2(method, s.optimizer, lr=rate, weight_decay=s.weight_decay, **own)
        decays = None if s.weight_decay_end is None else self._decays(s.weight_decay, s.weight_decay_end)
        self.updates = Updates(optimizer, self.rates, s.precision, self.on.device, s.grad_clip, decays)

    def _decays(self, start: float, end: float) -> list[float]:
        return [half_cosine(start, end, step / self.steps) for step in range(self.steps)]

    @property
    def learnt(self) -> nn.Module:
        return self.method.backbone

    def __iter__(self) -> Iterator[Step]:
        while self.step < self.steps:
            for images, rows in self.loader:
                self.method.train()
                self.method.done = self.step / self.steps
                rate, epoch = self.rates[self.step], self.step // len(self.loader) + 1
                self.method.moment = self.seed, self.step
                # What networks draw is each process's own: dropout, blocks that are skipped.
                with random_numbers_of(*self.method.moment, self.on.rank, 1):
                    loss = self._update(images, rows)
                    self.method.after_step((self.step + 1) / self.steps)
                self.step += 1
                ends = self.step % len(self.loader) == 0 or self.step == self.steps
                yield Step(epoch, self.batch_size, self.on.mean(loss), rate, ends)
                if self.step == self.steps:  # in the middle of an epoch, perhaps
                    return

    def seen(self, shown: Sequence[Tensor], part: Part | None = None) -> list[Tensor]:
        """The method's views (B, 3, S, S) of ``uint8 (B, 3, H, W)``, and what sizes (B, 2) these had where they were brought to one."""
        images, *sizes = (each.to(self.on.device) for each in shown)
        return self.views(images, sizes[0] if sizes else None, part)

    def _update(self, images: Tensor | Sequence[Tensor], rows: Tensor) -> Tensor:
        """One step on images as `seen` takes them, at positions ``int64 (B,)``; returns the loss ()."""
        with self.method.as_all_do(SEEN):
            views = self.seen([images] if isinstance(images, Tensor) else images, Part.of(self.on, len(rows)))
        batch = self.known.of(views, rows)
        with self.updates.forward():
            loss = self.trained(batch)
        frozen = self.method.frozen(self.step // len(self.loader) + 1)
        return self.updates(self.step, loss, self.method, frozen)

    def weights(self) -> Mapping[str, Tensor]:
        """Of the backbone, and of what reads where there is such."""
        words = self.method.words()
        return {**self.learnt.state_dict(), **({} if words is None else words.state_dict(prefix=WORDS))}

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        own = {name: value for name, value in weights.items() if not name.startswith(WORDS)}
        self.learnt.load_state_dict(own)
        if (words := self.method.words()) is not None:
            words.load_state_dict({name.removeprefix(WORDS): weights[name] for name in weights.keys() - own.keys()})

    def state_dict(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "loader": self.loader.state_dict(),
            "method": self.method.state_dict(),
            **self.updates.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
        self.loader.load_state_dict(state["loader"])
        self.method.load_state_dict(state["method"])
        self.updates.load_state_dict(state)

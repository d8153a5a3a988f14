"""The training loop of a backbone, the same for all methods."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from figment.learners.pretrain.backbone import with_checkpoints
from figment.learners.pretrain.method import Batch, Method
from figment.learners.pretrain.settings import PretrainSettings
from figment.learners.pretrain.views import Views
from figment.learners.processes import Processes
from figment.learners.training import Step, half_cosine, random_numbers_of, schedule
from figment.learners.updates import Updates
from figment.loading.loader import Loader

USUAL_BATCH = 256  # images, which a learning rate is given for
BETAS = (0.9, 0.98)
WORDS = "words."  # how the names of weights begin that are not the backbone's


@dataclass(frozen=True)
class Known:
    """What is known of each training image, by position: int64 (N,) each; the tokens (T, L) are those of its text."""

    captions: Tensor
    labels: Tensor
    texts: Tensor | None = None
    tokens: Tensor | None = None

    def of(self, views: list[Tensor], rows: Tensor) -> Batch:
        own = [self.captions[rows], rows, self.labels[rows]]
        if self.texts is not None and self.tokens is not None:
            own += [self.texts[rows], self.tokens[self.texts[rows]]]
        return Batch(views, *[value.to(views[0].device) for value in own])


class PretrainLoop:
    """A `figment.learners.training.Loop`: views of a batch, the method's loss, an update, and what follows.

    ``loader`` gives ``uint8 (B, 3, H, W)`` and the images' positions ``int64 (B,)``. What is learnt is the backbone.
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
        rate = s.learning_rate * self.batch_size / USUAL_BATCH
        self.rates = schedule(rate, int(s.warmup * self.steps), self.steps)
        self.on.synchronised(method.to(self.on.device))  # in place: a method is no BatchNorm itself
        if s.gradient_checkpointing:
            with_checkpoints(method.backbone, s.backbone)
        if s.compile:
            method.backbone.compile()
        self.method = method.train()
        self.trained = self.on.wrap(method)
        self.views = Views(method.views(), data, self.on.device)
        betas = {"betas": BETAS} if s.optimizer == "adamw" else {"momentum": 0.9}
        optimizer = create_optimizer_v2(method, s.optimizer, lr=rate, weight_decay=s.weight_decay, **betas)
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
                with random_numbers_of(self.seed, self.step, self.on.rank):  # views, masks, dropout
                    loss = self._update(images.to(self.on.device), rows)
                    self.method.after_step((self.step + 1) / self.steps)
                self.step += 1
                ends = self.step % len(self.loader) == 0 or self.step == self.steps
                yield Step(epoch, self.batch_size, self.on.mean(loss), rate, ends)
                if self.step == self.steps:  # in the middle of an epoch, perhaps
                    return

    def _update(self, images: Tensor, rows: Tensor) -> Tensor:
        """One step on ``uint8 (B, 3, H, W)`` at positions ``int64 (B,)``; returns the loss ()."""
        batch = self.known.of(self.views(images), rows)
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

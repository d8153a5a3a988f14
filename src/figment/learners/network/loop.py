"""The training loop of a network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from figment.learners.network.architectures import Network
from figment.learners.network.augment import Batches
from figment.learners.network.settings import NetworkSettings
from figment.learners.processes import Processes
from figment.learners.training import Step, random_numbers_of, schedule
from figment.learners.updates import Updates
from figment.loading.loader import Loader


class NetworkLoop:
    """A `figment.learners.training.Loop`: a forward pass, a backward pass, an update, and the average of weights.

    ``network.module`` is trained in place, and what is learnt is it, or with ``ema`` the average of it: ``learnt``.
    """

    def __init__(self, network: Network, loader: Loader, epochs: int, s: NetworkSettings, seed: int, on: Processes):
        from timm.optim import create_optimizer_v2
        from timm.utils import ModelEmaV3

        self.loader, self.s, self.seed, self.on = loader, s, seed, on
        self.steps = s.steps or epochs * len(loader)
        self.batch_size = loader.batches.batch_size * on.world_size
        self.images = self.steps * self.batch_size
        self.step = 0
        self.rates = schedule(s.learning_rate, int(s.warmup * self.steps), self.steps)
        self.module = network.module.to(on.device).train()
        self.trained = on.wrap(self.module)
        self.batches = Batches(s, network.data, network.args["num_classes"], on.device)
        optimizer = create_optimizer_v2(
            self.module, s.optimizer, lr=s.learning_rate, weight_decay=s.weight_decay, momentum=s.momentum
        )
        # The average is of BatchNorm's statistics too, and of the first steps only as much as there were steps.
        self.ema = ModelEmaV3(self.module, decay=s.ema, use_warmup=True) if s.ema else None
        self.updates = Updates(optimizer, self.rates, s.precision, on.device, s.grad_clip)

    @property
    def learnt(self) -> nn.Module:
        return self.ema.module if self.ema else self.module

    def __iter__(self) -> Iterator[Step]:
        while self.step < self.steps:
            for images, labels in self.loader:
                self.module.train()
                with random_numbers_of(self.seed, self.step, self.on.rank):  # dropout, erasing, mixing
                    loss = self._update(images.to(self.on.device), labels.to(self.on.device))
                rate, epoch = self.rates[self.step], self.step // len(self.loader) + 1
                self.step += 1
                if self.ema:
                    self.ema.update(self.module, self.step)
                ends = self.step % len(self.loader) == 0 or self.step == self.steps
                yield Step(epoch, self.batch_size, self.on.mean(loss), rate, ends)
                if self.step == self.steps:  # in the middle of an epoch, perhaps
                    return

    def _update(self, images: Tensor, labels: Tensor) -> Tensor:
        """One step on ``uint8 (B, 3, S, S)`` and ``int64 (B,)``; returns the mean loss ()."""
        x, targets = self.batches(images, labels)
        with self.updates.forward():
            loss = F.cross_entropy(self.trained(x).float(), targets, label_smoothing=self.batches.smoothing)
        return self.updates(self.step, loss, self.module)

    def weights(self) -> Mapping[str, Tensor]:
        return self.learnt.state_dict()

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        self.learnt.load_state_dict(weights)

    def state_dict(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "loader": self.loader.state_dict(),
            "module": self.module.state_dict(),
            "ema": self.ema.module.state_dict() if self.ema else None,
            **self.updates.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
        self.loader.load_state_dict(state["loader"])
        self.module.load_state_dict(state["module"])
        if self.ema:
            self.ema.module.load_state_dict(state["ema"])
        self.updates.load_state_dict(state)

"""The training of a network with a head that answers for places in an image, the same for boxes and for pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from figment import records
from figment.checkpoint import Checkpoint
from figment.learners.training import Step, random_numbers_of, train
from figment.learners.updates import Updates


class DenseLoop:
    """A `figment.learners.training.Loop` of ``len(rates)`` steps; each passes over the images in a new order.

    Args:
        module: is trained in place.
        loss_of: positions of a batch's images to their loss (); what it draws is decided by the seed and the step.
        n: images there are.
        rates: the learning rate of each step.
    """

    def __init__(
        self,
        module: nn.Module,
        loss_of: Callable[[Sequence[int]], Tensor],
        n: int,
        batch_size: int,
        optimizer: torch.optim.Optimizer,
        rates: Sequence[float],
        device: torch.device,
        seed: int,
    ):
        self.module, self.loss_of, self.n, self.seed = module, loss_of, n, seed
        self.batch_size = min(batch_size, n)
        self.rates, self.step = rates, 0
        self.images = len(rates) * self.batch_size
        self.updates = Updates(optimizer, rates, "float32", device, None)

    def __iter__(self) -> Iterator[Step]:
        an_epoch = self.n // self.batch_size
        while self.step < len(self.rates):
            epoch, place = divmod(self.step, an_epoch)
            order = np.random.default_rng((self.seed, epoch)).permutation(self.n)
            rows = order[place * self.batch_size :][: self.batch_size].tolist()
            self.module.train()
            with random_numbers_of(self.seed, self.step):  # crops, flips, boxes that are drawn
                loss = self.updates(self.step, self.loss_of(rows), self.module)
            rate = self.rates[self.step]
            self.step += 1
            ends = self.step % an_epoch == 0 or self.step == len(self.rates)
            yield Step(epoch + 1, self.batch_size, loss, rate, ends)

    def weights(self) -> Mapping[str, Tensor]:
        return self.module.state_dict()

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        self.module.load_state_dict(weights)

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step, "module": self.module.state_dict(), **self.updates.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
        self.module.load_state_dict(state["module"])
        self.updates.load_state_dict(state)


def trained(loop: DenseLoop, folder: Path, identity: Any, description: str) -> nn.Module:
    """The module in eval mode after the loop, which goes on where it was killed: its state lies in ``folder``, by ``identity``.

    Raises FigmentError for a loss that is not finite.
    """
    own = records.fingerprint([identity, loop.seed])
    train(loop, checkpoint=Checkpoint(folder / f"{own}.safetensors", own), description=description)
    return loop.module.eval()

"""Images as an encoder in training takes them, at every step anew: prepared ahead of it where they do not stay in memory."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from figment.encoders import Towers
from figment.images_in.ahead import ahead
from figment.learners.clip_head.augment import random_views, view_seed
from figment.loading.loader import Loader, usual_workers
from figment.types import Images

PIXEL_BYTES = 2**30  # of prepared images that are kept in memory; more are read again at every step

#: Positions int64 (B,), and what `Pixels.prepared` makes of them.
Batch = tuple[Tensor, Tensor | None]


class Pixels:
    """Images as the encoder takes them, at every step anew: kept in memory where they fit and are always the same."""

    def __init__(self, encoder: Towers, images: Images, crops: tuple[float, float] | None, seed: int):
        self.encoder, self.images, self.crops, self.seed = encoder, images, crops, seed
        one = encoder.pixels(images.load([0]))
        self.size, self.kept = one.shape[-1], None
        # A crop has the encoder's size and only has to be normalised, which these two images tell how.
        ends = [np.full((self.size, self.size, 3), value, np.uint8) for value in (0, 255)]
        self.black, self.white = encoder.pixels(ends).to(encoder.device)  # (3, S, S) each
        if crops is None and one.nbytes * len(images) <= PIXEL_BYTES:
            chunks = torch.arange(len(images)).split(encoder.batch_size)
            self.kept = torch.cat([encoder.pixels(images.load(chunk.tolist())) for chunk in chunks])
            self.kept = self.kept.to(encoder.device)

    def __len__(self) -> int:
        return len(self.images)

    def __call__(self, index: Tensor, step: int) -> Tensor:
        """float32 (B, 3, S, S) on the encoder's device, of the positions int64 (B,) on the CPU."""
        return self.placed(index, self.prepared(index, step))

    def prepared(self, index: Tensor, step: int) -> Tensor | None:
        """What takes long and needs no device: crops, uint8 (B, 3, S, S), or what the encoder takes, float32; None of kept images."""
        if self.kept is not None:
            return None
        ahead(self.images, index.tolist())
        images = self.images.load(index.tolist())
        if self.crops is None:
            return self.encoder.pixels(images)
        seeds = [view_seed(self.seed, step, i) for i in index.tolist()]
        views = [
            random_views(image, 1, self.size, self.crops, seed)[0] for image, seed in zip(images, seeds, strict=True)
        ]
        return torch.from_numpy(np.stack(views)).movedim(-1, 1)  # (B, 3, S, S)

    def placed(self, index: Tensor, prepared: Tensor | None) -> Tensor:
        """float32 (B, 3, S, S) on the encoder's device, of what was prepared of the positions int64 (B,)."""
        if prepared is None:
            assert self.kept is not None
            return self.kept[index.to(self.kept.device)]
        x = prepared.to(self.encoder.device)
        return x if self.crops is None else torch.lerp(self.black, self.white, x / 255)


class Batches(Dataset[Batch]):
    """The batches of ``size`` images by the number of the step, each turn over all images in a new order. Steps only rise."""

    def __init__(self, pixels: Pixels, size: int, seed: int):
        self.pixels, self.size = pixels, size
        self.random, self.drawn = torch.Generator().manual_seed(seed), 0

    def __getitem__(self, step: int) -> Batch:
        turn, place = divmod(step, math.ceil(len(self.pixels) / self.size))
        while self.drawn <= turn:  # one after the other, also by a worker and by a training that goes on after a kill
            self.order = torch.randperm(len(self.pixels), generator=self.random)
            self.drawn += 1
        index = self.order[place * self.size :][: self.size].clone()  # with a view a worker would send the whole order
        return index, self.pixels.prepared(index, step)

    def loader(self, steps: int) -> Loader:
        """All of them, prepared by other processes where that is worth it."""
        device = self.pixels.encoder.device
        workers = usual_workers(device) if self.pixels.kept is None else 0
        # An encoder need not be written down and read again; a batch of a few hundred images is much to have in store.
        own: dict[str, Any] = {"multiprocessing_context": "fork", "prefetch_factor": 1} if workers else {}
        pinned = device.type == "cuda"
        return Loader(self, _InTurn(steps), 1, num_workers=workers, collate_fn=_only, pin_memory=pinned, **own)


class _InTurn:
    """The `figment.loading.orders.Order` of steps: a training is one epoch of them."""

    slot = 1

    def __init__(self, steps: int):
        self.steps = steps

    def __len__(self) -> int:
        return self.steps

    def __call__(self, epoch: int) -> np.ndarray:
        return np.arange(self.steps)


def _only(batches: list[Batch]) -> Batch:
    return batches[0]

"""MoCo v2 (Chen et al. 2020; He et al. 2020): negatives come from a queue that a slowly following encoder fills."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from figment.learners.pretrain.gather import gather
from figment.learners.pretrain.heads import mlp
from figment.learners.pretrain.method import Batch, Method, Setting, follow, teacher_of
from figment.learners.pretrain.settings import MoCoSettings
from figment.learners.pretrain.views import View, view_of


class MoCo(Method):
    """The loss of He et al. 2020, equation 1, with v2's projector, views and temperature.

    Without their shuffling of images between GPUs, which hides from BatchNorm what belongs together: here its statistics
    are of all processes on GPUs.
    """

    s: MoCoSettings

    def __init__(self, backbone: nn.Module, s: MoCoSettings, to: Setting):
        super().__init__(backbone, s, to)
        self.size = to.image_size
        sizes = [backbone.num_features, *s.projector]
        self.head = mlp(sizes, to.on, norm=None)  # type: ignore[arg-type]
        self.key = teacher_of(self.query)
        self.queue: Tensor
        self.place: Tensor
        self.register_buffer("queue", F.normalize(torch.randn(s.queue, s.projector[-1]), dim=-1))
        self.register_buffer("place", torch.zeros((), dtype=torch.int64))
        self.keys: Tensor | None = None

    @property
    def query(self) -> nn.Sequential:
        return nn.Sequential(self.backbone, self.head)

    def views(self) -> list[View]:
        return [view_of(self.s, self.size)] * 2

    def forward(self, batch: Batch) -> Tensor:
        query = F.normalize(self.head(self.encode(batch.views[0])).float(), dim=-1)
        with torch.no_grad():
            backbone, head = self.key
            key = F.normalize(head(self.encode(batch.views[1], backbone)).float(), dim=-1)
        self.keys = gather(key, self.on)
        return info_nce(query, key, self.queue, self.s.temperature)

    def after_step(self, done: float) -> None:
        follow(self.key, self.query, self.s.momentum)
        assert self.keys is not None
        keys = self.keys[-len(self.queue) :]
        at = (self.place + torch.arange(len(keys), device=keys.device)) % len(self.queue)
        self.queue[at] = keys
        self.place.add_(len(keys)).remainder_(len(self.queue))


def info_nce(query: Tensor, key: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """Unit features (B, D): each query's own key against the queue (K, D). Returns the mean, ()."""
    with torch.autocast(query.device.type, enabled=False):
        logits = torch.cat([(query * key).sum(1, keepdim=True), query @ queue.T], 1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(query), dtype=torch.int64, device=query.device))

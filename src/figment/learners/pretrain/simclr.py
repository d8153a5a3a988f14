"""SimCLR (Chen et al. 2020): two views of an image belong together, all other images of the batch do not."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from figment.learners.pretrain.heads import mlp
from figment.learners.pretrain.loss import multi_positive
from figment.learners.pretrain.method import Batch, Method, Setting
from figment.learners.pretrain.settings import SimCLRSettings
from figment.learners.pretrain.views import View, view_of


class SimCLR(Method):
    """The loss of section 2.1, NT-Xent. Captions are not looked at: other images of one are negatives."""

    s: SimCLRSettings

    def __init__(self, backbone: nn.Module, s: SimCLRSettings, to: Setting):
        super().__init__(backbone, s, to)
        self.size = to.image_size
        self.projector = mlp([backbone.num_features, *s.projector], to.on)  # type: ignore[list-item]

    def views(self) -> list[View]:
        return [view_of(self.s, self.size)] * 2

    def forward(self, batch: Batch) -> Tensor:
        features = self.projector(self.encode(torch.cat(list(batch.views))))
        return multi_positive(features, batch.images.repeat(2), self.s.temperature, self.on)

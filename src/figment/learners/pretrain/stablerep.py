"""StableRep (Tian et al. 2023): images that were generated from one caption belong together."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from figment.learners.pretrain.heads import mlp
from figment.learners.pretrain.loss import multi_positive
from figment.learners.pretrain.method import Batch, Method, Setting
from figment.learners.pretrain.settings import StableRepSettings
from figment.learners.pretrain.views import View, view_of


class StableRep(Method):
    """The loss of section 3.2. The projector's BatchNorm takes one image of each caption at a time, as published.

    An image without a caption is a caption of its own: its m images are m views of it. With ``positives: slots`` what belongs
    together is what the batch has in a slot, as in the published program, which takes a caption in two slots for two.
    """

    s: StableRepSettings

    def __init__(self, backbone: nn.Module, s: StableRepSettings, to: Setting):
        super().__init__(backbone, s, to)
        self.size, self.m = to.image_size, s.images_per_caption
        self.projector = mlp([backbone.num_features, *s.projector], to.on)  # type: ignore[list-item]

    def views(self) -> list[View]:
        return [view_of(self.s, self.size)] * self.s.views

    def belonging(self, names: Tensor) -> Tensor:
        """What counts as one where images or texts (B,) have these names: the names, or the slots of all processes."""
        if self.s.positives == "captions":
            return names
        slots = torch.arange(len(names), device=names.device).div(self.m, rounding_mode="floor")
        return slots + self.on.rank * (len(names) // self.m)

    def features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Of the backbone, (V * B, D), view after view, and what belongs together of them, (V * B,)."""
        return self.encode(torch.cat(list(batch.views))), self.belonging(batch.captions).repeat(len(batch.views))

    def image_loss(self, features: Tensor, groups: Tensor) -> Tensor:
        slots = features.unflatten(0, (-1, self.m))  # (V * n, m, D)
        n = len(slots) // len(self.views())  # captions in the batch
        projected = [torch.stack([self.projector(one) for one in view.unbind(1)], 1) for view in slots.split(n)]
        return multi_positive(torch.cat(projected).flatten(0, 1), groups, self.s.temperature, self.on)

    def forward(self, batch: Batch) -> Tensor:
        return self.image_loss(*self.features(batch))

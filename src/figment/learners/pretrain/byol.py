"""BYOL (Grill et al. 2020): one view predicts what a slowly following network makes of the other. No negatives."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from figment.learners.pretrain.heads import mlp
from figment.learners.pretrain.method import Batch, Method, Setting, follow, rising, teacher_of
from figment.learners.pretrain.settings import BYOLSettings
from figment.learners.pretrain.views import View, view_of


class BYOL(Method):
    """The loss of section 3.1, both ways, and the views of appendix B: the first is always blurred, the second solarised at times."""

    s: BYOLSettings

    def __init__(self, backbone: nn.Module, s: BYOLSettings, to: Setting):
        super().__init__(backbone, s, to)
        self.size = to.image_size
        sizes = s.projector
        self.head = mlp([backbone.num_features, *sizes], to.on)  # type: ignore[list-item]
        self.target = teacher_of(self.online)
        self.predictor = mlp([sizes[-1], *sizes], to.on)

    @property
    def online(self) -> nn.Sequential:
        return nn.Sequential(self.backbone, self.head)

    def views(self) -> list[View]:
        return list(two_views(view_of(self.s, self.size)))

    def forward(self, batch: Batch) -> Tensor:
        first, second = batch.views
        backbone, head = self.target
        with torch.no_grad():
            targets = head(self.encode(second, backbone)), head(self.encode(first, backbone))
        predicted = [self.predictor(self.head(self.encode(view))) for view in (first, second)]
        return distance(predicted[0], targets[0]) + distance(predicted[1], targets[1])

    def after_step(self, done: float) -> None:
        follow(self.target, self.online, rising(self.s.momentum, done))


def two_views(view: View) -> tuple[View, View]:
    """BYOL's asymmetric pair, for the whole of ``blur``'s strength: .5 is the published one."""
    return replace(view, blur=min(1.0, 2 * view.blur)), replace(
        view, blur=view.blur / 5, solarize=0.2 if view.blur else 0.0
    )


def distance(predicted: Tensor, target: Tensor) -> Tensor:
    """The mean squared distance of unit vectors, ``2 - 2 cos`` (equation 2)."""
    return (2 - 2 * F.cosine_similarity(predicted.float(), target.float(), dim=-1)).mean()

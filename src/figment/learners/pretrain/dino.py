"""DINO (Caron et al. 2021): small crops are to be assigned as a slowly following teacher assigns large ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from figment.learners.pretrain.byol import two_views
from figment.learners.pretrain.gather import gather
from figment.learners.pretrain.heads import mlp
from figment.learners.pretrain.method import Batch, Method, Setting, follow, rising, teacher_of
from figment.learners.pretrain.settings import DINOSettings
from figment.learners.pretrain.views import View, view_of

LOCAL = (0.05, 0.4)  # of the area
CENTRE = 0.9  # how much of the centre stays each step


class Prototypes(nn.Module):
    """The last layer: cosines to unit prototypes, which is weight normalisation with its gain fixed at 1."""

    def __init__(self, features: int, prototypes: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(prototypes, features) * 0.02)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):  # what comes out is divided by a temperature
            return F.linear(F.normalize(x.float(), dim=-1), F.normalize(self.weight, dim=-1))


class DINO(Method):
    """The loss of section 3.1 (algorithm 1) with multi-crop. Small crops are enlarged to ``image_size``, so that any backbone takes them."""

    s: DINOSettings

    def __init__(self, backbone: nn.Module, s: DINOSettings, to: Setting):
        super().__init__(backbone, s, to)
        self.size = to.image_size
        sizes = s.projector
        self.head = mlp([backbone.num_features, *sizes], to.on, norm=None, activation=nn.GELU)  # type: ignore[list-item]
        self.last = Prototypes(sizes[-1], s.prototypes)
        self.teacher = teacher_of(self.student)
        self.centre: Tensor
        self.register_buffer("centre", torch.zeros(1, s.prototypes))
        self.assigned: Tensor | None = None

    @property
    def student(self) -> nn.Sequential:
        return nn.Sequential(self.backbone, self.head, self.last)

    def views(self) -> list[View]:
        large = view_of(self.s, self.size)
        small = replace(large, crop_scale=LOCAL)
        return [*two_views(large), *[small] * self.s.local_views]

    def forward(self, batch: Batch) -> Tensor:
        student = self.last(self.head(self.encode(torch.cat(list(batch.views))))).chunk(len(batch.views))
        backbone, head, last = self.teacher
        with torch.no_grad():
            teacher = last(head(self.encode(torch.cat(list(batch.views[:2])), backbone))).chunk(2)
        self.assigned = gather(torch.stack(teacher).mean((0, 1))[None], self.on).mean(0, keepdim=True)
        return assignment_loss(student, teacher, self.centre, self.s.temperature, self.s.teacher_temperature)

    def frozen(self, epoch: int) -> list[nn.Parameter]:
        return [self.last.weight] if epoch <= self.s.frozen_epochs else []

    def after_step(self, done: float) -> None:
        follow(self.teacher, self.student, rising(self.s.momentum, done))
        assert self.assigned is not None
        self.centre.lerp_(self.assigned, 1 - CENTRE)


def assignment_loss(
    student: Sequence[Tensor], teacher: Sequence[Tensor], centre: Tensor, temperature: float, teacher_temperature: float
) -> Tensor:
    """Cross-entropy of each of the student's views (B, K) with each of the teacher's, but for its own: the mean, ()."""
    targets = [((t - centre) / teacher_temperature).softmax(-1) for t in teacher]
    logs = [(v / temperature).log_softmax(-1) for v in student]
    losses = [-(t * v).sum(-1).mean() for i, t in enumerate(targets) for j, v in enumerate(logs) if i != j]
    return torch.stack(losses).mean()

"""MoCo v3 (Chen, Xie and He 2021, "An empirical study of training self-supervised vision transformers"): no queue, large batches."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from figment.learners.pretrain.byol import two_views
from figment.learners.pretrain.gather import gather
from figment.learners.pretrain.heads import mlp
from figment.learners.pretrain.loss import contrast
from figment.learners.pretrain.method import Batch, Method, Setting, follow, rising, teacher_of
from figment.learners.pretrain.settings import MoCoV3Settings
from figment.learners.pretrain.views import View, view_of
from figment.learners.processes import Processes


class MoCoV3(Method):
    """The symmetric loss of algorithm 1, with a head that predicts; a ViT's projection of patches stays random (section 4)."""

    s: MoCoV3Settings

    def __init__(self, backbone: nn.Module, s: MoCoV3Settings, to: Setting):
        super().__init__(backbone, s, to)
        self.size = to.image_size
        hidden, features = s.projector[0], s.projector[-1]
        self.head = mlp([backbone.num_features, *s.projector], to.on, norm_last=True)  # type: ignore[list-item]
        self.predictor = mlp([features, hidden, features], to.on, norm_last=True)
        projection = getattr(getattr(backbone, "patch_embed", None), "proj", None)
        if s.freeze_patches and projection is not None:
            projection.requires_grad_(False)
        self.key = teacher_of(self.query)

    @property
    def query(self) -> nn.Sequential:
        return nn.Sequential(self.backbone, self.head)

    def views(self) -> list[View]:
        return list(two_views(view_of(self.s, self.size)))

    def forward(self, batch: Batch) -> Tensor:
        backbone, head = self.key
        with torch.no_grad():
            keys = [head(self.encode(view, backbone)) for view in batch.views]
        queries = [self.predictor(self.head(self.encode(view))) for view in batch.views]
        pairs = zip(queries, reversed(keys), strict=True)
        return torch.stack([key_loss(q, k, batch.images, self.s.temperature, self.on) for q, k in pairs]).sum()

    def after_step(self, done: float) -> None:
        follow(self.key, self.query, rising(self.s.momentum, done))


def key_loss(queries: Tensor, keys: Tensor, images: Tensor, temperature: float, on: Processes) -> Tensor:
    """Cross-entropy of each query with the keys (B, D) of all processes, of which that of its own image is right, times ``2 temperature``.

    ``images`` int64 (B,): an image that a batch shows twice is no negative of itself.
    """
    rows, columns = F.normalize(queries.float(), dim=-1) / temperature, F.normalize(keys.float(), dim=-1)
    return 2 * temperature * contrast(rows, gather(columns, on), images, gather(images, on), on)

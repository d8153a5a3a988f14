"""Supervised pre-training (He et al. 2023, appendix C.5.3): a classifier, of which the backbone is kept."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from figment.learners.pretrain.method import Batch, Method, Setting
from figment.learners.pretrain.settings import SupervisedSettings
from figment.learners.pretrain.views import View, view_of


class Supervised(Method):
    """Cross-entropy over the classes that the images were generated as."""

    s: SupervisedSettings

    def __init__(self, backbone: nn.Module, s: SupervisedSettings, to: Setting):
        super().__init__(backbone, s, to)
        self.size = to.image_size
        self.classifier = nn.Linear(backbone.num_features, to.n_classes)  # type: ignore[arg-type]

    def views(self) -> list[View]:
        return [view_of(self.s, self.size)]

    def forward(self, batch: Batch) -> Tensor:
        return F.cross_entropy(self.classifier(self.encode(batch.views[0])).float(), batch.labels)

"""StableRep+ (Tian et al. 2023, section 3.3): StableRep, and the captions themselves beside their images."""

from __future__ import annotations

from torch import Tensor, nn

from figment.learners.pretrain.method import Batch, Setting
from figment.learners.pretrain.settings import StableRepPlusSettings
from figment.learners.pretrain.stablerep import StableRep
from figment.learners.pretrain.text import ImageText


class StableRepPlus(StableRep):
    """StableRep's loss plus CLIP's, both with weight 1. Each caption is read once, and all of its images are its positives."""

    s: StableRepPlusSettings

    def __init__(self, backbone: nn.Module, s: StableRepPlusSettings, to: Setting):
        super().__init__(backbone, s, to)
        self.text = ImageText(backbone.num_features, s.text_tower, to, s.gradient_cache)  # type: ignore[arg-type]

    def words(self) -> ImageText:
        return self.text

    def forward(self, batch: Batch) -> Tensor:
        assert batch.tokens is not None and batch.texts is not None
        features, groups = self.features(batch)
        once = slice(None, None, self.m)  # slots are of one caption
        texts = self.belonging(batch.texts)
        text = self.text(features, texts.repeat(len(batch.views)), batch.tokens[once], texts[once])
        return self.image_loss(features, groups) + text

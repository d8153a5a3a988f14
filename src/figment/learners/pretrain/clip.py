"""CLIP (Radford et al. 2021): an image and its caption belong together."""

from __future__ import annotations

from torch import Tensor, nn

from figment.learners.pretrain.method import Batch, Method, Setting
from figment.learners.pretrain.settings import CLIPSettings
from figment.learners.pretrain.text import ImageText
from figment.learners.pretrain.views import View, view_of


class CLIP(Method):
    """The loss of section 2.3. Two images of one text in a batch both belong to it; CLIP's own would take each for wrong."""

    s: CLIPSettings

    def __init__(self, backbone: nn.Module, s: CLIPSettings, to: Setting):
        super().__init__(backbone, s, to)
        self.size, self.m = to.image_size, s.images_per_caption
        self.text = ImageText(backbone.num_features, s.text_tower, to, s.gradient_cache)  # type: ignore[arg-type]

    def views(self) -> list[View]:
        return [view_of(self.s, self.size)]

    def words(self) -> ImageText:
        return self.text

    def forward(self, batch: Batch) -> Tensor:
        assert batch.tokens is not None and batch.texts is not None
        once = slice(None, None, self.m)
        return self.text(self.encode(batch.views[0]), batch.texts, batch.tokens[once], batch.texts[once])

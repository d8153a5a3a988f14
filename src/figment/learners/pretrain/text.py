"""A tower that reads captions, and the loss between captions and images (Radford et al. 2021, CLIP, section 2)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from figment.learners.pretrain.gather import gather
from figment.learners.pretrain.loss import contrast
from figment.learners.pretrain.method import Setting
from figment.learners.pretrain.pieces import in_pieces
from figment.learners.processes import Processes

HIGHEST = math.log(100)  # of the scale's logarithm


class TextTower(nn.Module):
    """CLIP's transformer: each token sees those before it, and what stands at the end of the text is its feature.

    Tokens ``int64 (B, L)`` to ``float (B, width)``.
    """

    def __init__(self, width: int, layers: int, to: Setting):
        super().__init__()
        self.end = to.end
        self.embedding = nn.Embedding(to.vocabulary, width)
        self.position = nn.Parameter(torch.randn(to.length, width) * 0.01)
        layer = nn.TransformerEncoderLayer(
            width, width // 64, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, layers, nn.LayerNorm(width), enable_nested_tensor=False)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.mask: Tensor
        mask = nn.Transformer.generate_square_subsequent_mask(to.length)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.layers(self.embedding(tokens) + self.position, mask=self.mask, is_causal=True)
        end = (tokens == self.end).int().argmax(1)  # the first, where the text is filled up with others
        return x[torch.arange(len(x), device=x.device), end]


class ImageText(nn.Module):
    """Images and texts, projected to one space: the loss of each to the other, halved. Several images may have one text."""

    def __init__(self, width: int, text_tower: tuple[int, int], to: Setting, piece: int | None, dimensions: int = 512):
        super().__init__()
        self.piece = piece  # texts that are read at a time, see pieces.py
        self.tower = TextTower(*text_tower, to)
        self.of_image = nn.Linear(width, dimensions, bias=False)
        self.of_text = nn.Linear(text_tower[0], dimensions, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.on = to.on

    def forward(self, features: Tensor, said: Tensor, tokens: Tensor, texts: Tensor) -> Tensor:
        """Features (B, D) of images that show the texts ``said`` (B,), and the tokens (T, L) of the texts ``texts`` (T,): ()."""
        image = F.normalize(self.of_image(features).float(), dim=-1)
        text = F.normalize(self.of_text(in_pieces(self.tower, self.tower, self.piece, tokens)).float(), dim=-1)
        return image_text_loss(image, text, said, texts, self.log_scale.clamp(max=HIGHEST).exp(), self.on)


def image_text_loss(
    image: Tensor, text: Tensor, image_texts: Tensor, texts: Tensor, scale: Tensor, on: Processes
) -> Tensor:
    """Of unit features (B, D) and (T, D): ``(L_i2t + L_t2i) / 2``, each uniform over all that show or say the same text."""
    all_images, all_texts = gather(image, on), gather(text, on)
    of_images, of_texts = gather(image_texts, on), gather(texts, on)
    to_text = contrast(image * scale, all_texts, image_texts, of_texts, on)
    to_image = contrast(text * scale, all_images, texts, of_images, on)
    return (to_text + to_image) / 2

"""MAE (He et al. 2022, "Masked autoencoders are scalable vision learners"): most patches are hidden and to be drawn."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from figment.learners.pretrain.method import HIDDEN, Batch, Method, Setting
from figment.learners.pretrain.pieces import in_pieces
from figment.learners.pretrain.settings import MAESettings
from figment.learners.pretrain.views import Part, View, view_of
from figment.learners.pretrain.vit import needs_patches, through_blocks


class MAE(Method):
    """Mean squared error of hidden patches, each normalised by its own pixels (section 3). For ViTs of timm.

    Raises FigmentError for another backbone.
    """

    s: MAESettings

    def __init__(self, backbone: nn.Module, s: MAESettings, to: Setting):
        super().__init__(backbone, s, to)
        from timm.layers import build_sincos2d_pos_embed
        from timm.models.vision_transformer import Block

        vit = needs_patches(backbone, s.kind, s.backbone, to.image_size)
        self.size = to.image_size
        width, layers = s.decoder
        self.patch = vit.patch_embed.patch_size[0]
        grid = vit.patch_embed.grid_size
        self.embed = nn.Linear(vit.embed_dim, width)
        self.hidden = nn.Parameter(torch.randn(width) * 0.02)
        self.position: Tensor
        self.register_buffer("position", build_sincos2d_pos_embed(list(grid), width), persistent=False)  # (P, width)
        self.blocks = nn.Sequential(*[Block(width, num_heads=width // 32) for _ in range(layers)], nn.LayerNorm(width))
        self.draw = nn.Linear(width, self.patch**2 * 3)
        # What timm uses after the blocks to pool the patches learns nothing here.
        for module in (vit.fc_norm, vit.attn_pool):
            if module is not None:
                module.requires_grad_(False)

    def views(self) -> list[View]:
        return [view_of(self.s, self.size)]

    def forward(self, batch: Batch) -> Tensor:
        images = batch.views[0]
        n = cast(Tensor, self.position).shape[0]
        with self.as_all_do(HIDDEN):
            numbers = Part.of(self.on, len(images)).uniform(0, 1, n, device=images.device)
        order = numbers.argsort(1)  # (B, P): the first ones are seen
        seen = max(1, int(n * (1 - self.s.mask_ratio)))
        of_seen = partial(encode, self.backbone)
        encoded = in_pieces(of_seen, self.backbone, self.s.gradient_cache, images, order[:, :seen])
        drawn = self.decode(encoded, order, seen)
        return drawing_loss(drawn, patches(images, self.patch), order[:, seen:])

    def decode(self, encoded: Tensor, order: Tensor, seen: int) -> Tensor:
        """Encoded patches (B, seen, D) to all patches' pixels (B, P, 3 p p)."""
        x = self.embed(encoded)
        width = x.shape[-1]
        hidden = self.hidden.to(x.dtype).expand(len(x), order.shape[1] - seen, width)
        place = order.argsort(1)[..., None].expand(-1, -1, width)
        x = torch.cat([x, hidden], 1).gather(1, place) + self.position
        return self.draw(self.blocks(x))


def encode(vit: Any, images: Tensor, seen: Tensor) -> Tensor:
    """The features (B, k, D) of the patches ``seen`` int64 (B, k), of a ViT that is shown no others."""
    n_prefix = vit.num_prefix_tokens
    x = vit._pos_embed(vit.patch_embed(images))  # (B, prefix + P, D)
    prefix, x = x[:, :n_prefix], x[:, n_prefix:]
    x = x.gather(1, seen[..., None].expand(-1, -1, x.shape[-1]))
    return through_blocks(vit, torch.cat([prefix, x], 1))[:, n_prefix:]


def patches(images: Tensor, size: int) -> Tensor:
    """(B, 3, H, W) to (B, P, 3 * size * size), rows first."""
    tiles = images.unfold(2, size, size).unfold(3, size, size)  # (B, 3, h, w, p, p)
    return tiles.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)


def drawing_loss(drawn: Tensor, target: Tensor, hidden: Tensor) -> Tensor:
    """(B, P, d) each; the mean over ``hidden`` int64 (B, k), of pixels with mean 0 and variance 1 within each patch."""
    target = (target - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True) + 1e-6).sqrt()
    error = (drawn.float() - target).square().mean(-1)
    return error.gather(1, hidden).mean()

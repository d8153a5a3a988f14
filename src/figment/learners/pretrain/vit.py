"""A plain ViT of timm, step by step: for methods that hide patches."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from figment.errors import FigmentError


def needs_patches(backbone: nn.Module, kind: str, name: str, image_size: int) -> Any:
    """The backbone, which is a plain ViT of two patches or more. Raises FigmentError for others."""
    from timm.models.vision_transformer import VisionTransformer

    if not isinstance(backbone, VisionTransformer):
        raise FigmentError(
            f"kind: {kind} hides patches, and {name} is no plain ViT. Take one of timm.list_models('vit_*'), such as"
            " vit_tiny_patch16_224 (options: {patch_size: 4} for small images), or another method."
        )
    if backbone.patch_embed.num_patches < 2:
        raise FigmentError(
            f"kind: {kind} hides patches, and an image of {image_size} pixels is a single one for {name}. Set a smaller patch, such as"
            f" options: {{patch_size: {max(1, image_size // 8)}}}, or a larger image_size."
        )
    return backbone


def through_blocks(vit: Any, tokens: Tensor) -> Tensor:
    """Tokens (B, L, D), with their positions, to what the last norm gives of them (B, L, D)."""
    from timm.models import checkpoint_seq

    x = vit.norm_pre(tokens)
    return vit.norm(checkpoint_seq(vit.blocks, x) if vit.grad_checkpointing else vit.blocks(x))

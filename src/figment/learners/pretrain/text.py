"""A tower that reads captions, and the loss between captions and images (Radford et al. 2021, CLIP, section 2)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from figment.learners.pretrain.gather import gather
from figment.learners.pretrain.loss import contrast
from figment.learners.pretrain.method import Setting
from figment.learners.pretrain.pieces import in_pieces
from figment.learners.processes import Processes

if TYPE_CHECKING:
    from transformers import CLIPTextModelWithProjection

HIGHEST = math.log(100)  # of the scale's logarithm
#: Parts of a layer: torch's name -> transformers'. The weights of query, key and value are one tensor in torch.
LAYER = {
    "self_attn.out_proj": "self_attn.out_proj",
    "linear1": "mlp.fc1",
    "linear2": "mlp.fc2",
    "norm1": "layer_norm1",
    "norm2": "layer_norm2",
}


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
        return image_text_loss(image, text, said, texts, self.scale, self.on)

    @property
    def scale(self) -> Tensor:
        """What cosines are multiplied by, ()."""
        return self.log_scale.clamp(max=HIGHEST).exp()

    def text_side(self, **ids: Any) -> CLIPTextModelWithProjection:
        """The same tower and its projection as transformers has them, on the CPU. ``ids`` are the tokenizer's, such as ``eos_token_id``."""
        from transformers import CLIPTextConfig, CLIPTextModelWithProjection

        length, width = self.tower.position.shape
        config = CLIPTextConfig(
            vocab_size=self.tower.embedding.num_embeddings,
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=len(self.tower.layers.layers),
            num_attention_heads=width // 64,
            max_position_embeddings=length,
            hidden_act="gelu",
            projection_dim=self.of_text.out_features,
            **ids,
        )
        text = CLIPTextModelWithProjection(config).eval()
        text.load_state_dict({name: value.detach().cpu() for name, value in self._as_transformers().items()})
        return text

    def _as_transformers(self) -> dict[str, Tensor]:
        """The weights of the text's side by transformers' names."""
        own, to = self.tower, "text_model."
        named = {
            "text_projection.weight": self.of_text.weight,
            f"{to}embeddings.token_embedding.weight": own.embedding.weight,
            f"{to}embeddings.position_embedding.weight": own.position,
            **_both(f"{to}final_layer_norm", own.layers.norm),
        }
        for i, layer in enumerate(own.layers.layers):
            here = f"{to}encoder.layers.{i}"
            for name, theirs in LAYER.items():
                named |= _both(f"{here}.{theirs}", layer.get_submodule(name))
            attention: Any = layer.self_attn
            for kind in ("weight", "bias"):
                for part, value in zip("qkv", getattr(attention, f"in_proj_{kind}").chunk(3), strict=True):
                    named[f"{here}.self_attn.{part}_proj.{kind}"] = value
        return named


def _both(name: str, module: Any) -> dict[str, Tensor]:
    return {f"{name}.weight": module.weight, f"{name}.bias": module.bias}


def image_text_loss(
    image: Tensor, text: Tensor, image_texts: Tensor, texts: Tensor, scale: Tensor, on: Processes
) -> Tensor:
    """Of unit features (B, D) and (T, D): ``(L_i2t + L_t2i) / 2``, each uniform over all that show or say the same text."""
    all_images, all_texts = gather(image, on), gather(text, on)
    of_images, of_texts = gather(image_texts, on), gather(texts, on)
    to_text = contrast(image * scale, all_texts, image_texts, of_texts, on)
    to_image = contrast(text * scale, all_images, texts, of_images, on)
    return (to_text + to_image) / 2

"""The starter's CLIP with BatchNorm: a small ResNet in open_clip's layout, for studies of what BatchNorm does.

Its text tower is that of ``starter/clip``, copied weight by weight and never trained again; its image tower, open_clip's
ModifiedResNet, learns to agree with it. So it is no second opinion on what words mean: two things teach it, both from the
``web`` split alone. One is CLIP's own contrastive loss between pictures and their noisy captions, the other is the cosine to
the features that ``starter/clip``'s ViT gives the same pictures.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.transforms.functional import InterpolationMode, resize
from transformers import CLIPModel

from figment.encoders import ClipEncoder

from . import captions, data, training

SIZE = 64  # pixels: a ResNet of four stages halves them five times
DISTILL = 4.0  # weight of the cosine to starter/clip's features: near the contrastive loss's size


def config(clip: CLIPModel) -> dict[str, Any]:
    """``open_clip_config.json``, with the text tower of ``starter/clip``."""
    text = clip.config.text_config
    half = [0.5, 0.5, 0.5]
    model = {
        "embed_dim": clip.config.projection_dim,
        "quick_gelu": True,
        "custom_text": True,
        "vision_cfg": {"image_size": SIZE, "layers": [2, 2, 2, 2], "width": 16, "head_width": 64},
        "text_cfg": {
            "context_length": text.max_position_embeddings,
            "vocab_size": text.vocab_size,
            "width": text.hidden_size,
            "heads": text.num_attention_heads,
            "layers": text.num_hidden_layers,
            "pool_type": "argmax",  # the end token has the largest id
            "hf_tokenizer_name": "starter/clip_rn",
        },
    }
    return {"model_cfg": model, "preprocess_cfg": {"mean": half, "std": half, "interpolation": "bicubic"}}


def make_model(clip: CLIPModel) -> nn.Module:
    """An untrained image tower beside the text tower and the logit scale of ``clip``."""
    about = config(clip)["model_cfg"]
    del about["custom_text"]
    model = open_clip.model.CustomTextCLIP(**about)
    model.text.load_state_dict(text_weights(clip))
    model.logit_scale.data.copy_(clip.logit_scale)
    return model.eval()


def text_weights(clip: CLIPModel) -> dict[str, Tensor]:
    """The text tower's weights under open_clip's names; query, key and value become one matrix."""
    tower = clip.text_model
    weights = {
        "token_embedding.weight": tower.embeddings.token_embedding.weight,
        "positional_embedding": tower.embeddings.position_embedding.weight,
        "ln_final.weight": tower.final_layer_norm.weight,
        "ln_final.bias": tower.final_layer_norm.bias,
        "text_projection": clip.text_projection.weight.T,
    }
    for i, layer in enumerate(tower.encoder.layers):
        attention = layer.self_attn
        parts = (attention.q_proj, attention.k_proj, attention.v_proj)
        block = f"transformer.resblocks.{i}"
        weights[f"{block}.attn.in_proj_weight"] = torch.cat([p.weight for p in parts])
        weights[f"{block}.attn.in_proj_bias"] = torch.cat([p.bias for p in parts])
        same = {
            "attn.out_proj": attention.out_proj,
            "ln_1": layer.layer_norm1,
            "ln_2": layer.layer_norm2,
            "mlp.c_fc": layer.mlp.fc1,
            "mlp.c_proj": layer.mlp.fc2,
        }
        for name, module in same.items():
            weights[f"{block}.{name}.weight"] = module.weight
            weights[f"{block}.{name}.bias"] = module.bias
    return {name: weight.detach().clone() for name, weight in weights.items()}


def to_input(images: Tensor, device: torch.device) -> Tensor:
    """``uint8 (B, 32, 32)`` grey to ``float (B, 3, 64, 64)`` in [-1, 1]."""
    larger = resize(images, [SIZE, SIZE], InterpolationMode.BICUBIC, antialias=True)
    return training.to_input(larger, device).contiguous(memory_format=torch.channels_last)


class Teacher:
    """``starter/clip``'s features of pictures and captions, each computed once."""

    def __init__(self, folder: Path, images: np.ndarray):
        self.clip = ClipEncoder(str(folder), batch_size=512)
        self.images = images  # uint8 (N, 32, 32)
        self._pictures = torch.full((len(images), self.clip.n_features), torch.nan)
        self._texts: dict[str, Tensor] = {}

    def pictures(self, index: np.ndarray) -> Tensor:
        """Unit features (B, D)."""
        new = np.unique(index[self._pictures[index, 0].isnan().numpy()])
        if len(new):
            rgb = np.repeat(self.images[new][..., None], 3, axis=3)
            self._pictures[new] = torch.from_numpy(self.clip.images(list(rgb)))
        return self._pictures[index]

    def texts(self, texts: list[str]) -> Tensor:
        """Unit features (B, D)."""
        new = sorted({text for text in texts if text not in self._texts})
        self._texts.update(zip(new, torch.from_numpy(self.clip.texts(new)), strict=True))
        return torch.stack([self._texts[text] for text in texts])


def train(out: Path, data_folder: Path, device: torch.device, *, steps=3_000, batch=256, minutes: float) -> None:
    """Train the image tower against ``out/clip`` and write ``out/clip_rn``."""
    images, labels = data.load("web", data_folder)
    captioner = captions.Captioner(images, labels)
    padded = data.pad(images)
    pixels = torch.from_numpy(padded)
    teacher = Teacher(out / "clip", padded)
    torch.manual_seed(0)
    model = make_model(teacher.clip.model)
    tower = model.visual.to(device, memory_format=torch.channels_last)

    def loss_of_step(step: int) -> Tensor:
        rng = np.random.default_rng([2, step])
        index = rng.integers(len(pixels), size=batch)
        texts = teacher.texts([captioner(i, rng) for i in index]).to(device)  # (B, D)
        expected = teacher.pictures(index).to(device)  # (B, D)
        with training.autocast(device):
            output = tower(to_input(pixels[index], device))
        features = F.normalize(output.float(), dim=-1)  # (B, D)
        logits = teacher.clip.logit_scale * features @ texts.T  # (B, B)
        target = torch.arange(batch, device=device)
        contrastive = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
        return contrastive + DISTILL * (1 - (features * expected).sum(1).mean())

    model.visual = training.train(
        "clip_rn",
        tower,
        loss_of_step,
        steps=steps,
        lr=2e-3,
        warmup=200,
        weight_decay=0.1,
        betas=(0.9, 0.98),
        out=out,
        minutes=minutes,
    )
    measure_statistics(model.visual, pixels, device)
    folder = out / "clip_rn"
    folder.mkdir(exist_ok=True)
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, folder / WEIGHTS)
    (folder / "open_clip_config.json").write_text(json.dumps(config(teacher.clip.model), indent=2) + "\n")
    teacher.clip.tokenizer.save_pretrained(folder)


WEIGHTS = "open_clip_model.safetensors"


@torch.no_grad()
def measure_statistics(tower: nn.Module, pixels: Tensor, device: torch.device, n: int = 10_000) -> None:
    """The averaged weights have statistics of their own: BatchNorm's means and variances over ``n`` web pictures."""
    chosen = pixels[torch.randperm(len(pixels), generator=torch.Generator().manual_seed(0))[:n]]
    torch.optim.swa_utils.update_bn((to_input(part, device) for part in chosen.split(500)), tower)
    tower.eval()


def pack(source: Path, target: Path) -> None:
    """Half precision for the disk; BatchNorm's few numbers stay in float32, since its variances span more than half can."""
    from safetensors.torch import load_file

    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    weights = load_file(source / WEIGHTS)
    norms = {name.rsplit(".", 1)[0] for name in weights if name.endswith("running_var")}
    small = {
        n: w if n.rsplit(".", 1)[0] in norms or not w.is_floating_point() else w.half() for n, w in weights.items()
    }
    save_file(small, target / WEIGHTS)

"""The starter's CLIP with BatchNorm: a small ResNet in open_clip's layout, for studies of what BatchNorm does.

Its text tower is that of ``starter/clip``, copied weight by weight. Its image tower, open_clip's ModifiedResNet, learnt to give
the images of the ``web`` split the features that ``starter/clip``'s ViT gives them, and saw neither captions nor labels. So
the two know the same, and the second is no other opinion on what words mean. (Taught captions as well, by CLIP's contrastive loss,
it reaches 90 % zero-shot on ``pool``: too good to be a model of what CLIP knows of a user's classes.)
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

from . import data, training

WEIGHTS = "open_clip_model.safetensors"
SIZE = 64  # pixels: a ResNet of four stages halves them five times


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


def train(out: Path, data_folder: Path, device: torch.device, *, steps=2_400, batch=256, minutes: float) -> None:
    """Train the image tower against ``out/clip`` and write ``out/clip_rn``."""
    pixels = torch.from_numpy(data.pad(data.load("web", data_folder)[0]))  # (N, 32, 32)
    teacher = ClipEncoder(str(out / "clip"), device=device.type, dtype="float32", batch_size=512)
    print("clip_rn: what starter/clip sees in the web's images", flush=True)
    wanted = torch.from_numpy(teacher.images([np.stack([x] * 3, axis=-1) for x in pixels.numpy()]))  # (N, D)
    torch.manual_seed(0)
    model = make_model(teacher.model)
    tower = model.visual.to(device, memory_format=torch.channels_last)

    def loss_of_step(step: int) -> Tensor:
        index = np.random.default_rng([2, step]).integers(len(pixels), size=batch)
        with training.autocast(device):
            features = tower(to_input(pixels[index], device))  # (B, D)
        return 1 - F.cosine_similarity(features.float(), wanted[index].to(device)).mean()

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
    (folder / "open_clip_config.json").write_text(json.dumps(config(teacher.model), indent=2) + "\n")
    teacher.tokenizer.save_pretrained(folder)


@torch.no_grad()
def measure_statistics(tower: nn.Module, pixels: Tensor, device: torch.device, n: int = 10_000) -> None:
    """The averaged weights have statistics of their own: BatchNorm's means and variances over ``n`` web images."""
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

"""The starter's CLIP with BatchNorm: a small ResNet and a text tower in open_clip's layout, for studies of what BatchNorm does.

Trained as ``starter/clip`` is, on the same images and captions, from other weights: a second opinion on what words mean. Only the
tokenizer is shared.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.transforms.functional import InterpolationMode, resize
from transformers import CLIPTokenizer

from . import captions, clip, data, training

WEIGHTS = "open_clip_model.safetensors"
SIZE = 64  # pixels: a ResNet of four stages halves them five times


def config(tokenizer: CLIPTokenizer) -> dict[str, Any]:
    """``open_clip_config.json``."""
    half = [0.5, 0.5, 0.5]
    model = {
        "embed_dim": 128,
        "quick_gelu": True,
        "custom_text": True,
        "vision_cfg": {"image_size": SIZE, "layers": [2, 2, 2, 2], "width": 16, "head_width": 64},
        "text_cfg": {
            "context_length": clip.CONTEXT,
            "vocab_size": len(tokenizer),
            "width": 128,
            "heads": 2,
            "layers": 3,
            "pool_type": "argmax",  # the end token has the largest id
            "hf_tokenizer_name": "starter/clip_rn",
        },
    }
    return {"model_cfg": model, "preprocess_cfg": {"mean": half, "std": half, "interpolation": "bicubic"}}


def make_model(tokenizer: CLIPTokenizer) -> nn.Module:
    about = config(tokenizer)["model_cfg"]
    del about["custom_text"]
    return open_clip.model.CustomTextCLIP(**about)


def to_input(images: Tensor, device: torch.device) -> Tensor:
    """``uint8 (B, 32, 32)`` grey to ``float (B, 3, 64, 64)`` in [-1, 1]."""
    larger = resize(images, [SIZE, SIZE], InterpolationMode.BICUBIC, antialias=True)
    return training.to_input(larger, device).contiguous(memory_format=torch.channels_last)


def train(
    out: Path, data_folder: Path, device: torch.device, *, steps=1_500, batch=256, minutes: float | None = None
) -> None:
    """Write ``out/clip_rn``, with the tokenizer of ``out/clip``."""
    web = data.web(data_folder, data.CLIP_CATALOGUE_SHARE)
    captioner, pixels = captions.Captioner(web), torch.from_numpy(web.images)
    tokenizer = CLIPTokenizer.from_pretrained(out / "clip")
    torch.manual_seed(1)
    model = make_model(tokenizer).to(device)
    model.visual.to(memory_format=torch.channels_last)

    def loss_of_step(step: int) -> Tensor:
        rng = np.random.default_rng([2, step])
        index = rng.integers(len(pixels), size=batch)
        ids = clip.tokens(tokenizer, [captioner(i, rng) for i in index], padding="max_length").to(device)
        images = model.encode_image(to_input(pixels[index], device), normalize=True)  # (B, D)
        texts = model.encode_text(ids, normalize=True)
        return clip.contrastive_loss(model.logit_scale.exp() * images.float() @ texts.float().T)

    settings = {"learning_rate": 1e-3, "warmup_steps": 200, "weight_decay": 0.1, "betas": (0.9, 0.98)}
    training.train(
        "clip_rn", model, loss_of_step, out, device, steps=steps, minutes=minutes, ema_decay=0.999, **settings
    )
    measure_statistics(model.visual, pixels, device)
    folder = out / "clip_rn"
    folder.mkdir(exist_ok=True)
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, folder / WEIGHTS)
    (folder / "open_clip_config.json").write_text(json.dumps(config(tokenizer), indent=2) + "\n")
    tokenizer.save_pretrained(folder)


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

"""Small methods, settings and images for the tests of pre-training."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter
from torch import Tensor
from torch.nn import functional as F

from figment.images_in.memory import MemoryImages
from figment.learners.pretrain.backbone import make_backbone
from figment.learners.pretrain.method import Batch, Method, Setting
from figment.learners.pretrain.methods import METHODS
from figment.learners.pretrain.settings import PretrainSettings
from figment.learners.processes import Processes
from figment.recipe.train import Train

ONE = Processes(0, 1, torch.device("cpu"))
SMALL: dict[str, Any] = {
    "backbone": "test_vit", "image_size": 32, "epochs": 3, "batch_size": 12, "optimizer": "adamw", "learning_rate": 4e-3,
    "workers": 0, "precision": "float32", "options": {"patch_size": 8},
}  # fmt: skip
TRAIN: TypeAdapter[PretrainSettings] = TypeAdapter(Train)
KINDS = tuple(METHODS)
OWN: dict[str, dict[str, Any]] = {
    "simclr": {"projector": [48, 16]},
    "stablerep": {"projector": [48, 48, 16], "images_per_caption": 3},
    "stablerep_plus": {"projector": [48, 48, 16], "images_per_caption": 3, "text_tower": (64, 1)},
    "clip": {"text_tower": (64, 1)},
    "supervised": {},
    "moco": {"projector": [48, 16], "queue": 20, "momentum": 0.9},
    "byol": {"projector": [48, 16], "momentum": 0.9},
    "mae": {"decoder": (64, 1)},
    "dino": {"projector": [48, 16], "prototypes": 24, "local_views": 1, "momentum": 0.9},
    "moco_v3": {"projector": [48, 16], "momentum": 0.9},
    "synclr": {
        "projector": [48, 16], "patch_projector": [48, 16], "prototypes": 24, "images_per_caption": 3, "local_views": 1,
        "momentum": 0.9,
    },
}  # fmt: skip


def twin(features: Tensor, groups: Tensor, temperature: float) -> Tensor:
    """Equations 1 and 2 of StableRep, one image at a time."""
    z = F.normalize(features, dim=-1)
    losses = []
    for i in range(len(z)):
        others = [j for j in range(len(z)) if j != i]
        positives = [j for j in others if groups[j] == groups[i]]
        if not positives:
            continue
        q = {j: torch.exp(z[i] @ z[j] / temperature) for j in others}
        whole = sum(q.values())
        losses.append(-sum(torch.log(q[j] / whole) for j in positives) / len(positives))
    return torch.stack(losses).mean()


def settings(kind: str, **changed: Any) -> PretrainSettings:
    return TRAIN.validate_python({"kind": kind, **SMALL, **OWN[kind], **changed})


def method(kind: str, on: Processes = ONE, **changed: Any) -> Method:
    s = settings(kind, **changed)
    torch.manual_seed(0)
    return METHODS[kind](make_backbone(s, None).module, s, Setting(on, 3, 32, vocabulary=11, length=5, end=10)).train()


def batch(kind: str, n: int = 12, seed: int = 1) -> Batch:
    """``n`` images in slots of three of a caption; the first and the last slot have the same one."""
    torch.manual_seed(seed)
    captions = torch.arange(n).div(3, rounding_mode="floor")
    captions[-3:] = 0
    views = [torch.randn(n, 3, 32, 32) for _ in method(kind).views()]
    tokens = torch.randint(10, (n // 3, 5)).repeat_interleave(3, 0)
    tokens[-3:] = tokens[0]
    tokens[:, -2] = 10
    return Batch(views, captions, torch.arange(n), torch.arange(n) % 3, captions, tokens)


def striped(n: int, seed: int = 0) -> MemoryImages:
    """Images whose class is the direction of their stripes, in any colours: a random backbone does not see it at once."""
    rng, labels = np.random.default_rng(seed), np.arange(n) % 3
    images = []
    for label in labels:
        i, j = np.mgrid[:32, :32] + rng.integers(8)
        wave = (np.sin((i, j, i + j)[label] * (0.8, 0.8, 0.6)[label])[..., None] + 1) / 2
        a, b = rng.uniform(0, 255, (2, 3))
        images.append((wave * a + (1 - wave) * b + rng.normal(0, 12, (32, 32, 3))).clip(0, 255).astype(np.uint8))
    return MemoryImages(images, labels)


def tinted(n: int, seed: int = 0) -> MemoryImages:
    """Noise of any brightness, whose class is a slight tint: a few labels and the features of chance do not tell it."""
    rng, labels = np.random.default_rng(seed), np.arange(n) % 3
    images = []
    for label in labels:
        tone = np.full(3, 128.0) + rng.uniform(-60, 60)
        tone[label] += 20
        images.append(rng.normal(tone, 70, (32, 32, 3)).clip(0, 255).astype(np.uint8))
    return MemoryImages(images, labels)

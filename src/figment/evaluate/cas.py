"""Classification accuracy score: what a classifier learns from generated images alone, tested on real ones.

Ravuri and Vinyals 2019; the headline measure of Azizi et al. 2023, who train a ResNet-50. This is its scale model: a
small CNN on 32-pixel grey images, trained from scratch, minutes on two CPU cores.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from figment.evaluate.accuracy import accuracy
from figment.types import Result

SIDE = 32  # pixels


class SmallCNN(nn.Sequential):
    """Three 3x3 convolutions with batch norm, each halved by max-pooling: grey ``float (B, 1, 32, 32)`` to logits ``(B, N)``."""

    def __init__(self, n_classes: int, width: int = 32):
        layers: list[nn.Module] = []
        channels = 1
        for out in (width, 2 * width, 4 * width):
            layers += [
                nn.Conv2d(channels, out, 3, padding=1, bias=False),
                nn.BatchNorm2d(out),
                nn.ReLU(),
                nn.MaxPool2d(2),
            ]
            channels = out
        head = [nn.Flatten(), nn.Dropout(0.3), nn.Linear(channels * (SIDE // 8) ** 2, n_classes)]
        super().__init__(*layers, *head)


def to_grey(images: Sequence[np.ndarray] | np.ndarray) -> torch.Tensor:
    """``uint8 (H, W, 3)`` images of any sizes to ``float (B, 1, 32, 32)`` in [-1, 1]."""
    parts = []
    for image in images:
        x = torch.from_numpy(np.ascontiguousarray(image)).float().mean(-1)[None, None] / 127.5 - 1
        parts.append(
            x if x.shape[-2:] == (SIDE, SIDE) else F.interpolate(x, (SIDE, SIDE), mode="bilinear", antialias=True)
        )
    return torch.cat(parts)


def train_cnn(
    x: torch.Tensor, labels: np.ndarray, n_classes: int, *, steps: int = 1000, batch_size: int = 128, seed: int = 0
) -> SmallCNN:
    """Train from scratch on ``x (n, 1, 32, 32)``: AdamW at 2e-3, one cycle of the learning rate, shifts of up to two pixels.

    The number of steps does not depend on ``n``, so that sets of different sizes cost and learn at the same pace.
    """
    torch.manual_seed(seed)
    model = SmallCNN(n_classes)
    y = torch.as_tensor(labels, dtype=torch.int64)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    model.train()
    for _ in range(steps):
        index = torch.randint(len(x), (batch_size,))
        shift = torch.randint(-2, 3, (2,)).tolist()
        loss = F.cross_entropy(model(torch.roll(x[index], shift, (2, 3))), y[index], label_smoothing=0.05)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


@torch.inference_mode()
def predict(model: SmallCNN, x: torch.Tensor) -> np.ndarray:
    """Logits ``float32 (n, N)``."""
    return torch.cat([model(chunk) for chunk in x.split(1000)]).numpy()


def classification_accuracy_score(
    x: torch.Tensor,
    labels: np.ndarray,
    test_x: torch.Tensor,
    test_labels: np.ndarray,
    class_names: Sequence[str],
    *,
    seeds: Sequence[int] = (0,),
    steps: int = 1000,
) -> Result:
    """CAS: top-1 on real test images after training on ``x`` alone, mean over training seeds. Images as from :func:`to_grey`."""
    models = [train_cnn(x, labels, len(class_names), seed=seed, steps=steps) for seed in seeds]
    return accuracy([predict(m, test_x) for m in models], test_labels, class_names, "cas", tuple(seeds))

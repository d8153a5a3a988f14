"""Segmentation: transformers' UperNet on the backbone, all of it fine-tuned, scored by the mean intersection over union."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import tv_tensors
from torchvision.transforms import v2

from figment import limits
from figment.errors import FigmentError
from figment.files import as_path
from figment.images_in.decode import decode
from figment.images_in.folder import read_file
from figment.judging.ade20k import IGNORED, Annotation, labels_of, read_split
from figment.judging.dense import DenseLoop, trained
from figment.judging.evaluation import Evaluation, Given, Numbers
from figment.judging.pyramid import STRIDE, Pyramid
from figment.learners.training import random_numbers_of
from figment.progress import progress


class Segmentation(Evaluation):
    """mIoU of UperNet's head (Xiao et al. 2018) on the backbone's maps; whole images at one scale, shorter side as in training."""

    name: ClassVar[str] = "segmentation"
    layout: ClassVar[str] = (
        "ADEChallengeData2016: images/ and annotations/ (PNG, 0 = ignore), each training/ and validation/"
    )
    protocol: ClassVar[str] = (
        "UperNet, 60,000 steps of 16 crops of 512 pixels, all trained; mIoU of whole images at one scale"
    )
    paper: ClassVar[str] = (
        "Zhou et al. 2017 (ADE20k); Tian et al. 2023 (SynCLR), 2312.17742; StableRep, 2306.00984, Table 4"
    )

    classes: int = Field(150, ge=2, le=254)
    steps: int = Field(60_000, ge=1, le=limits.STEPS)
    batch_size: int = Field(16, ge=2, le=limits.BATCH)
    learning_rate: float = Field(
        8e-5, gt=0, le=limits.RATE, description="of AdamW; after the warm-up linearly down to 0"
    )
    warmup: int = Field(1_500, ge=0, le=limits.STEPS, description="steps over which the learning rate rises linearly")
    weight_decay: float = Field(0.05, ge=0, le=limits.RATE)
    side: int = Field(
        512, ge=32, le=limits.SIDE, description="of the crops in training, in pixels, and the shorter side in testing"
    )
    channels: int = Field(512, ge=8, le=4_096, description="of the head")

    def measure(self, given: Given, where: str) -> Numbers:
        folder, device = as_path(where), given.backbone.device
        learnt, test = read_split(folder, "training"), read_split(folder, "validation")
        if len(learnt) < 2:
            raise FigmentError(f"{folder} has one training image, and the head's BatchNorm needs two for a step.")
        with random_numbers_of(given.seed):
            module = UperNet(given.backbone.pyramid(), self.classes, self.channels)
        module = module.to(device)
        identity = [
            given.backbone.fingerprint,
            self.model_dump(mode="json"),
            [[image.path.name, image.path.stat().st_size, image.labels.stat().st_size] for image in learnt],
        ]
        loop = self._loop(module, learnt, given)
        trained(loop, given.folder / "training", identity, "segmentation")
        counts = np.zeros((self.classes, self.classes), np.int64)
        with progress("segment", len(test)) as advance:
            for image in test:
                pixels, labels = self._read(image)
                counts += confusion(self._predicted(module, pixels), labels, self.classes)
                advance(1)
        of_class = ious(counts)
        values = {"mIoU": float(np.nanmean(of_class)), "pixels": float(np.trace(counts) / max(1, counts.sum()))}
        return Numbers(values, len(test), {}, {"of_class": [None if np.isnan(v) else v for v in of_class.tolist()]})

    def _loop(self, module: UperNet, learnt: Sequence[Annotation], given: Given) -> DenseLoop:
        device = given.backbone.device
        fill: dict[Any, Any] = {tv_tensors.Image: 0, tv_tensors.Mask: IGNORED}
        augment = v2.Compose(
            [
                v2.RandomResize(self.side // 2, 2 * self.side + 1, antialias=True),
                v2.RandomCrop(self.side, pad_if_needed=True, fill=fill),
                v2.RandomHorizontalFlip(),
            ]
        )

        def loss_of(rows: Sequence[int]) -> Tensor:
            read = (self._read(learnt[row]) for row in rows)
            crops = [augment(pixels, tv_tensors.Mask(labels)) for pixels, labels in read]
            images, labels = (torch.stack(list(part)).to(device) for part in zip(*crops, strict=True))
            return module.loss(images, labels)

        decay = self.weight_decay
        optimizer = torch.optim.AdamW(module.parameters(), self.learning_rate, weight_decay=decay)
        warmup = min(self.warmup, self.steps - 1)
        rates = [
            self.learning_rate * min((step + 1) / (warmup + 1), (self.steps - step) / (self.steps - warmup))
            for step in range(self.steps)
        ]
        return DenseLoop(module, loss_of, len(learnt), self.batch_size, optimizer, rates, device, given.seed)

    def _read(self, image: Annotation) -> tuple[tv_tensors.Image, np.ndarray]:
        """uint8 (3, H, W), and the class of each pixel, int64 (H, W). Raises FigmentError where they differ in size."""
        pixels, labels = decode(read_file(image.path), str(image.path)), labels_of(image, self.classes)
        if pixels.shape[:2] != labels.shape:
            (h, w), (own_h, own_w) = labels.shape, pixels.shape[:2]
            raise FigmentError(
                f"{image.labels} has {w} x {h} pixels, and its image {image.path} has {own_w} x {own_h}, upright by its EXIF. Make them"
                " equal, or take both out."
            )
        return tv_tensors.Image(torch.from_numpy(pixels).permute(2, 0, 1)), labels

    @torch.inference_mode()
    def _predicted(self, module: UperNet, pixels: Tensor) -> np.ndarray:
        """The class of each pixel of uint8 (3, H, W), int64 (H, W)."""
        x = v2.functional.resize(pixels, [self.side], max_size=4 * self.side, antialias=True)[None]
        logits = module(x.to(module.mean.device))
        return F.interpolate(logits, size=pixels.shape[-2:], mode="bilinear").argmax(1)[0].cpu().numpy()


class UperNet(nn.Module):
    """Images ``uint8 (B, 3, H, W)`` to logits ``float (B, N, H, W)``."""

    mean: Tensor
    std: Tensor

    def __init__(self, maps: Pyramid, n_classes: int, channels: int):
        super().__init__()
        from transformers import UperNetConfig
        from transformers.models.upernet.modeling_upernet import UperNetFCNHead, UperNetHead

        options: dict[str, Any] = {"num_labels": n_classes, "hidden_size": channels, "loss_ignore_index": IGNORED}
        config = UperNetConfig(**options)
        self.auxiliary_weight = config.auxiliary_loss_weight
        self.maps = maps
        self.head = UperNetHead(config, maps.channels)
        self.auxiliary = UperNetFCNHead(config, maps.channels)
        mean, std = (torch.tensor(maps.data[k]).view(3, 1, 1) * 255 for k in ("mean", "std"))
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return self._logits(self.head, self._maps(images), images)

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Of ``int64 (B, H, W)``: cross-entropy over pixels that have a class, and .4 of the auxiliary head's, as UperNet is trained. 0 where
        no pixel has one."""
        maps, counted = self._maps(images), (labels != IGNORED).sum().clamp(min=1)
        own, auxiliary = (
            F.cross_entropy(self._logits(head, maps, images), labels, ignore_index=IGNORED, reduction="sum") / counted
            for head in (self.head, self.auxiliary)
        )
        return own + self.auxiliary_weight * auxiliary

    def _maps(self, images: Tensor) -> list[Tensor]:
        h, w = images.shape[-2:]
        x = (images.float() - self.mean) / self.std
        return self.maps(F.pad(x, (0, -w % STRIDE, 0, -h % STRIDE)))

    def _logits(self, head: nn.Module, maps: list[Tensor], images: Tensor) -> Tensor:
        """Of each pixel; what was padded is cut away again."""
        h, w = images.shape[-2:]
        return F.interpolate(head(maps), size=(h + -h % STRIDE, w + -w % STRIDE), mode="bilinear")[..., :h, :w]


def confusion(predicted: np.ndarray, true: np.ndarray, n_classes: int) -> np.ndarray:
    """Counts of pixels, int64 (N, N): a row for each true class, a column for each predicted one; ignored ones are left out."""
    counted = true != IGNORED
    both = true[counted] * n_classes + predicted[counted]
    return np.bincount(both, minlength=n_classes**2).reshape(n_classes, n_classes)


def ious(counts: np.ndarray) -> np.ndarray:
    """Intersection over union of each class, over the pixels of all images together: float (N,), NaN for a class that is nowhere."""
    right = np.diag(counts).astype(np.float64)
    union = counts.sum(0) + counts.sum(1) - right
    return np.divide(right, union, out=np.full(len(right), np.nan), where=union > 0)

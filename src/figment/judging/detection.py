"""Detection: Faster R-CNN on the backbone, all of it fine-tuned, scored by VOC's own average precision."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from figment import limits
from figment.errors import FigmentError
from figment.files import as_path
from figment.images_in.decode import decode
from figment.images_in.folder import read_file
from figment.images_in.labels import listed
from figment.judging.average_precision import Boxes, average_precisions
from figment.judging.dense import DenseLoop, trained
from figment.judging.evaluation import Evaluation, Given, Numbers
from figment.judging.pyramid import Pyramid
from figment.judging.voc import Annotation, has_split, read_split, years
from figment.learners.training import random_numbers_of
from figment.progress import progress

DROPS = (
    3 / 4,
    11 / 12,
)  # of the steps, after which the learning rate is a tenth of what it was: 18,000 and 22,000 of 24,000
DETECTIONS = 100  # of an image, at most


class Detection(Evaluation):
    """AP50 of torchvision's Faster R-CNN with a feature pyramid on the backbone's maps.

    MoCo's protocol has Detectron2's C4 head, which only ResNets have; a pyramid takes any network.
    """

    name: ClassVar[str] = "detection"
    layout: ClassVar[str] = "a VOC year (JPEGImages, Annotations, ImageSets/Main), or VOCdevkit with several"
    protocol: ClassVar[str] = (
        "Faster R-CNN, 24,000 steps of 16, all trained; AP50, area under the curve and 11 points, difficult ones ignored"
    )
    paper: ClassVar[str] = (
        "He et al. 2020 (MoCo), 1911.05722, 4.2; Everingham et al. 2010; He et al. 2023, Tables 10 and 11"
    )

    train: str = Field("trainval", description="the split that is learnt, of every year that is there")
    test: str = Field("test", description="the split that is tested, of every year that has it")
    steps: int = Field(24_000, ge=1, le=limits.STEPS)
    batch_size: int = Field(16, ge=1, le=limits.BATCH)
    learning_rate: float = Field(0.02, gt=0, le=limits.RATE, description="of SGD with momentum .9, for a batch of 16")
    warmup: int = Field(100, ge=0, le=limits.STEPS, description="steps over which the learning rate rises linearly")
    weight_decay: float = Field(1e-4, ge=0, le=limits.RATE)
    channels: int = Field(256, ge=8, le=4_096, description="of the pyramid")
    sides: list[Annotated[int, Field(ge=32, le=limits.SIDE)]] = Field(
        list(range(480, 801, 32)),
        min_length=1,
        description="shorter sides that are drawn in training, in pixels; the last in testing",
    )
    longest: int = Field(1_333, ge=32, le=limits.SIDE, description="longer side at most, in pixels")

    def measure(self, given: Given, where: str) -> Numbers:
        folders = years(as_path(where))
        learnt = [image for folder in folders for image in read_split(folder, self.train)]
        tested = [folder for folder in folders if has_split(folder, self.test)] or folders[:1]
        test = [image for folder in tested for image in read_split(folder, self.test)]
        learnt = [image for image in learnt if len(image.boxes)]
        names = sorted({name for image in learnt for name in image.names})
        _check(learnt, test, names, where)
        module = self._detector(given, len(names))
        identity = [
            given.backbone.fingerprint,
            {name: value for name, value in self.model_dump(mode="json").items() if name != "test"},
            [[image.path.name, image.path.stat().st_size, image.boxes.tolist(), image.names] for image in learnt],
        ]
        loop = self._loop(module, learnt, names, given)
        module = trained(loop, given.folder / "training", identity, "detection")
        found = _detect(module, test, given.backbone.device)
        true = [Boxes(t.boxes, np.array([names.index(n) for n in t.names], np.int64), None, t.difficult) for t in test]
        precisions = {
            name: average_precisions(found, true, len(names), eleven_points=eleven)
            for name, eleven in (("AP50", False), ("AP50, 11 points", True))
        }
        of_class = {name: None if np.isnan(p) else float(p) for name, p in zip(names, precisions["AP50"], strict=True)}
        return Numbers(
            {name: float(np.nanmean(p)) for name, p in precisions.items()}, len(test), {}, {"of_class": of_class}
        )

    def _detector(self, given: Given, n_classes: int) -> nn.Module:
        pyramid = given.backbone.pyramid()
        data = pyramid.data
        with random_numbers_of(given.seed):
            module = FasterRCNN(
                _WithPyramid(pyramid, self.channels),
                num_classes=n_classes + 1,  # and the background, which is 0
                min_size=tuple(self.sides),
                max_size=self.longest,
                image_mean=list(data["mean"]),
                image_std=list(data["std"]),
                box_detections_per_img=DETECTIONS,
            )
        return module.to(given.backbone.device)

    def _loop(self, module: nn.Module, learnt: Sequence[Annotation], names: Sequence[str], given: Given) -> DenseLoop:
        device = given.backbone.device

        def loss_of(rows: Sequence[int]) -> Tensor:
            images, targets = [], []
            for row in rows:
                own = learnt[row]
                image, boxes = _pixels(own, device), torch.from_numpy(own.boxes).to(device)
                if torch.rand(()) < 0.5:
                    image, boxes = image.flip(-1), boxes[:, [2, 1, 0, 3]] * boxes.new_tensor([-1, 1, -1, 1])
                    boxes[:, [0, 2]] += image.shape[-1]
                labels = torch.tensor([names.index(name) + 1 for name in own.names], device=device)
                images.append(image)
                targets.append({"boxes": boxes, "labels": labels})
            return torch.stack(list(module(images, targets).values())).sum()

        optimizer = torch.optim.SGD(module.parameters(), self.learning_rate, 0.9, weight_decay=self.weight_decay)
        return DenseLoop(module, loss_of, len(learnt), self.batch_size, optimizer, self._rates(), device, given.seed)

    def _rates(self) -> list[float]:
        """Of each step: a linear rise, then a tenth after each of the drops."""
        drops = [int(share * self.steps) for share in DROPS]
        return [
            self.learning_rate * min(1.0, (step + 1) / (self.warmup + 1)) * 0.1 ** sum(step >= drop for drop in drops)
            for step in range(self.steps)
        ]


class _WithPyramid(nn.Module):
    """What torchvision calls a backbone with FPN: five maps of as many channels, the last one half the size of the one before."""

    def __init__(self, maps: Pyramid, channels: int):
        super().__init__()
        self.maps, self.out_channels = maps, channels
        self.fpn = FeaturePyramidNetwork(maps.channels, channels, extra_blocks=LastLevelMaxPool())

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return self.fpn(OrderedDict((str(i), m) for i, m in enumerate(self.maps(x))))


def _check(learnt: Sequence[Annotation], test: Sequence[Annotation], names: Sequence[str], where: str) -> None:
    if not learnt or not test:
        raise FigmentError(
            f"{where} has no {'boxes to learn from' if not learnt else 'images to test on'}: its list of images is empty."
        )
    if shared := sorted({image.path for image in learnt} & {image.path for image in test}):
        raise FigmentError(
            f"{len(shared)} of the {len(test)} test images of {where} are learnt too, such as {shared[0].name}. Name splits that share none:"
            " --set detection.train=train --set detection.test=val"
        )
    if strange := sorted({name for image in test for name in image.names} - set(names)):
        raise FigmentError(
            f"The test images of {where} have objects that no training image has: {listed(strange)}. Take them out, or train on more."
        )


def _pixels(image: Annotation, device: torch.device) -> Tensor:
    """float (3, H, W) in [0, 1]."""
    pixels = torch.from_numpy(decode(read_file(image.path), str(image.path)))
    return pixels.to(device).permute(2, 0, 1).float() / 255


@torch.inference_mode()
def _detect(module: nn.Module, images: Sequence[Annotation], device: torch.device) -> list[Boxes]:
    found = []
    with progress("detect", len(images)) as advance:
        for image in images:
            out = {name: value.cpu().numpy() for name, value in module([_pixels(image, device)])[0].items()}
            found.append(Boxes(out["boxes"], out["labels"] - 1, out["scores"]))
            advance(1)
    return found

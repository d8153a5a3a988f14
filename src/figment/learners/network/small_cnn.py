"""A small network for 32-pixel images, trained from scratch in minutes on two CPU cores: the scale model of a ResNet."""

from __future__ import annotations

from torch import Tensor, nn

from figment.learners.network.settings import NetworkSettings

NAME = "small_cnn"

#: Its own way of training. The number of steps hardly depends on the number of images, so that sets of different sizes cost and learn alike.
SMALL_CNN = NetworkSettings(
    architecture=NAME,
    image_size=32,
    optimizer="adamw",
    learning_rate=2e-3,
    weight_decay=0.05,
    warmup=0.3,
    label_smoothing=0.05,
    batch_size=128,
    epochs=1,
    min_steps=1000,
    crop_scale=None,
    pad=2,
    flip=0.0,
)


class SmallCNN(nn.Module):
    """Three 3x3 convolutions with batch norm, each halved by max-pooling: ``float (B, 3, S, S)`` to logits ``(B, N)``.

    Colour is not looked at: the channels are averaged first. S is a multiple of 8.
    """

    def __init__(self, num_classes: int, img_size: int = 32, width: int = 32, drop_rate: float = 0.3):
        super().__init__()
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
        self.features = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(drop_rate))
        self.classifier = nn.Linear(channels * (img_size // 8) ** 2, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x.mean(1, keepdim=True)))  # (B, 1, S, S) to (B, N)

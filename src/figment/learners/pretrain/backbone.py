"""A backbone: made by timm, and saved with its probe as a folder that timm opens without figment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import safetensors.torch
import torch
from torch import nn

from figment import records
from figment.encoders.pair import write_text
from figment.errors import FigmentError
from figment.files import write_atomic
from figment.learners.network.architectures import Network, make
from figment.learners.network.augment import EvalTransform
from figment.learners.network.model import NetworkModel, predict
from figment.learners.network.settings import NetworkSettings
from figment.learners.network.small_cnn import NAME as SMALL_CNN
from figment.learners.pretrain.settings import PretrainSettings
from figment.learners.pretrain.text import ImageText
from figment.learners.pretrain.tokens import Tokens
from figment.models import ModelFolder
from figment.probe import Probe
from figment.types import Images

PROBE = "probe.safetensors"
UNLABELLED = (
    "This backbone classifies nothing: it was pre-trained where there were no labelled real images to learn a linear probe from. Judge it on"
    " a data set that has them, figment judge RUN --on linear=PHOTOS; or set task.real.train in its recipe and run that again, which trains"
    " the probe."
)


def make_backbone(s: PretrainSettings, start: ModelFolder | None) -> Network:
    """A network of timm's without a classifier: images to features ``float (B, D)``; torch's generator decides the rest.

    Raises FigmentError for an architecture that there is not, or that does not take such images.
    """
    if s.backbone == SMALL_CNN:
        raise FigmentError(
            f"{SMALL_CNN} is no backbone: it is not timm's. Take one of timm.list_models(), such as resnet18."
        )
    own = NetworkSettings(architecture=s.backbone, options=s.options, image_size=s.image_size)
    network = make(own, 2, start)
    cast(Any, network.module).reset_classifier(0)
    return replace(network, args={**network.args, "num_classes": 0})


def with_checkpoints(module: nn.Module, name: str) -> None:
    """timm's gradient checkpointing, switched on. Raises FigmentError for a network that has none."""
    try:
        cast(Any, module).set_grad_checkpointing(True)
    except (AttributeError, AssertionError) as error:
        raise FigmentError(
            f"train.gradient_checkpointing: {name} has none in timm. Leave it out; gradient_cache: 32 saves memory with any backbone."
        ) from error


def features_of(module: nn.Module, images: Images, data: Mapping[str, Any]) -> np.ndarray:
    """``float32 (n, D)`` of a backbone in eval mode, of images as they are prepared for testing."""
    return predict(module, images, range(len(images)), EvalTransform(data))


@dataclass(frozen=True)
class Words:
    """What a method that reads has learnt beside its backbone."""

    text: ImageText
    tokens: Tokens

    def save(self, folder: Path) -> None:
        """Write ``text/``, as `figment.encoders.pair` reads it."""
        tokenizer: Any = self.tokens.tokenizer
        names = ("bos_token_id", "eos_token_id", "pad_token_id")
        side = self.text.text_side(**{name: getattr(tokenizer, name) for name in names})
        write_text(folder, side, tokenizer, self.text.of_image.weight, self.text.scale.log())


@dataclass
class BackboneModel:
    """A `figment.types.Model`: a backbone in eval mode, the linear probe that classifies by its features, and what reads, if any does."""

    network: Network
    probe: Probe | None  # None where there was nothing labelled to learn it from
    class_names: Sequence[str]
    history: list[dict[str, Any]] = field(default_factory=list)
    facts: Mapping[str, Any] = field(default_factory=dict)
    words: Words | None = None
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        self.backbone = NetworkModel(self.network, self.class_names)
        parts = [self.backbone.fingerprint] + ([] if self.probe is None else [records.digest(_packed(self.probe))])
        if self.words is not None:
            state = {name: value.detach().cpu().contiguous() for name, value in self.words.text.state_dict().items()}
            parts.append(records.digest(safetensors.torch.save(state)))
        self.fingerprint = records.fingerprint(parts)

    def encodes(self, images: Images) -> np.ndarray:
        """Features, ``float32 (n, D)``."""
        return features_of(self.network.module, images, self.network.data)

    def logits(self, images: Images) -> np.ndarray:
        """Raises FigmentError without a probe."""
        if self.probe is None:
            raise FigmentError(UNLABELLED)
        return self.probe(self.encodes(images))

    def save(self, folder: Path) -> None:
        """Write the backbone as timm does, ``model.safetensors`` and ``config.json``, its probe if there is one, ``weight`` (N, D) and ``bias`` (N,), and
        of methods that read ``text/``, with which `figment.encoders.open_encoder` opens the folder as a CLIP.

        ``timm.create_model("local-dir:FOLDER", pretrained=True, num_classes=0)`` opens the backbone; so does
        ``timm.create_model(NAME, num_classes=0, checkpoint_path="FOLDER/model.safetensors")`` with the options it was made with.
        """
        self.backbone.save(folder)
        if self.probe is not None:
            write_atomic(folder / PROBE, _packed(self.probe))
        if self.words is not None:
            self.words.save(folder)


def _packed(probe: Probe) -> bytes:
    tensors = {"weight": torch.from_numpy(probe.weight), "bias": torch.from_numpy(probe.bias)}
    return safetensors.torch.save(tensors, metadata={"format": "pt"})

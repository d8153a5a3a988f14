"""What learners save, opened again: to predict with, and to be handed to other libraries."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from figment.encoders import Towers
from figment.encoders.elsewhere import Tower, of_timm
from figment.encoders.timm import TimmEncoder
from figment.errors import FigmentError
from figment.files import legible, read_bytes
from figment.images_in.memory import MemoryImages
from figment.learners.clip_head.head import ENCODER, HEAD_FILES, Head, HeadCard
from figment.learners.network.model import NetworkModel, open_network
from figment.learners.network.small_cnn import NAME as SMALL_CNN
from figment.learners.pretrain.backbone import PROBE, UNLABELLED

#: What a head may stand on.
ImageEncoder = Towers | TimmEncoder


@dataclass(frozen=True)
class Portable:
    """A classifier without figment's own objects: ``head`` is on the tower's features, None where these are the logits.

    ``whole`` writes the encoder under a head, words and all, as a folder of its library's.
    """

    tower: Tower
    head: Head | None
    class_names: Sequence[str]
    whole: Callable[[Path], None] | None = None

    @property
    def library(self) -> str:
        """Whose network it is: transformers, open_clip, timm, or torch alone."""
        return self.tower.made_by["library"]

    def module(self) -> nn.Module:
        """Float (B, 3, S, S), normalised, to logits (B, N), in eval mode."""
        parts = [self.tower.module] if self.head is None else [self.tower.module, self.head]
        return nn.Sequential(*parts).eval()

    def tensors(self) -> dict[str, Tensor]:
        """All weights: ``network.*`` by the library's names, and ``head.weight`` (N, D) and ``head.bias`` (N,) where there is a head."""
        own = {f"network.{name}": value for name, value in self.tower.tensors.items()}
        if self.head is not None:
            own |= {f"head.{name}": value for name, value in self.head.linear.state_dict().items()}
        return {name: value.detach().cpu().contiguous() for name, value in own.items()}


class Saved(Protocol):
    """Opened again; nothing outside of ``learners`` need know which one it is."""

    @property
    def class_names(self) -> Sequence[str]: ...

    def logits(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """``float32 (n, N)`` of ``uint8 (H, W, 3)`` images of any sizes."""
        ...

    def elsewhere(self) -> Portable: ...


@dataclass(frozen=True)
class SavedHead:
    """A head and the encoder that it stands on."""

    encoder: ImageEncoder
    head: Head
    card: HeadCard

    @property
    def class_names(self) -> Sequence[str]:
        return self.card.class_names

    def logits(self, images: Sequence[np.ndarray]) -> np.ndarray:
        return self.head.predict(self.encoder.images(images))

    def elsewhere(self) -> Portable:
        whole = None if isinstance(self.encoder, TimmEncoder) else self.encoder.save
        return Portable(self.encoder.elsewhere(), self.head, self.class_names, whole)


@dataclass(frozen=True)
class SavedNetwork:
    """A network, or a backbone with its linear probe, ``weight`` (N, D) and ``bias`` (N,)."""

    model: NetworkModel
    probe: Mapping[str, Tensor] | None = None

    @property
    def class_names(self) -> Sequence[str]:
        return self.model.class_names

    def logits(self, images: Sequence[np.ndarray]) -> np.ndarray:
        out = self.model.logits(MemoryImages(images, np.zeros(len(images), np.int64)))
        if self.probe is None:
            return out
        return out @ self.probe["weight"].numpy().T + self.probe["bias"].numpy()

    def elsewhere(self) -> Portable:
        """The probe becomes the network's own classifier."""
        network, args = self.model.network, dict(self.model.network.args)
        module: Any = network.module
        if self.probe is not None:
            module = _with_classifier(copy.deepcopy(module), self.probe, network.architecture)
            args["num_classes"] = len(self.class_names)
        made_by = {
            "library": "torch" if network.architecture == SMALL_CNN else "timm",
            "architecture": network.architecture,
            "model_args": args,
            "data": dict(network.data),
        }
        return Portable(Tower(module, module.state_dict(), made_by, of_timm(network.data)), None, self.class_names)


def _with_classifier(module: Any, probe: Mapping[str, Tensor], name: str) -> nn.Module:
    module.reset_classifier(len(probe["bias"]))
    last = module.get_classifier()
    if not isinstance(last, nn.Linear) or last.weight.shape != probe["weight"].shape:
        raise FigmentError(
            f"The classifier of timm's {name} is more than a linear layer on its features, so the linear probe cannot take its place."
            " Use the backbone and its probe as they lie in the run's model/ (docs/pretrain.md)."
        )
    with torch.no_grad():
        last.weight.copy_(probe["weight"])
        last.bias.copy_(probe["bias"])
    return module.eval()


def open_saved(folder: Path, open_encoder: Callable[[str | None], ImageEncoder], device: torch.device) -> Saved:
    """What a learner of figment's saved in ``folder``.

    ``open_encoder`` is asked for the encoder in a folder, or (None) for the one that the head was trained on. Raises FigmentError
    where the folder holds nothing of the kind or a backbone that classifies nothing, or the encoder is another than the head was trained on.
    """
    if (folder / HEAD_FILES[0]).is_file():
        head, card = Head.load(folder)
        own = folder / ENCODER
        if card.encoder == str(own):  # it was trained too, and the run's record vouches for it
            return SavedHead(open_encoder(str(own)), head, card)
        encoder = open_encoder(None)
        if encoder.fingerprint != card.encoder_fingerprint:
            raise FigmentError(
                f"The head in {folder} was trained on the features of {card.encoder}, and {encoder.name} has other weights today, or other"
                " preparation. Bring back what lay there, or train again: figment run with the run's folder."
            )
        return SavedHead(encoder, head, card)
    if not (folder / "config.json").is_file():
        raise FigmentError(f"{folder} holds no model that figment wrote: neither {HEAD_FILES[0]} nor config.json.")
    model, has_probe = open_network(folder, str(device)), (folder / PROBE).is_file()
    if not has_probe and model.network.args.get("num_classes") == 0:
        raise FigmentError(UNLABELLED)
    return SavedNetwork(model, _read_probe(folder / PROBE) if has_probe else None)


def _read_probe(path: Path) -> dict[str, Tensor]:
    with legible(path):
        stored = read_bytes(path)
    try:
        probe = load(stored)
        return {name: probe[name] for name in ("weight", "bias")}
    except (KeyError, SafetensorError) as error:
        raise FigmentError(f"{path} holds no linear probe: {error}. Train it again.") from error

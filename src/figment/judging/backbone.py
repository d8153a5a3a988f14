"""The backbone that is judged: whatever it is called by, it turns images into features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from figment import records
from figment.encoders import PairEncoder, TimmEncoder, Towers, open_encoder
from figment.encoders.pair import has_text
from figment.encoders.timm import open_timm
from figment.errors import FigmentError
from figment.files import read_json
from figment.judging.pyramid import Pyramid
from figment.models import ModelFolder, resolve

LOCAL = "local-dir:"  # as timm calls a folder


class Backbone:
    """A `figment.types.Encoder` whose features are as the network gives them, not of unit length.

    Args:
        encoder: timm's or a CLIP's; a CLIP's features are those of its image tower, projected.
        reader: what sees images as texts are read, where ``encoder`` is timm's and has a text tower beside.
    """

    logit_scale = 1.0

    def __init__(self, encoder: TimmEncoder | Towers, name: str, reader: Towers | None = None):
        self.encoder, self.name = encoder, name
        self.reader = encoder if reader is None and not isinstance(encoder, TimmEncoder) else reader
        self.device, self.dtype, self.n_features = encoder.device, encoder.dtype, encoder.n_features
        self.fingerprint = records.fingerprint([encoder.fingerprint, "not normalised"])

    @torch.inference_mode()
    def images(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """``float32 (B, D)`` of ``uint8 (H, W, 3)`` images of any sizes. Raises FigmentError for features that are not finite."""
        own = self.encoder
        parts = [np.zeros((0, own.n_features), np.float32)]
        for start in range(0, len(images), own.batch_size):
            pixels = own.pixels(images[start : start + own.batch_size])
            parts.append(own.image_tower(pixels.to(own.device, own.dtype)).float().cpu().numpy())
        features = np.concatenate(parts)
        if not np.isfinite(features).all():
            raise FigmentError(
                f"{self.name} gives features that are NaN or infinite, computed in {str(self.dtype).removeprefix('torch.')}. Compute them in"
                " full precision, --dtype float32; where they are so still, its weights are damaged."
            )
        return features

    @property
    def reads(self) -> bool:
        """Whether it has a text tower beside."""
        return self.reader is not None

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """``float32 (N, D)``, L2-normalised. Raises FigmentError where it reads no words."""
        return self.words().texts(texts)

    def words(self) -> Towers:
        """What sees images and reads texts in one space, both of unit length. Raises FigmentError where it reads no words."""
        if self.reader is None:
            raise FigmentError(
                f"{self.name} sees images and reads no words, which this evaluation needs. Judge a CLIP: a folder or Hub id that"
                " transformers or open_clip opens, such as starter/clip, or a run that pre-trained by clip or stablerep_plus."
            )
        return self.reader

    def pyramid(self) -> Pyramid:
        """Its maps of features at four sizes, with weights of its own to be trained. Raises FigmentError where it has none."""
        if not isinstance(self.encoder, TimmEncoder):
            raise FigmentError(
                f"{self.name} is a CLIP, and maps of features are taken from networks of timm's alone. Judge its image tower in timm's"
                " format: timm has CLIP's ViTs and ResNets, such as timm/vit_base_patch16_clip_224.openai."
            )
        return Pyramid(self.encoder)


def open_backbone(
    name: str, weights: str | Path | None = None, device: str = "auto", dtype: str = "auto", batch_size: int = 128
) -> Backbone:
    """The backbone that is called so.

    Args:
        name: a run's folder or its ``model/``, any folder of timm's (``local-dir:`` in front or not) or of a CLIP, a Hub id; with
            ``weights`` an architecture of ``timm.list_models()``.
        weights: a ``.safetensors`` file, or one of ``torch.save`` that holds tensors and nothing else.

    Raises FigmentError for what is not there, and for weights that are not all its own.
    """
    if weights is not None:
        return Backbone(TimmEncoder(name, weights, device, dtype, batch_size), f"{name} with {weights}")
    place = _model_of(name.removeprefix(LOCAL))
    _needs_weights(place)
    folder = resolve(place)
    if "architecture" in _config(folder):
        reader = PairEncoder(folder, device, dtype, batch_size) if has_text(folder.path) else None
        own = open_timm(folder, device, dtype, batch_size) if reader is None else reader.prepared_by
        return Backbone(own, name, reader)
    return Backbone(cast(Towers, open_encoder(place, device, dtype, batch_size)), name)


def _model_of(place: str) -> str:
    """The model in a run's folder, or what else was named."""
    path = Path(place).expanduser()
    in_run = path / "model"
    return str(in_run) if (in_run / "config.json").is_file() and not (path / "config.json").is_file() else place


def _config(folder: ModelFolder) -> Mapping[str, Any]:
    path = folder.path / "config.json"
    return read_json(path) if path.is_file() else {}


def _needs_weights(name: str) -> None:
    import timm

    if "/" not in name and not Path(name).exists() and timm.is_model(name.partition(".")[0]):
        raise FigmentError(
            f"{name} is an architecture of timm's without weights. Give a file with some: figment judge {name.partition('.')[0]}"
            f" --weights FILE; or a folder that timm or figment wrote; or a Hub id such as timm/{name}."
        )

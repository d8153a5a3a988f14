"""A head on the features of an encoder, as a model: what every learner of this folder makes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from figment import records
from figment.encoders import Features, Towers
from figment.learners.clip_head.head import ENCODER, Head, HeadCard
from figment.types import Images

REMEMBERED_BYTES = 2**28  # of the features that models were asked about last


class UnitFeatures:
    """Features of unit length; those asked for last are remembered, since many models are asked about the same images."""

    def __init__(self, features: Features) -> None:
        self.features = features
        self._last: tuple[Images, Tensor] | None = None

    def __call__(self, images: Images) -> Tensor:
        """float32 (n, D)."""
        if self._last is None or self._last[0] is not images:
            unit = F.normalize(torch.tensor(self.features(images)), dim=-1)
            if unit.nbytes > REMEMBERED_BYTES:
                return unit
            self._last = images, unit
        return self._last[1]


@dataclass
class ClipHeadModel:
    """An encoder and a head on its features."""

    unit: UnitFeatures
    head: Head
    card: HeadCard
    history: list[dict[str, Any]] = field(default_factory=list)
    facts: Mapping[str, Any] = field(default_factory=dict)
    tuned_encoder: Towers | None = None  # where it is another than the one the learner was given
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        weights = [records.digest(p.detach().numpy().tobytes()) for p in self.head.parameters()]
        self.fingerprint = records.fingerprint([self.card.encoder_fingerprint, weights])

    @torch.inference_mode()
    def logits(self, images: Images) -> np.ndarray:
        """float32 (n, N)."""
        return self.head.linear(self.unit(images)).numpy()

    def save(self, folder: Path) -> None:
        """``head.safetensors`` and ``head.json``, and ``encoder/`` where the encoder was trained too."""
        if self.tuned_encoder is not None:
            self.tuned_encoder.save(folder / ENCODER)
        self.head.save(folder, self.card)

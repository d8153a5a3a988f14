"""The classifier: a linear layer on unit features, which the words of the classes can fill in without any training."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn import functional as F

from figment.encoders import class_prototypes
from figment.errors import FigmentError
from figment.files import load_json, read_bytes, write_atomic, write_json
from figment.types import Encoder

HEAD_FILES = ("head.json", "head.safetensors")
ENCODER = "encoder"  # the folder beside them with the encoder that was trained too; its card says so, wherever it lies
ROWS_AT_ONCE = 65_536  # in `predict`: bounds the memory of a large feature set


@dataclass(frozen=True)
class HeadCard:
    """What a saved head needs to be used again: the meaning of its outputs, and where its inputs come from."""

    class_names: tuple[str, ...]
    templates: tuple[str, ...]
    encoder: str  # name or path; on disk ENCODER for the one beside it
    encoder_fingerprint: str


class Head(nn.Module):
    """``logits = W @ (x / |x|) + b``, with a trainable bias.

    Features go in as they are: they are L2-normalised inside. A new head gives zero for everything; see `from_texts`.
    """

    def __init__(self, n_features: int, n_classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(n_features, n_classes)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    @classmethod
    def from_texts(cls, prototypes: np.ndarray, logit_scale: float) -> Head:
        """The zero-shot classifier (He et al. 2023, section 3.2): at the start, ``logits = logit_scale * cosine``.

        Args:
            prototypes: float (N, D), one for each class; normalised here.
            logit_scale: what cosines are multiplied by, as `Encoder.logit_scale` has it: the exponential of CLIP's
                parameter of that name, about 100.
        """
        unit = F.normalize(torch.tensor(np.asarray(prototypes, dtype=np.float32)), dim=-1)  # (N, D)
        head = cls(n_features=unit.shape[1], n_classes=unit.shape[0])
        with torch.no_grad():
            head.linear.weight.copy_(logit_scale * unit)
        return head

    def shifted(self, bias: np.ndarray) -> Head:
        """A copy with ``bias`` float (N,) added to its own."""
        head = copy.deepcopy(self)
        with torch.no_grad():
            head.linear.bias.add_(torch.as_tensor(bias, dtype=torch.float32, device=head.linear.bias.device))
        return head

    def forward(self, features: Tensor) -> Tensor:
        """float (B, D) of any length to logits, float (B, N)."""
        return self.linear(F.normalize(features, dim=-1))

    @torch.inference_mode()
    def predict(self, features: np.ndarray) -> np.ndarray:
        """Logits, float32 (n, N), of features float (n, D). Raises FigmentError for another D."""
        if features.ndim != 2 or features.shape[1] != self.linear.in_features:
            raise FigmentError(
                f"The classifier takes features of shape (n, {self.linear.in_features}), not {features.shape}. "
                "Encode the images with the encoder the classifier was made with."
            )
        logits = np.empty((len(features), self.linear.out_features), dtype=np.float32)
        for start in range(0, len(features), ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            batch = torch.tensor(np.asarray(features[rows], dtype=np.float32), device=self.linear.weight.device)
            logits[rows] = self(batch).cpu().numpy()
        return logits

    def save(self, folder: Path, card: HeadCard) -> None:
        """Write ``head.safetensors`` and ``head.json`` into ``folder``, which is made where it is missing."""
        write_atomic(folder / "head.safetensors", save(self.state_dict()))
        write_json(folder / "head.json", asdict(card))

    @classmethod
    def load(cls, folder: Path) -> tuple[Head, HeadCard]:
        """The head and the card that `save` wrote. Raises FigmentError where one is missing, broken or of another."""
        try:
            about: dict[str, Any] = load_json(folder / "head.json", "model configuration")
            if about["encoder"] == ENCODER:
                about["encoder"] = str(folder / ENCODER)
            card = HeadCard(**about | {key: tuple(about[key]) for key in ("class_names", "templates")})
            state = load(read_bytes(folder / "head.safetensors"))
            head = cls(n_features=state["linear.weight"].shape[1], n_classes=len(card.class_names))
            head.load_state_dict(state)
        except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
            raise FigmentError(
                f"There is no classifier to be read in {str(folder)!r}: it needs a head.safetensors and a head.json "
                f"that were saved together ({error}). Copy the folder again, or tune the classifier anew."
            ) from error
        return head, card


def zero_shot_head(encoder: Encoder, class_names: Sequence[str], templates: Sequence[str]) -> Head:
    """The classifier that needs no images: CLIP's own zero-shot classifier, and where every tuning starts."""
    return Head.from_texts(class_prototypes(encoder, class_names, templates), encoder.logit_scale)

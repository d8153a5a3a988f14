"""FID's own network: the Inception of 2015, as ``torch-fidelity`` has it, with its exact resize and weights."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch

from figment import weights
from figment.device import choose_device, put
from figment.encoders.towers import MEND
from figment.errors import FigmentError, missing_extra
from figment.memory import enough_memory, in_portions

NAME = "inception"
FILE = "weights-inception-2015-12-05-6726825d.pth"
URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{FILE}"
SHA256 = "6726825d"  # how it begins, which is in the file's name
N_FEATURES = 2048  # what FID and KID are of; the rest of a row are logits
LAYERS = ("2048", "logits_unbiased")  # both in one pass; the Inception score's logits are without bias


def weights_file() -> Path:
    """Where torch-fidelity keeps the weights: below ``TORCH_HOME``.

    Raises FigmentError where they or torch-fidelity are not there, with the command to get them, and where the weights are others.
    """
    if find_spec("torch_fidelity") is None:
        raise missing_extra("torch-fidelity", "fid")
    path = Path(torch.hub.get_dir()) / "checkpoints" / FILE
    if not path.is_file():
        raise FigmentError(
            f"FID, KID and the Inception score are of one certain network, and its weights are not here: {path}. Fetch them (95 MB):"
            f" mkdir -p {path.parent} && curl -L -o {path} {URL}. Or measure in another encoder's features, which compares as"
            " well: evaluate.measures: [frechet, cmmd, coverage]."
        )
    if not _digest(path).startswith(SHA256):
        raise FigmentError(
            f"The Inception weights {path} are not the published ones: their SHA-256 begins with {_digest(path)[:8]}, and should with"
            f" {SHA256}. Remove the file and fetch it again from {URL}."
        )
    return path


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class InceptionEncoder:
    """Images to ``(B, 2048 + 1008)``: pooled features, then logits. Not of unit length: FID is defined on them as they are.

    Images of any size are resized to 299 x 299 as TensorFlow 1 did (bilinear, no antialiasing), in float32. Raises FigmentError where
    torch-fidelity or the weights are not there, or where the weights are others: their numbers would be nobody's FID.
    """

    logit_scale = 1.0
    name = NAME
    resize = "299 bilinear, as TensorFlow 1 (torch-fidelity)"
    dtype = torch.float32  # as torch-fidelity's default: half precision moves FID

    def __init__(self, device: str = "auto", batch_size: int = 64):
        path = weights_file()
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        safe = io.BytesIO()  # torch-fidelity would run code that a pickle holds
        torch.save(weights.tensors(path, "FID's Inception network"), safe)
        safe.seek(0)
        self.device, self.batch_size = choose_device(device), batch_size
        network: Any = FeatureExtractorInceptionV3(NAME, list(LAYERS), feature_extractor_weights_path=safe)
        self.network = put(network, self.device, "FID's Inception network")
        self.fingerprint = _digest(path)[:16]

    @torch.inference_mode()
    def images(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """``float32 (B, 3056)`` of ``uint8 (H, W, 3)`` images of any sizes. Raises FigmentError where one alone does not fit into memory."""
        parts: list[np.ndarray] = []
        with enough_memory(f"FID's Inception network looked at an image alone, on {self.device}", MEND):
            for _, alike in groupby(images, lambda image: image.shape):  # they are next to one another in most sets
                parts += self._alike(list(alike))
        return np.concatenate(parts)

    def _alike(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """``float32 (b, 3056)`` each, of images of one size."""

        def some(start: int, end: int) -> np.ndarray:
            batch = torch.from_numpy(np.stack(images[start:end])).permute(0, 3, 1, 2).to(self.device)  # (b, 3, H, W)
            return torch.cat(self.network(batch), dim=1).cpu().numpy()

        parts, self.batch_size = in_portions(some, len(images), self.batch_size, self.device)
        return parts

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Raises FigmentError: there is no text tower."""
        raise FigmentError(
            "FID's Inception network reads no words: it is there to measure with. Set encoder to a CLIP."
        )

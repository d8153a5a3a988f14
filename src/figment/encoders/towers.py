"""What the encoders have in common: two towers, run batch by batch."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from figment.encoders.elsewhere import Tower
from figment.errors import FigmentError
from figment.files import write_atomic
from figment.memory import enough_memory, in_portions
from figment.models import ModelFolder

#: Where not even one image fits.
MEND = "Choose a smaller encoder, run it on another device, or end what else uses that memory."
T = TypeVar("T")
VOCABULARIES = (
    "tokenizer.json",
    "vocab.json",
    "vocab.txt",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
)


class ImageTower(Protocol):
    """The half of an encoder that sees images: see `Towers`."""

    name: str
    device: torch.device
    dtype: torch.dtype
    batch_size: int
    n_features: int
    image_tower: torch.nn.Module

    def pixels(self, images: Sequence[np.ndarray]) -> Tensor: ...


class Towers(Protocol):
    """An encoder whose weights can be seen and changed: what tuning, CoOp and BatchNorm studies work on.

    ``copy.deepcopy`` of one is independent of it. Whoever changes the weights gives ``fingerprint`` a new value.
    """

    name: str
    fingerprint: str
    device: torch.device
    dtype: torch.dtype  # what ``image_tower`` takes
    resize: str  # how images are brought to the tower's size, in words
    logit_scale: float
    batch_size: int
    n_features: int  # D
    image_tower: torch.nn.Module  # float (B, 3, S, S) -> (B, D), not normalised; parameters() go from input to output
    text_tower: torch.nn.Module  # tokens -> (N, D), not normalised
    token_embedding: torch.nn.Embedding

    def pixels(self, images: Sequence[np.ndarray]) -> Tensor:
        """``uint8 (H, W, 3)`` images of any sizes, resized, cropped and normalised: float32 (B, 3, S, S) on the CPU."""
        ...

    def tokens(self, texts: Sequence[str]) -> Tensor:
        """``int64 (N, L)`` on the device, cut at the longest text that the model reads."""
        ...

    def count_cut(self, texts: Sequence[str]) -> int:
        """How many of the texts are not read to the end."""
        ...

    def images(self, images: Sequence[np.ndarray]) -> np.ndarray: ...

    def texts(self, texts: Sequence[str]) -> np.ndarray: ...

    def elsewhere(self) -> Tower:
        """Its image tower as other programs make it again."""
        ...

    def save(self, folder: Path) -> None:
        """As a folder that `open_encoder` opens again, in float32 or whatever the weights are in now."""
        ...


def needs_tokenizer(folder: ModelFolder) -> None:
    """Raise FigmentError where a folder has no vocabulary: transformers would make a tokenizer up that knows no word."""
    if not any((folder.path / name).is_file() for name in VOCABULARIES):
        raise FigmentError(
            f"The model {folder.name} has no tokenizer beside its weights ({', '.join(VOCABULARIES)} are all missing)."
            " Copy its tokenizer's files into the folder, or fetch the model again."
        )


def tokens_of(tokenizer: Any, texts: Sequence[str], most: int) -> Tensor:
    """``int64 (N, L)`` of transformers' tokenizer, padded to the longest text and cut at ``most``."""
    words = tokenizer(list(texts), padding=True, truncation=True, max_length=most, return_tensors="pt")
    return words.input_ids  # type: ignore[no-any-return]


def cut_by(tokenizer: Any, texts: Sequence[str], most: int) -> int:
    """How many texts are longer than ``most`` tokens."""
    return sum(len(ids) > most for ids in tokenizer(list(texts), verbose=False).input_ids) if texts else 0


def raw(encoder: T) -> T:
    """The same encoder, whose image features come as its network gives them and not of unit length. `Features` keeps them apart."""
    own: Any = copy(encoder)  # of the same weights
    own.unit = False
    return own


def is_raw(encoder: object) -> bool:
    """Whether its image features are not of unit length."""
    return not getattr(encoder, "unit", True)


def image_features(encoder: ImageTower, images: Sequence[np.ndarray]) -> np.ndarray:
    """``float32 (B, D)``, L2-normalised unless the encoder is `raw`. Raises FigmentError where a single one does not fit into memory."""
    return _tower_features(encoder, images, encoder.pixels)


def prepared_features(encoder: ImageTower, images: Sequence[np.ndarray]) -> np.ndarray:
    """The same of images that ``encoder.pixels`` has prepared, ``float32 (3, S, S)`` each."""
    return _tower_features(encoder, images, lambda part: torch.from_numpy(np.stack(part)))


def _tower_features(
    encoder: ImageTower, images: Sequence[np.ndarray], pixels: Callable[[Sequence[np.ndarray]], Tensor]
) -> np.ndarray:
    def some(start: int, end: int) -> Any:
        return encoder.image_tower(pixels(images[start:end]).to(encoder.device, encoder.dtype))

    return _features(encoder, some, len(images), "an image", _as_given if is_raw(encoder) else _unit)


def text_features(encoder: Towers, texts: Sequence[str]) -> np.ndarray:
    """``float32 (N, D)``, L2-normalised. Raises FigmentError where a single one does not fit into memory."""
    return _features(
        encoder, lambda start, end: encoder.text_tower(encoder.tokens(texts[start:end])), len(texts), "a text", _unit
    )


@torch.inference_mode()
def _features(
    encoder: ImageTower, some: Callable[[int, int], Any], n: int, one: str, told: Callable[[Any], np.ndarray]
) -> np.ndarray:
    """``float32 (n, D)``, in batches that fit: the encoder remembers how many do."""
    none = np.zeros((0, encoder.n_features), np.float32)
    precision = str(encoder.dtype).removeprefix("torch.")
    with enough_memory(f"the encoder {encoder.name} looked at {one} alone, in {precision} on {encoder.device}", MEND):
        parts, encoder.batch_size = in_portions(
            lambda start, end: told(some(start, end)), n, encoder.batch_size, encoder.device
        )
    return np.concatenate([none, *parts])


def _unit(x: Any) -> np.ndarray:
    return F.normalize(x.float(), dim=-1).cpu().numpy()


def _as_given(x: Any) -> np.ndarray:
    return x.float().cpu().numpy()


@contextmanager
def written_into(folder: Path) -> Iterator[Path]:
    """A temporary folder whose files go to ``folder``, local or remote, each of them whole or not at all."""
    with tempfile.TemporaryDirectory() as temporary:
        yield Path(temporary)
        for file in sorted(Path(temporary).iterdir()):
            write_atomic(folder / file.name, file.read_bytes())

"""An image network of timm's and a text tower of transformers', which pre-training has brought to one space.

What `clip` and `stablerep_plus` save: the folder of timm's as of any backbone, and in it ``text/``, which
``CLIPTextModelWithProjection`` and ``AutoTokenizer`` open, with the image's own projection beside.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from figment import weights
from figment.device import put
from figment.encoders.clip import no_bars
from figment.encoders.elsewhere import Tower
from figment.encoders.timm import open_timm
from figment.encoders.towers import cut_by, image_features, needs_tokenizer, text_features, tokens_of, written_into
from figment.errors import FigmentError
from figment.files import read_json, write_json
from figment.models import ModelFolder, resolve

TEXT = "text"
PROJECTION = "image_projection.safetensors"  # weight (D, backbone's features), logit_scale () as a logarithm


def has_text(folder: Path) -> bool:
    """Whether a folder of timm's has a text tower beside."""
    return (folder / TEXT / PROJECTION).is_file()


def write_text(folder: Path, text: Any, tokenizer: Any, projection: Tensor, logit_scale: Tensor) -> None:
    """Write ``text/`` into a folder of timm's: a ``CLIPTextModelWithProjection``, its tokenizer, and what brings images to its space."""
    with written_into(folder / TEXT) as here, no_bars():
        text.save_pretrained(here)
        tokenizer.save_pretrained(here)
        own = {"weight": projection, "logit_scale": logit_scale}
        save_file({name: value.detach().cpu().contiguous() for name, value in own.items()}, here / PROJECTION)


class PairEncoder:
    """The folder of a run that pre-trained by ``clip`` or ``stablerep_plus``, or a Hub id of such. See `Towers` for its parts.

    Raises FigmentError where a part is not there, or is not all there.
    """

    def __init__(self, model: str | ModelFolder, device: str = "auto", dtype: str = "auto", batch_size: int = 128):
        from transformers import AutoTokenizer, CLIPTextModelWithProjection

        folder = model if isinstance(model, ModelFolder) else resolve(model)
        of_images = open_timm(folder, device, dtype, batch_size)
        self.name, self.fingerprint, self.batch_size = folder.name, folder.fingerprint, batch_size
        self.device, self.dtype, self.resize = of_images.device, of_images.dtype, of_images.resize
        self.config = read_json(folder.path / "config.json")
        own, what = folder.path / TEXT, f"The text tower of {folder.name}"
        needs_tokenizer(ModelFolder(own, folder.name, folder.fingerprint))
        beside = weights.tensors(own / PROJECTION, f"The projection of {folder.name}")
        try:
            text = weights.load(CLIPTextModelWithProjection, own, what, dtype=self.dtype)
            self.tokenizer = AutoTokenizer.from_pretrained(own, local_files_only=True)
            n_features, n_seen = beside["weight"].shape
            projection = nn.Linear(n_seen, n_features, bias=False)
            projection.load_state_dict({"weight": beside["weight"]})
            self.log_scale = beside["logit_scale"]
        except FigmentError:
            raise
        except Exception as error:  # damaged or missing files: each library below has its own errors
            raise FigmentError(
                f"{what} cannot be opened: {' '.join(str(error).split())[:300]}. {own} must hold config.json, model.safetensors,"
                f" {PROJECTION} and the tokenizer's files, as figment wrote them: train again, or leave {TEXT}/ out to use the images'"
                " side alone."
            ) from error
        self.logit_scale, self.n_features = float(self.log_scale.exp()), projection.out_features
        self.prepared_by = of_images
        self.image_tower: nn.Module = _ImageTower(
            of_images.image_tower, put(projection.to(self.dtype), self.device, what)
        ).eval()
        self.text_tower: nn.Module = _TextTower(put(text, self.device, what), int(text.config.eos_token_id)).eval()
        self.token_embedding: nn.Embedding = text.text_model.embeddings.token_embedding

    def images(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """``float32 (B, D)``, L2-normalised, of ``uint8 (H, W, 3)`` images of any sizes."""
        return image_features(self, images)

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """``float32 (N, D)``, L2-normalised. Texts are cut at the tower's length."""
        return text_features(self, texts)

    def pixels(self, images: Sequence[np.ndarray]) -> Tensor:
        """``uint8 (H, W, 3)`` images of any sizes, resized, cropped and normalised: float32 (B, 3, S, S) on the CPU."""
        return self.prepared_by.pixels(images)

    def tokens(self, texts: Sequence[str]) -> Tensor:
        """``int64 (N, L)`` on the device. The text tower is causal and reads up to the end token: it needs no mask of what pads."""
        return tokens_of(self.tokenizer, texts, self._most_tokens).to(self.device)

    @property
    def _most_tokens(self) -> int:
        return self.text_tower.model.config.max_position_embeddings  # type: ignore[union-attr, return-value]

    def count_cut(self, texts: Sequence[str]) -> int:
        """How many of the texts :meth:`texts` does not read to the end."""
        return cut_by(self.tokenizer, texts, self._most_tokens)

    def elsewhere(self) -> Tower:
        """Raises FigmentError: no library has such a pair as one network."""
        raise FigmentError(
            f"{self.name} is a network of timm's with a projection behind it, which no other library opens as one. Train on its images'"
            f" side alone, encoder: {{timm: {self.name}}}, and export that."
        )

    def save(self, folder: Path) -> None:
        """As a folder that timm (``local-dir:``) and `open_encoder` open."""
        with written_into(folder) as here:
            state = self.image_tower.network.state_dict()  # type: ignore[union-attr, operator]
            state = {name: value.cpu().contiguous() for name, value in state.items()}
            save_file(state, here / "model.safetensors", metadata={"format": "pt"})
            write_json(here / "config.json", self.config)
        projection = self.image_tower.projection.weight  # type: ignore[union-attr]
        write_text(folder, self.text_tower.model, self.tokenizer, projection, self.log_scale)  # type: ignore[arg-type]


class _ImageTower(nn.Module):
    """Pixels (B, 3, S, S) to (B, D), not normalised."""

    def __init__(self, network: nn.Module, projection: nn.Module):
        super().__init__()
        self.network, self.projection = network, projection

    def forward(self, pixels: Tensor) -> Tensor:
        return self.projection(self.network(pixels))


class _TextTower(nn.Module):
    """Tokens (B, L) to (B, D), not normalised: what stands at the first end token, whichever number that has.

    transformers itself takes an end token with the number 2 for a mistake of old configurations, and reads elsewhere.
    """

    def __init__(self, model: Any, end: int):
        super().__init__()
        self.model, self.end = model, end

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.model.text_model(tokens).last_hidden_state  # (B, L, width)
        end = (tokens == self.end).int().argmax(1)
        return self.model.text_projection(x[torch.arange(len(x), device=x.device), end])

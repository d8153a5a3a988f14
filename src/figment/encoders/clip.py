"""CLIP, by ``transformers``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import PIL.Image
from torch import Tensor, nn

from figment import weights
from figment.device import choose_device, encoder_dtype, put
from figment.encoders.elsewhere import Tower, of_transformers
from figment.encoders.towers import cut_by, image_features, needs_tokenizer, text_features, tokens_of, written_into
from figment.errors import FigmentError
from figment.models import ModelFolder, model_type, resolve


class ClipEncoder:
    """A CLIP from ``transformers``: a folder, a Hub id, or ``starter/clip``. See `Towers` for its parts.

    ``device`` and ``dtype`` are "auto" or torch's names; features come back as float32 whatever is computed in.
    Raises FigmentError where the model cannot be had or is not a CLIP.
    """

    def __init__(
        self,
        model: str | ModelFolder = "starter/clip",
        device: str = "auto",
        dtype: str = "auto",
        batch_size: int = 128,
        allow_pickle: bool = False,
    ):
        from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

        folder = model if isinstance(model, ModelFolder) else resolve(model, allow_pickle=allow_pickle)
        self.name, self.fingerprint, self.batch_size = folder.name, folder.fingerprint, batch_size
        kind = model_type(folder.path)
        if kind != "clip":
            raise FigmentError(
                f"{folder.name} is a {kind or 'model of no known type'}, not a CLIP. Name a folder or Hub id whose config.json"
                " says model_type: clip, or one with an open_clip_config.json."
            )
        needs_tokenizer(folder)
        self.device = choose_device(device)
        self.dtype = encoder_dtype(dtype, self.device)
        try:
            what = f"The model {folder.name}"
            clip = weights.load(CLIPModel, folder.path, what, allow_pickle=allow_pickle, dtype=self.dtype)
            self.tokenizer = AutoTokenizer.from_pretrained(folder.path, local_files_only=True)
            self.processor = AutoImageProcessor.from_pretrained(folder.path, local_files_only=True)
        except FigmentError:
            raise
        except Exception as error:  # damaged or missing files: each library below has its own errors
            raise FigmentError(
                f"The model {folder.name} cannot be opened by transformers: {' '.join(str(error).split())[:300]}. Its folder"
                " must hold config.json, model.safetensors, preprocessor_config.json and the tokenizer's files, all of one"
                " model: fetch it again, or run the recipe that made it again."
            ) from error
        size = "x".join(str(side) for side in dict(self.processor.size).values() if side)
        self.resize = f"{size} {PIL.Image.Resampling(self.processor.resample).name.lower()} (transformers)"
        self.model = put(clip, self.device, what).eval()
        self.logit_scale = float(self.model.logit_scale.detach().exp())
        self.n_features = int(self.model.config.projection_dim)
        self.image_tower: nn.Module = _Tower(self.model.vision_model, self.model.visual_projection)
        self.text_tower: nn.Module = _Tower(self.model.text_model, self.model.text_projection)
        self.token_embedding: nn.Embedding = self.model.text_model.embeddings.token_embedding

    def images(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """``float32 (B, D)``, L2-normalised, of ``uint8 (H, W, 3)`` images of any sizes."""
        return image_features(self, images)

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """``float32 (N, D)``, L2-normalised. Texts are cut at the tokenizer's length."""
        return text_features(self, texts)

    def pixels(self, images: Sequence[np.ndarray]) -> Tensor:
        """``uint8 (H, W, 3)`` images of any sizes, resized, cropped and normalised: float32 (B, 3, S, S) on the CPU."""
        whole = [np.ascontiguousarray(i) for i in images]
        return self.processor(images=whole, return_tensors="pt", input_data_format="channels_last")["pixel_values"]

    def tokens(self, texts: Sequence[str]) -> Tensor:
        """``int64 (N, L)`` on the device. The text tower is causal and reads up to the end token: it needs no mask of what pads."""
        return tokens_of(self.tokenizer, texts, self._most_tokens).to(self.device)

    @property
    def _most_tokens(self) -> int:
        return self.model.config.text_config.max_position_embeddings

    def count_cut(self, texts: Sequence[str]) -> int:
        """How many of the texts :meth:`texts` does not read to the end."""
        return cut_by(self.tokenizer, texts, self._most_tokens)

    def elsewhere(self) -> Tower:
        """Its image tower as ``CLIPVisionModelWithProjection`` has it."""
        own = ("vision_model.", "visual_projection.")
        tensors = {name: value for name, value in self.model.state_dict().items() if name.startswith(own)}
        config = {**self.model.config.vision_config.to_dict(), "projection_dim": self.n_features}
        made_by = {"library": "transformers", "config": config, "processor": self.processor.to_dict()}
        return Tower(self.image_tower, tensors, made_by, of_transformers(self.processor))

    def save(self, folder: Path) -> None:
        """As a folder that ``transformers`` and `open_encoder` open."""
        with written_into(folder) as here, no_bars():
            for part in (self.model, self.tokenizer, self.processor):
                part.save_pretrained(here)


class _Tower(nn.Module):
    """One side of a CLIPModel and its projection, which stay parts of it."""

    def __init__(self, model: nn.Module, projection: nn.Module):
        super().__init__()
        self.model, self.projection = model, projection

    def forward(self, x: Tensor) -> Tensor:
        """Pixels (B, 3, S, S) or tokens (B, L) to features (B, D), not normalised."""
        return self.projection(self.model(x).pooler_output)


@contextmanager
def no_bars() -> Iterator[None]:
    """Loading and saving take a second; a bar would stand in the middle of the run's own lines."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()

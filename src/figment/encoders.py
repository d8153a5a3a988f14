"""Images and texts to features, behind one protocol; features of pictures are computed once and kept by content."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from figment import files, store
from figment.errors import FigmentError
from figment.models import resolve
from figment.progress import progress
from figment.types import Encoder, Pictures


class ClipEncoder:
    """A CLIP from ``transformers``: a folder, a Hub id, or ``starter/clip``.

    ``device`` and ``dtype`` are "auto" or torch's names; features come back as float32 whatever is computed in.
    Raises FigmentError where the model cannot be had or is not a CLIP.
    """

    def __init__(
        self,
        model: str = "starter/clip",
        device: str = "auto",
        dtype: str = "auto",
        batch_size: int = 128,
        allow_pickle: bool = False,
    ):
        from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

        folder = resolve(model, allow_pickle=allow_pickle)
        self.name, self.fingerprint, self.batch_size = folder.name, folder.fingerprint, batch_size
        kind = _model_type(folder.path)
        if kind != "clip":
            raise FigmentError(
                f"{model} is a {kind or 'model of no known type'}, not a CLIP. Name a folder or Hub id whose config.json says model_type: clip."
            )
        self.device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
        # Half precision is kept for the GPU: on a CPU it changes verdicts near a threshold and saves little here.
        chosen = ("float16" if self.device.type == "cuda" else "float32") if dtype == "auto" else dtype
        with _no_bars():
            clip = CLIPModel.from_pretrained(folder.path, dtype=getattr(torch, chosen), local_files_only=True)
        self.model = cast(Any, clip).to(self.device).eval()  # transformers' annotations hide Module.to
        self.tokenizer = AutoTokenizer.from_pretrained(folder.path, local_files_only=True)
        self.processor = AutoImageProcessor.from_pretrained(folder.path, local_files_only=True)
        self.logit_scale = float(self.model.logit_scale.detach().exp())

    @torch.inference_mode()
    def images(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """``float32 (B, D)``, L2-normalised, of ``uint8 (H, W, 3)`` images of any sizes."""
        parts = []
        for start in range(0, len(images), self.batch_size):
            chunk = [np.ascontiguousarray(i) for i in images[start : start + self.batch_size]]
            pixels = self.processor(images=chunk, return_tensors="pt", input_data_format="channels_last")[
                "pixel_values"
            ]
            output = self.model.vision_model(pixel_values=pixels.to(self.device, self.model.dtype))
            parts.append(_unit(self.model.visual_projection(output.pooler_output)))
        return np.concatenate(parts) if parts else np.zeros((0, self.model.config.projection_dim), np.float32)

    @torch.inference_mode()
    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """``float32 (N, D)``, L2-normalised. Texts are cut at the tokenizer's length."""
        parts = []
        for start in range(0, len(texts), self.batch_size):
            chunk = list(texts[start : start + self.batch_size])
            length = self.model.config.text_config.max_position_embeddings
            tokens = self.tokenizer(chunk, padding=True, truncation=True, max_length=length, return_tensors="pt").to(
                self.device
            )
            output = self.model.text_model(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask)
            parts.append(_unit(self.model.text_projection(output.pooler_output)))
        return np.concatenate(parts)


@contextmanager
def _no_bars() -> Iterator[None]:
    """Loading takes a second; its bar would stand in the middle of the run's own lines."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _unit(x: torch.Tensor) -> np.ndarray:
    return torch.nn.functional.normalize(x.float(), dim=-1).cpu().numpy()


def _model_type(folder: Path) -> str:
    config = folder / "config.json"
    return json.loads(config.read_text(encoding="utf-8")).get("model_type", "") if config.is_file() else ""


def class_prototypes(encoder: Encoder, class_names: Sequence[str], templates: Sequence[str]) -> np.ndarray:
    """One unit text feature a class, ``float32 (N, D)``: each template encoded and normalised, their mean normalised again."""
    texts = [template.replace("{}", name) for name in class_names for template in templates]
    features = encoder.texts(texts).reshape(len(class_names), len(templates), -1).mean(1)  # (N, D)
    return features / np.linalg.norm(features, axis=1, keepdims=True)


class Features:
    """An encoder that remembers: each picture is encoded once, by the hash of its bytes.

    With a ``folder`` the features also survive the process, in ``<folder>/<name>-<fingerprint>/*.parquet``. Another
    encoder, other weights or other preprocessing is another folder, so stale features cannot be met.
    """

    def __init__(self, encoder: Encoder, folder: Path | None = None, chunk: int = 1024):
        self.encoder, self.chunk = encoder, chunk
        self.folder = (
            None
            if folder is None
            else folder / f"{_slug(getattr(encoder, 'name', 'encoder'))}-{encoder.fingerprint[:12]}"
        )
        self._known: dict[str, np.ndarray] = {}
        for path in sorted(self.folder.glob("*.parquet")) if self.folder else []:
            self._remember(files.open_parquet(path).read())

    def __call__(self, pictures: Pictures, description: str = "encode") -> np.ndarray:
        """``float32 (N, D)``, in the order of ``pictures``."""
        digests = pictures.digests
        new = [i for i, d in enumerate(digests) if d not in self._known]
        if new:
            with progress(description, len(new)) as advance:
                for start in range(0, len(new), self.chunk):
                    index = new[start : start + self.chunk]
                    self._add([digests[i] for i in index], self.encoder.images(pictures.load(index)))
                    advance(len(index))
        if not digests:
            return np.zeros((0, 1), np.float32)
        return np.stack([self._known[d] for d in digests])

    def _add(self, digests: list[str], features: np.ndarray) -> None:
        values = pa.FixedSizeListArray.from_arrays(pa.array(features.ravel(), pa.float32()), features.shape[1])
        table = pa.table({"digest": digests, "feature": values})
        self._remember(table)
        if self.folder is not None:
            sink = pa.BufferOutputStream()
            pq.write_table(table, sink, compression="zstd")
            files.write_atomic(self.folder / f"{store.fingerprint(digests)}.parquet", sink.getvalue().to_pybytes())

    def _remember(self, table: pa.Table) -> None:
        column = table["feature"].combine_chunks()
        values = column.flatten().to_numpy().reshape(len(table), -1)
        self._known.update(zip(table["digest"].to_pylist(), values, strict=True))


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name.lower()).strip("-")[-60:] or "encoder"

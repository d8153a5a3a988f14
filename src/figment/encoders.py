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
from figment.pictures import Unreadable
from figment.progress import progress
from figment.types import Encoder, Pictures

PORTION_BYTES = 2**28  # of decoded pictures at a time: a thousand photographs of 12 megapixels would be 36 GB


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
            tokens = self.tokenizer(
                chunk, padding=True, truncation=True, max_length=self._most_tokens, return_tensors="pt"
            ).to(self.device)
            output = self.model.text_model(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask)
            parts.append(_unit(self.model.text_projection(output.pooler_output)))
        return np.concatenate(parts)

    @property
    def _most_tokens(self) -> int:
        return self.model.config.text_config.max_position_embeddings

    def count_cut(self, texts: Sequence[str]) -> int:
        """How many of the texts :meth:`texts` does not read to the end."""
        return sum(len(ids) > self._most_tokens for ids in self.tokenizer(list(texts), verbose=False).input_ids)


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
            self._remember(store.read_shard(path))

    def __call__(self, pictures: Pictures, description: str = "encode") -> np.ndarray:
        """``float32 (N, D)``, in the order of ``pictures``. Raises :class:`figment.pictures.Unreadable` where one cannot be read."""
        for error in self._encode(pictures, description).values():
            raise error
        if not len(pictures):
            return np.zeros((0, 1), np.float32)
        return np.stack([self._known[d] for d in pictures.digests])

    def readable(self, pictures: Pictures, description: str = "encode") -> tuple[Pictures, dict[str, str]]:
        """The pictures that can be read, which are encoded then, and of the others id -> reason."""
        failed = self._encode(pictures, description)
        if not failed:
            return pictures, {}
        good = [i for i in range(len(pictures)) if i not in failed]
        return pictures.take(good), {pictures.ids[i]: error.reason for i, error in failed.items()}

    def _encode(self, pictures: Pictures, description: str) -> dict[int, Unreadable]:
        """Encode those that are not known yet, each decoded once. Returns position -> error of those that cannot be read."""
        digests = pictures.digests
        new = [i for i, d in enumerate(digests) if d not in self._known]
        failed: dict[int, Unreadable] = {}
        if new:
            with progress(description, len(new)) as advance:
                for index, images in _loaded(pictures, new, self.chunk, failed):
                    self._add([digests[i] for i in index], self.encoder.images(images))
                    advance(len(index))
        return failed

    def _add(self, digests: list[str], features: np.ndarray) -> None:
        values = pa.FixedSizeListArray.from_arrays(pa.array(features.ravel(), pa.float32()), features.shape[1])
        table = pa.table({"digest": digests, "feature": values})
        self._remember(table)
        if self.folder is not None:
            sink = pa.BufferOutputStream()
            pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
            files.write_atomic(self.folder / f"{store.fingerprint(digests)}.parquet", sink.getvalue().to_pybytes())

    def _remember(self, table: pa.Table) -> None:
        column = table["feature"].combine_chunks()
        values = column.flatten().to_numpy().reshape(len(table), -1)
        self._known.update(zip(table["digest"].to_pylist(), values, strict=True))


def _loaded(
    pictures: Pictures, wanted: Sequence[int], most: int, failed: dict[int, Unreadable]
) -> Iterator[tuple[list[int], list[np.ndarray]]]:
    """Positions and pixels in portions of ``most`` pictures or about ``PORTION_BYTES``; what cannot be read goes to ``failed``."""
    index, images, size = [], [], 0
    for i in wanted:
        try:
            (image,) = pictures.load([i])
            if not pictures.digests[i]:
                raise Unreadable(pictures.ids[i], "it came while the others were being read")
        except Unreadable as error:
            failed[i] = error
            continue
        index.append(i)
        images.append(image)
        size += image.nbytes
        if len(index) == most or size > PORTION_BYTES:
            yield index, images
            index, images, size = [], [], 0
    if index:
        yield index, images


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name.lower()).strip("-")[-60:] or "encoder"

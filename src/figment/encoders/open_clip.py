"""CLIPs of the ``open_clip`` library: among them the ones with a ResNet, whose BatchNorm transformers' CLIP has not."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from figment import weights
from figment.device import choose_device, encoder_dtype, put
from figment.encoders.elsewhere import Tower, of_open_clip
from figment.encoders.towers import image_features, needs_tokenizer, text_features, written_into
from figment.errors import FigmentError, missing_extra
from figment.files import load_json
from figment.models import OPEN_CLIP_CONFIG, OPEN_CLIP_WEIGHTS, ModelFolder, resolve


class OpenClipEncoder:
    """A model in the layout of the Hub's open_clip models, such as ``timm/resnet50_clip.openai``. See `Towers` for its parts.

    The folder holds ``open_clip_config.json``, ``open_clip_model.safetensors``, and the tokenizer's files where the
    configuration names a tokenizer. Images are prepared as open_clip's own transform for inference does it.
    ``device`` and ``dtype`` are "auto" or torch's names; BatchNorm stays in float32, where its statistics belong.
    Raises FigmentError where the model cannot be had, or needs more than its folder.
    """

    def __init__(
        self,
        model: str | ModelFolder = "starter/clip_rn",
        device: str = "auto",
        dtype: str = "auto",
        batch_size: int = 128,
        allow_pickle: bool = False,
    ):
        try:
            import open_clip
        except ImportError as error:
            raise missing_extra("open_clip_torch", "open_clip") from error
        folder = model if isinstance(model, ModelFolder) else resolve(model, allow_pickle=allow_pickle)
        self.name, self.fingerprint, self.batch_size = folder.name, folder.fingerprint, batch_size
        self.config = _config(folder)
        if not allow_pickle and not any((folder.path / file).is_file() for file in OPEN_CLIP_WEIGHTS):
            raise FigmentError(
                f"The model {folder.name} has no {OPEN_CLIP_WEIGHTS[0]}. Name a folder or Hub id that has one; pickled"
                " weights (.bin, .pt) can run any code when they are opened, so they are used only where you say"
                " allow_pickle: true."
            )
        if self.config["model_cfg"]["text_cfg"].get("hf_tokenizer_name"):
            needs_tokenizer(folder)
        self.device = choose_device(device)
        self.dtype = encoder_dtype(dtype, self.device)
        where = f"local-dir:{folder.path}"
        try:
            clip = open_clip.create_model(where, force_custom_text=True, require_pretrained=True)
            self.tokenizer = open_clip.get_tokenizer(where)
            preprocess = open_clip.transform.PreprocessCfg(**cast(Any, clip).visual.preprocess_cfg)
            self.transform = open_clip.transform.image_transform_v2(preprocess, is_train=False)
            self.preprocess = preprocess
            self.resize = f"{preprocess.size} {preprocess.interpolation}, {preprocess.resize_mode} (open_clip)"
            self.pixels([np.zeros((8, 8, 3), np.uint8)])  # a colour may be a word
            self.n_features = int(self.config["model_cfg"]["embed_dim"])
        except (OSError, ValueError, TypeError, KeyError, RuntimeError, AssertionError, SafetensorError) as error:
            reason = " ".join(str(error).split())[:300]
            raise FigmentError(
                f"The model {folder.name} cannot be opened by open_clip: {reason}. Its folder must hold"
                f" {OPEN_CLIP_CONFIG}, {OPEN_CLIP_WEIGHTS[0]} and the tokenizer's files, all of one model: fetch it again."
            ) from error
        weights.check(cast(nn.Module, clip), f"The model {folder.name}")
        self.logit_scale = float(clip.logit_scale.detach().exp())
        _cast(clip, self.dtype)
        self.model = put(clip, self.device, f"The model {folder.name}").eval()
        self.image_tower: nn.Module = _ImageTower(self.model.visual)
        self.text_tower: nn.Module = self.model.text
        self.token_embedding: nn.Embedding = self.model.text.token_embedding

    def images(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """``float32 (B, D)``, L2-normalised, of ``uint8 (H, W, 3)`` images of any sizes."""
        return image_features(self, images)

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """``float32 (N, D)``, L2-normalised. Texts are cut at the tokenizer's length."""
        return text_features(self, texts)

    def pixels(self, images: Sequence[np.ndarray]) -> Tensor:
        """``uint8 (H, W, 3)`` images of any sizes, resized, cropped and normalised: float32 (B, 3, S, S) on the CPU."""
        return torch.stack([self.transform(Image.fromarray(image)) for image in images])

    def tokens(self, texts: Sequence[str]) -> Tensor:
        """``int64 (N, L)`` on the device, L the model's own."""
        return self.tokenizer(list(texts)).to(self.device)

    def count_cut(self, texts: Sequence[str]) -> int:
        """How many of the texts :meth:`texts` does not read to the end: with one token more they would read otherwise."""
        length, texts = self.tokenizer.context_length, list(texts)
        if not texts:
            return 0
        longer = self.tokenizer(texts, context_length=length + 1)[:, :length]  # (N, L)
        return int((self.tokenizer(texts) != longer).any(1).sum())

    def elsewhere(self) -> Tower:
        """Its image tower as the ``visual`` of open_clip's ``CustomTextCLIP``."""
        made_by = {
            "library": "open_clip",
            "model_cfg": self.config["model_cfg"],
            "preprocess_cfg": asdict(self.preprocess),
        }
        return Tower(self.image_tower, self.model.visual.state_dict(), made_by, of_open_clip(self.preprocess))

    def save(self, folder: Path) -> None:
        """As a folder that open_clip (``local-dir:``) and `open_encoder` open."""
        config = copy.deepcopy(self.config)
        config["model_cfg"]["custom_text"] = True  # as the weights are named: the text tower is a module of its own
        with written_into(folder) as here:
            state = {name: value.contiguous() for name, value in self.model.state_dict().items()}
            save_file(state, here / OPEN_CLIP_WEIGHTS[0])
            if config["model_cfg"]["text_cfg"].get("hf_tokenizer_name"):
                self.tokenizer.save_pretrained(here)
            (here / OPEN_CLIP_CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


class _ImageTower(nn.Module):
    """The vision tower with its parameters in the order in which pixels meet them: open_clip's ViT lists its projection early."""

    def __init__(self, visual: nn.Module):
        super().__init__()
        self.visual = visual

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) to (B, D), not normalised."""
        return self.visual(pixels)

    def named_parameters(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, nn.Parameter]]:
        named = super().named_parameters(*args, **kwargs)
        return iter(sorted(named, key=lambda pair: pair[0].endswith("visual.proj")))


def _cast(model: nn.Module, dtype: torch.dtype) -> None:
    """All but BatchNorm to ``dtype``: variances may be smaller, or larger, than half precision knows."""
    for module in model.modules():
        if not isinstance(module, nn.modules.batchnorm._BatchNorm):
            for tensor in chain(module.parameters(recurse=False), module.buffers(recurse=False)):
                if tensor.is_floating_point():
                    tensor.data = tensor.data.to(dtype)


def _config(folder: ModelFolder) -> dict[str, Any]:
    """``model_cfg`` and ``preprocess_cfg``. Raises FigmentError for models whose parts lie elsewhere or do more than this needs."""
    try:
        config = load_json(folder.path / OPEN_CLIP_CONFIG, "model configuration")
        text, vision = config["model_cfg"]["text_cfg"], config["model_cfg"]["vision_cfg"]
        other = text.get("hf_model_name") or ("multimodal_cfg" in config["model_cfg"] and "CoCa's decoder")
        remote = any(str(part.get("timm_model_name", "")).startswith(("hf-hub:", "hf_hub:")) for part in (text, vision))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise FigmentError(
            f"The model {folder.name} has no {OPEN_CLIP_CONFIG} with a model_cfg to be read ({error!r}). Name a folder or"
            " Hub id of the open_clip library, or one whose config.json says model_type: clip."
        ) from error
    if other or remote:
        raise FigmentError(
            f"The model {folder.name} is made with {other or vision['timm_model_name']}, which does not lie in its folder"
            " or is no part of a CLIP. Choose an open_clip model with a text tower of open_clip's own."
        )
    return config

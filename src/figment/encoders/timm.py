"""Any image network of ``timm`` with weights from a file: an encoder without a text tower, and without a hub."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from figment import records, weights
from figment.device import choose_device, encoder_dtype, put
from figment.encoders.elsewhere import Tower, of_timm
from figment.encoders.towers import image_features
from figment.errors import FigmentError, nearest
from figment.files import read_json
from figment.models import ModelFolder, resolve

log = logging.getLogger(__name__)

MOST_HEAD = 2  # tensors of a classifier, weight and bias, which features do without
#: Arguments of timm's that say where weights come from, or what else is built: none of a folder's business.
NOT_OPTIONS = {"num_classes", "pretrained", "checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay"}
NOT_OPTIONS |= {"features_only", "cache_dir", "scriptable", "exportable", "no_jit"}


class TimmEncoder:
    """The features that a network gives its classifier, of unit length: ``{timm: tf_efficientnet_lite0, weights: path}``.

    Images of any size are resized and cropped as the architecture's own configuration says. It reads no words.

    Args:
        architecture: one of ``timm.list_models()``, without a tag.
        path: ``.safetensors``, or a file of ``torch.save`` that holds tensors and nothing else: no code in it is run.
        device, dtype: "auto" or torch's names.
        options: timm's own arguments of the architecture, such as ``{"patch_size": 4}``.
        cfg: how images are prepared, in timm's words; None = as the architecture's own configuration says.

    Raises FigmentError for an architecture that there is not, and weights that cannot be read or are not all its own.
    """

    logit_scale = 1.0  # there are no texts whose cosines it could be multiplied by

    def __init__(
        self,
        architecture: str,
        path: str | Path,
        device: str = "auto",
        dtype: str = "auto",
        batch_size: int = 128,
        *,
        options: Mapping[str, Any] | None = None,
        cfg: Mapping[str, Any] | None = None,
    ):
        import timm

        if not timm.is_model(architecture):
            raise FigmentError(
                f"timm has no architecture {architecture!r}.{nearest(architecture, timm.list_models())} Take one of"
                " timm.list_models(), without a tag: the weights come from the file."
            )
        self.name, self.batch_size = f"timm/{architecture}", batch_size
        self.device = choose_device(device)
        self.dtype = encoder_dtype(dtype, self.device)
        self.architecture, self.path, self.options = architecture, Path(path), dict(options or {})
        module: Any = self.network()
        self.data, self.transform = _preparation(self.name, cfg or module.pretrained_cfg)
        config = self.data
        self.resize = f"{config['input_size'][-1]} {config['interpolation']}, crop {config['crop_pct']} (timm)"
        self.image_tower: nn.Module = put(module.to(self.dtype), self.device, f"The encoder {self.name}").eval()
        self.n_features = int(module.num_features)
        with Path(path).open("rb") as file:
            self.digest = hashlib.file_digest(file, "sha256").hexdigest()  # of the weights' file
        self.fingerprint = records.fingerprint(
            [architecture, self.digest, self.resize]
            + ([self.options, [config["mean"], config["std"]]] if options or cfg else [])
        )[:16]

    def network(self, **more: Any) -> nn.Module:
        """The network with its weights, without a classifier, once more and in full precision; ``more`` are further arguments of timm's.

        Raises FigmentError.
        """
        import timm

        try:
            module = timm.create_model(self.architecture, pretrained=False, num_classes=0, **{**self.options, **more})
        except (TypeError, AssertionError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200].rstrip(".")
            raise FigmentError(
                f"timm cannot make {self.architecture} with the options {self.options}: {reason}. Check model_args of its config.json."
            ) from error
        what = f"The encoder {self.name} with weights {self.path}"
        _load(module, weights.tensors(self.path, what), what)
        return module

    def images(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """``float32 (B, D)``, L2-normalised, of ``uint8 (H, W, 3)`` images of any sizes."""
        return image_features(self, images)

    def pixels(self, images: Sequence[np.ndarray]) -> Tensor:
        """``uint8 (H, W, 3)`` images of any sizes, resized, cropped and normalised: float32 (B, 3, S, S) on the CPU."""
        return torch.stack([self.transform(Image.fromarray(image)) for image in images])

    def elsewhere(self) -> Tower:
        """The network without a classifier, as timm makes it."""
        args = {**self.options, "num_classes": 0}
        made_by = {"library": "timm", "architecture": self.architecture, "model_args": args, "data": dict(self.data)}
        return Tower(self.image_tower, self.image_tower.state_dict(), made_by, of_timm(self.data))

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Raises FigmentError: there is no text tower."""
        raise FigmentError(
            f"The encoder {self.name} sees images and reads no words, and here is {str(list(texts)[:1])[:60]} to be read. Filters that go"
            " by the class names, and figment pilot, need a CLIP: give the filter one of its own (model: starter/clip), or set encoder"
            " to one."
        )


def open_timm(
    model: str | ModelFolder, device: str = "auto", dtype: str = "auto", batch_size: int = 128
) -> TimmEncoder:
    """The network in a folder that timm or figment wrote, or in a Hub repository, which says of which architecture it is and how images
    are prepared: ``{timm: runs/NAME/model}``.

    Raises FigmentError for a folder that holds none, and as `TimmEncoder` does.
    """
    import timm

    if isinstance(model, str) and timm.is_model(model) and not Path(model).is_dir():
        raise FigmentError(
            f"encoder: {{timm: {model}}} names an architecture and no weights. Give them, weights: FILE, or name a folder of a model, such"
            " as runs/NAME/model, or a Hub id, such as timm/resnet50.a1_in1k."
        )
    folder = resolve(model) if isinstance(model, str) else model
    architecture, cfg = timm_config(folder)
    asked = read_json(folder.path / "config.json").get("model_args") or {}
    if not isinstance(asked, dict):
        raise FigmentError(
            f"{folder.name}: model_args of its config.json is {str(asked)[:60]!r}, not a table of options."
        )
    options = {name: value for name, value in asked.items() if name not in NOT_OPTIONS}
    return TimmEncoder(
        architecture.partition(".")[0], timm_weights(folder), device, dtype, batch_size, options=options, cfg=cfg
    )


def timm_config(folder: ModelFolder) -> tuple[str, dict[str, Any]]:
    """The architecture and timm's configuration of a folder's weights. Old folders have both in one dict. Raises FigmentError."""
    config = read_json(folder.path / "config.json")
    architecture = config.get("architecture") if isinstance(config, dict) else None
    if not isinstance(architecture, str):
        raise FigmentError(
            f"{folder.name} holds no timm model: its config.json names no architecture. Give a folder that timm or figment"
            " wrote, or a Hub id such as timm/resnet50.a1_in1k."
        )
    cfg = config.get("pretrained_cfg", config) or {}
    if not isinstance(cfg, dict):
        raise FigmentError(
            f"{folder.name}: pretrained_cfg of its config.json is {str(cfg)[:60]!r}, not a table of settings."
        )
    return architecture, cfg


def timm_weights(folder: ModelFolder) -> Path:
    """The file of a timm folder's weights. Raises FigmentError where there is none."""
    found = sorted(folder.path.glob("*.safetensors"))
    if (folder.path / "model.safetensors") in found:
        return folder.path / "model.safetensors"
    if len(found) != 1:
        raise FigmentError(
            f"{folder.name} holds no timm model: there is no model.safetensors beside its config.json. Give a folder that timm"
            " or figment wrote, or a Hub id such as timm/resnet50.a1_in1k."
        )
    return found[0]


def _preparation(name: str, cfg: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
    """timm's settings of how images are prepared, and what prepares one. Raises FigmentError for settings that timm cannot read."""
    from timm.data import create_transform, resolve_data_config

    try:
        config = resolve_data_config({}, pretrained_cfg=dict(cfg))
        _, _, _ = config["input_size"]
        transform: Any = create_transform(**config, is_training=False)
        transform(Image.new("RGB", (8, 8)))
    except (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:150].rstrip(".")
        raise FigmentError(
            f"timm cannot prepare images for {name} as its configuration says: {type(error).__name__}, {reason}. Check input_size, mean, std,"
            " interpolation and crop_pct of pretrained_cfg in its config.json."
        ) from error
    return config, transform


def _load(module: nn.Module, given: Mapping[str, Tensor], what: str) -> None:
    """By name; where a file has other names all through, in order, if every shape agrees and the end of every name (weight, bias,
    running_mean): networks ported from elsewhere are such, and four tensors of a norm have one shape.

    Tensors of a classifier may be left over. Raises FigmentError where a tensor is missing or has another shape.
    """
    wanted = module.state_dict()
    if not wanted.keys() & given.keys():
        in_order = dict(list(given.items())[: len(wanted)])
        if _kinds(in_order) == _kinds(wanted) and len(given) - len(wanted) <= MOST_HEAD:
            log.info("%s: the tensors have other names, and are taken in order: all %d shapes agree", what, len(wanted))
            given = dict(zip(wanted, in_order.values(), strict=True))
    shapes = {n: given[n].shape for n in wanted if n in given}
    weights.refuse(
        what,
        len(wanted),
        {
            weights.MISSING: [name for name in wanted if name not in given],
            weights.SHAPES: [
                f"{n} {tuple(s)} for {tuple(wanted[n].shape)}" for n, s in shapes.items() if s != wanted[n].shape
            ],
        },
    )
    module.load_state_dict({name: given[name] for name in wanted})
    weights.check(module, what)


def _kinds(tensors: Mapping[str, Tensor]) -> list[tuple[str, torch.Size]]:
    """How each name ends, and the tensor's shape."""
    return [(name.rpartition(".")[2], tensor.shape) for name, tensor in tensors.items()]

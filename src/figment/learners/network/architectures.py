"""From an architecture's name to a network, and to how images are prepared for it: timm's, and the small CNN."""

from __future__ import annotations

import difflib
import logging
from dataclasses import dataclass
from typing import Any, cast

import safetensors.torch
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from figment import weights
from figment.encoders.timm import timm_config, timm_weights
from figment.errors import FigmentError
from figment.learners.network.settings import NetworkSettings
from figment.learners.network.small_cnn import NAME as SMALL_CNN_NAME
from figment.learners.network.small_cnn import SmallCNN
from figment.models import ModelFolder

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Network:
    """A network, and all that it takes to make it again.

    ``args`` are what its maker is called with; ``data`` says how images are prepared, in timm's words: ``input_size``
    (3, S, S), ``interpolation``, ``crop_pct``, ``crop_mode``, ``mean`` and ``std`` of pixels in [0, 1].
    """

    module: nn.Module
    architecture: str
    args: dict[str, Any]
    data: dict[str, Any]


def check(s: NetworkSettings) -> None:
    """Raise FigmentError for an architecture that there is not."""
    import timm

    name = s.architecture.partition(".")[0]
    if name == SMALL_CNN_NAME:
        if s.image_size % 8 or s.pretrained or s.options:
            raise FigmentError(
                f"{SMALL_CNN_NAME} is trained from scratch, without options, on images whose side is a multiple of 8;"
                f" image_size is {s.image_size}. Set image_size: 32 and leave pretrained and options out."
            )
    elif not timm.is_model(name):
        near = difflib.get_close_matches(name, [SMALL_CNN_NAME, *timm.list_models()], n=4)
        raise FigmentError(
            f"timm has no architecture {s.architecture!r}.{' The nearest are ' + ', '.join(near) + '.' if near else ''} Take one"
            f" of timm.list_models(), such as resnet50, resnet18 or vit_tiny_patch16_224, or {SMALL_CNN_NAME}."
        )
    elif "." in s.architecture:
        raise FigmentError(
            f"The architecture {s.architecture!r} has a tag, which names weights. Set architecture: {name} and, if they are"
            f" wanted, pretrained: timm/{s.architecture}."
        )


def make(s: NetworkSettings, n_classes: int, start: ModelFolder | None = None) -> Network:
    """A network with ``n_classes`` outputs, from scratch or from the weights in ``start``; torch's generator decides the rest.

    Raises FigmentError for an architecture that there is not, one that does not take images of this size or these
    options, and weights that are not its own.
    """
    check(s)
    args: dict[str, Any] = {"num_classes": n_classes, **s.options}
    if s.architecture == SMALL_CNN_NAME:
        args["img_size"] = s.image_size
        data = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "interpolation": "bilinear", "crop_mode": "center"}
        network = Network(SmallCNN(**args), s.architecture, args, {**data, **_size(s, None)})
    else:
        network = _timm(s, args, start)
    _try(network, s)
    return network


def start_from(network: Network, backbone: Network) -> None:
    """Give a network the weights of one like it that has no classifier. Its own classifier, and all else about it, stays: what a
    pre-training froze or recomputes is no matter of what comes after."""
    cast(Any, network.module).load_state_dict(backbone.module.state_dict(), strict=False)


def _timm(s: NetworkSettings, args: dict[str, Any], start: ModelFolder | None) -> Network:
    import timm
    from timm.data import resolve_data_config

    cfg = timm.get_pretrained_cfg(s.architecture)
    if cfg is not None and cfg.fixed_input_size:
        args["img_size"] = s.image_size
    try:
        module = timm.create_model(s.architecture, **args) if start is None else _started(s, args, start)
    except (TypeError, AssertionError, ValueError, RuntimeError, ZeroDivisionError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise FigmentError(
            f"timm cannot make {s.architecture} for images of {s.image_size} pixels with options {s.options}: {reason.rstrip('.')}."
            f" A ViT takes sizes that are multiples of its patch_size (options: {{patch_size: 4}} makes patches small)."
        ) from error
    theirs = {} if start is None else timm_config(start)[1]
    data = resolve_data_config({}, pretrained_cfg=theirs or module.pretrained_cfg)
    return Network(module, s.architecture, args, {**data, **_size(s, data["crop_pct"] if theirs else None)})


def _size(s: NetworkSettings, crop_pct: float | None) -> dict[str, Any]:
    return {"input_size": (3, s.image_size, s.image_size), "crop_pct": s.crop_pct or crop_pct or 1.0}


def _started(s: NetworkSettings, args: dict[str, Any], start: ModelFolder) -> nn.Module:
    """The network with the weights of a timm folder, but for the classifier, which is new."""
    import timm

    architecture, cfg = timm_config(start)
    if architecture != s.architecture:
        raise FigmentError(
            f"The weights of {start.name} are those of {architecture}, and architecture is {s.architecture}. Set"
            f" architecture: {architecture}, or take other weights."
        )
    tensors = safetensors.torch.load_file(timm_weights(start))
    bare = timm.get_pretrained_cfg(s.architecture)
    classifier = cfg.get("classifier") or (bare.classifier if bare else None) or "head"
    classifier = classifier if isinstance(classifier, str) else classifier[0]
    weight = tensors.get(f"{classifier}.weight")
    # With its own number of classes timm loads strictly; with another it takes whatever fits, without a word.
    own = {**args, "num_classes": 0 if weight is None else len(weight)}
    overlay = {"state_dict": tensors, "num_classes": own["num_classes"], "label_offset": 0, "custom_load": False}
    try:
        module: Any = timm.create_model(s.architecture, pretrained=True, pretrained_cfg_overlay=overlay, **own)
    except (RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())[:300]
        raise FigmentError(
            f"The weights of {start.name} do not fit {s.architecture} with image_size: {s.image_size} and options {s.options}:"
            f" {reason.rstrip('.')}. Take weights of that very architecture, and the options they were trained with."
        ) from error
    weights.check(module, f"The model {start.name}")
    module.reset_classifier(args["num_classes"])
    module.pretrained_cfg.pop("state_dict", None)
    return module


def _try(network: Network, s: NetworkSettings) -> None:
    """One black image through the network, before hours are spent on others."""
    module = network.module.eval()
    x = torch.zeros(1, *network.data["input_size"])
    try:
        with torch.no_grad():
            out = module(x)
    except (RuntimeError, AssertionError, ValueError, IndexError) as error:
        reason = " ".join(str(error).split())[:200]
        raise FigmentError(
            f"{s.architecture} does not take images of {s.image_size} x {s.image_size} pixels: {reason.rstrip('.')}. Set"
            " image_size to what the architecture was made for, often 224, or a multiple of its patches or strides."
        ) from error
    assert out.shape == (1, network.args["num_classes"])


def warn_if_tiny(network: Network) -> None:
    """Say so where a convolutional network has nothing but one place left of an image at its end."""
    module, size = network.module.eval(), network.data["input_size"]
    if not hasattr(module, "forward_features") or not has_batch_norm(module):
        return
    with torch.no_grad():
        features = cast(Any, module).forward_features(torch.zeros(1, *size))
    if features.shape[2:] == (1, 1):
        log.warning(
            "%s sees an image of %d pixels as a single place at its end, so it learns little of what lies where. It works;"
            " enlarged images (image_size: %d) or a ViT with small patches often learn more.",
            network.architecture, size[-1], 2 * size[-1],
        )  # fmt: skip


def has_batch_norm(module: nn.Module) -> bool:
    return any(isinstance(m, _BatchNorm) for m in module.modules())

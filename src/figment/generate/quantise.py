"""The denoiser's linear layers in 8-bit floats, by torchao, on GPUs that compute in them."""

from __future__ import annotations

import importlib.util
from typing import Any

import torch

from figment.errors import FigmentError, missing_extra

LEAST = (8, 9)  # compute capability of CUDA: Ada, Hopper and later
CONFIGS = {"fp8": "Float8DynamicActivationFloat8WeightConfig", "fp8_weights": "Float8WeightOnlyConfig"}


def check_quantise(how: str, device: str) -> None:
    """Raise FigmentError where torchao is not installed, and for a kind of device (``cuda``) that has no such floats. ``auto`` passes:
    what it finds is told where the images are made."""
    if device not in ("auto", "cuda"):
        raise FigmentError(
            f"generate.speed.quantise: {how} needs a GPU of NVIDIA's that computes in 8-bit floats, and the device is {device}. Leave it"
            " out; on a CPU generate.speed.backend: openvino and generate.dtype: bfloat16 may help instead."
        )
    if importlib.util.find_spec("torchao") is None:
        raise missing_extra("torchao", "quantise")


def quantise(denoiser: torch.nn.Module, how: str) -> None:
    """Change a model in place. Raises FigmentError on a device that has no 8-bit floats, and for what torchao refuses."""
    device = next(denoiser.parameters()).device
    check_quantise(how, device.type)
    if (own := torch.cuda.get_device_capability(device)) < LEAST:
        raise FigmentError(
            f"generate.speed.quantise: {how} needs a GPU that computes in 8-bit floats (compute capability {LEAST[0]}.{LEAST[1]} or more),"
            f" and {torch.cuda.get_device_name(device)} has {own[0]}.{own[1]}. Leave it out."
        )
    import torchao.quantization as torchao

    config: Any = getattr(torchao, CONFIGS[how])
    try:
        torchao.quantize_(denoiser, config())
    except Exception as error:  # layers, devices and versions each have their own
        raise FigmentError(
            f"generate.speed.quantise: {how} cannot be done to the {type(denoiser).__name__}: {' '.join(str(error).split())[:300]}."
            " Leave it out."
        ) from error

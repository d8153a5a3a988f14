"""Puts what a recipe's ``speed`` asks for into a pipeline that was just opened, and refuses by name what cannot be had."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from figment.errors import FigmentError
from figment.generate import openvino, tiny_vae
from figment.generate.quantise import check_quantise, quantise
from figment.generate.speed import Tried, denoiser_in
from figment.generate.step_cache import StepCache, check_cache

if TYPE_CHECKING:
    from figment.generate.diffusers import DiffusersGenerator


def check_speed(g: DiffusersGenerator, index: Mapping[str, Any], device: str) -> None:
    """Raise FigmentError for what this pipeline, this kind of device (``auto``, ``cuda``) or this installation cannot do."""
    speed, model = g.speed, g.folder.name
    in_its_place = speed.compile or speed.backend != "torch" or speed.cache or speed.quantise
    if in_its_place and g.offload != "none":
        raise FigmentError(
            f"generate.offload: {g.offload} puts the denoiser back as it was after each batch, so that generate.speed's compile, cache and"
            " quantise would be lost. Leave one of them out."
        )
    if speed.backend == "openvino":
        _check_openvino(device)
    if speed.quantise is not None:
        check_quantise(speed.quantise, device)
    if speed.cache is None:
        return
    check_cache(index, model, g.num_inference_steps)
    if g.real_guidance:
        raise FigmentError(
            "generate.speed.cache chooses among all steps, and generate.real_guidance takes the last of them. Leave one of them out."
        )
    if not g.sampling.interval.whole:
        raise FigmentError(
            "generate.speed.cache adds again what a step before has added, to as many rows, and with generate.guidance_start or"
            " guidance_stop a step has half of them. Leave one of them out."
        )


def _check_openvino(device: str) -> None:
    if device not in ("auto", "cpu"):
        raise FigmentError(
            f"generate.speed.backend: openvino computes on CPUs here, and the device is {device}. Leave it out; on a GPU"
            " generate.speed.compile may help instead."
        )
    openvino.version()


def hasten(g: DiffusersGenerator, pipe: Any) -> list[Tried | StepCache]:
    """What was put in, each with its ``trial`` once it has been tried. Raises FigmentError for what cannot be done to this pipeline, or on
    this device."""
    speed = g.speed
    found: list[Tried | StepCache] = []
    if speed.cache is not None:
        found.append(StepCache(pipe, speed.cache, g.num_inference_steps, g.sampling.guided))
    if not (speed.compile or speed.backend != "torch" or speed.quantise):
        return found
    denoiser = denoiser_in(pipe)
    if g.lora and (speed.compile or speed.backend != "torch"):
        raise FigmentError(
            f"generate.speed.{'compile' if speed.compile else 'backend: openvino'} takes the denoiser as it is, and a LoRA that was trained"
            " here is added to its layers image by image. Leave one of them out; finetune.method: full goes with it."
        )
    if speed.backend == "openvino":
        _check_openvino(g.device.type)
    plain = denoiser.forward

    def make(given: Sequence[Any], named: dict[str, Any]) -> Any:
        if speed.backend == "openvino":
            return openvino.converted(denoiser, given, named, plain, g.model_fingerprint)
        if speed.quantise is not None:
            quantise(denoiser, speed.quantise)
        return torch.compile(plain) if speed.compile else plain

    asked = {
        "backend: openvino": speed.backend == "openvino",
        f"quantise: {speed.quantise}": speed.quantise,
        "compile": speed.compile,
    }
    what = " with ".join(name for name, value in asked.items() if value)
    tried = Tried(what, "denoiser", plain, make, asked_for=speed.quantise is not None)
    denoiser.forward = tried
    return [*found, tried]


def put_vae_in(g: DiffusersGenerator, pipe: Any, allow_pickle: bool) -> list[Tried]:
    """The small VAE that was asked for, before the pipeline is placed."""
    return [] if g.tiny is None else [tiny_vae.put_in(pipe, g.tiny, g.dtype, allow_pickle)]

"""What this machine can do and what is missing: ``figment doctor``."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from figment import machine
from figment.errors import FigmentError

State = Literal["ok", "note", "missing"]


@dataclass(frozen=True)
class Finding:
    """One line: a subject, how it stands, and what that means."""

    subject: str
    state: State
    text: str


def examine() -> list[Finding]:
    """Look at packages, processor, accelerator, memory, disk, the starter, the model cache and the network."""
    return [*_packages(), _extras(), _torch(), _memory(), _disk(), _starter(), _cache(), _network()]


def _packages() -> list[Finding]:
    found = machine.versions()
    core = ", ".join(f"{name} {version}" for name, version in found.items())
    missing = [
        name for name in ("torch", "diffusers", "transformers", "pyarrow") if importlib.util.find_spec(name) is None
    ]
    if missing:
        return [Finding("packages", "missing", f"{', '.join(missing)}: run pip install figment-vision")]
    return [Finding("packages", "ok", core)]


EXTRAS = {  # extra -> what it is for, and the modules that it brings
    "finetune": ("fine-tuning the generator, LoRAs on an encoder", ("peft",)),
    "open_clip": ("CLIPs in open_clip's format", ("open_clip",)),
    "seq2seq": ("word-to-sentence prompts", ("sentencepiece", "google.protobuf")),
    "datasets": ("datasets:NAME as real images", ("datasets",)),
    "fid": ("FID, KID and Inception score, by FID's own network", ("torch_fidelity",)),
    "trackers": ("results and loss curves in TensorBoard", ("tensorboard",)),
    "ray": ("--engine ray", ("ray",)),
    "s3": ("s3:// folders", ("s3fs",)),
    "onnx": ("the model as ONNX", ("onnx", "onnxscript", "onnxruntime")),
    "c2pa": ("content credentials in exported images", ("c2pa", "cryptography")),
    "webdataset": ("reading exported tars with webdataset", ("webdataset",)),
    "openvino": ("faster images on a CPU", ("openvino",)),
    "cache": ("faster images of diffusion transformers", ("cache_dit",)),
    "quantise": ("8-bit floats on a GPU", ("torchao",)),
}


def _extras() -> Finding:
    """What is optional and not there."""
    absent = {
        extra: f"{what} ({', '.join(lacking)})"
        for extra, (what, modules) in EXTRAS.items()
        if (lacking := [name for name in modules if not _is_there(name)])
    }
    if not absent:
        return Finding("extras", "ok", "all there")
    text, extras = "; ".join(absent.values()), ",".join(absent)
    return Finding("extras", "note", f"not installed: {text}. For all of these: pip install 'figment-vision[{extras}]'")


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # nor is the package that it is in, as google of google.protobuf
        return False


def _torch() -> Finding:
    import torch

    from figment.device import choose_device, cpu_has_bfloat16, generator_dtype

    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        kind = str(generator_dtype("auto", choose_device())).removeprefix("torch.")
        return Finding(
            "device",
            "ok",
            f"{torch.cuda.get_device_name()}, {free / 2**30:.0f} of {total / 2**30:.0f} GiB free; dtype auto is {kind}",
        )
    if torch.backends.mps.is_available():
        return Finding("device", "note", "Apple GPU (set generate.device: mps)")
    half = "bfloat16 in hardware" if cpu_has_bfloat16() else "no bfloat16 in hardware, float32 is used"
    text = f"no GPU; {machine.device()}; {half}"
    return Finding(
        "device", "note", f"{text}. Enough for the starter; for larger models ask figment run --dry-run first."
    )


def _memory() -> Finding:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return Finding(
        "memory",
        "ok" if total >= 8 else "note",
        f"{total:.0f} GiB" + ("" if total >= 8 else "; Stable Diffusion wants 8 or more"),
    )


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    return Finding(
        "disk",
        "ok" if free > 5 else "note",
        f"{free:.0f} GiB free here; figment run --dry-run says what a recipe takes",
    )


def _starter() -> Finding:
    from figment import starter

    try:
        for part in starter.PARTS:
            starter.folder(part)
    except FigmentError as error:
        return Finding("starter", "missing", str(error))
    return Finding("starter", "ok", "models and images are in the package: figment demo needs no network")


def _cache() -> Finding:
    from huggingface_hub.constants import HF_HUB_CACHE

    models = sorted(p.name.removeprefix("models--").replace("--", "/") for p in Path(HF_HUB_CACHE).glob("models--*"))
    return Finding("model cache", "ok" if models else "note", f"{HF_HUB_CACHE}: {', '.join(models) or 'empty'}")


def _network() -> Finding:
    if os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0"):
        return Finding("network", "note", "HF_HUB_OFFLINE is set: models come from folders and the cache alone")
    try:
        socket.create_connection(("huggingface.co", 443), timeout=3).close()
    except OSError as error:
        return Finding(
            "network",
            "note",
            f"huggingface.co cannot be reached ({error}): use the starter, a model folder, or a model of the cache",
        )
    return Finding("network", "ok", "huggingface.co answers")

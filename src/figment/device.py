"""Where a model runs and in what precision: the one place that decides. Imports torch."""

from __future__ import annotations

import gc
import re
from typing import Any

import torch

from figment.errors import DeviceFailed, FigmentError, nearest
from figment.files import AGAIN

DTYPES = ("auto", "float32", "bfloat16", "float16")


def devices() -> list[str]:
    """What torch can compute on here: ``["cuda:0", "cuda:1", "cpu"]``, ``["mps:0", "cpu"]``, or ``["cpu"]``."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    count = torch.accelerator.device_count() if accelerator else 0
    return [*(f"{accelerator}:{i}" for i in range(count)), "cpu"]


def check_device(name: str) -> str:
    """The name, if a device can be called so, on this machine or another. Raises FigmentError."""
    if name != "auto":
        try:
            torch.device(name)
        except RuntimeError as error:
            raise FigmentError(
                f"The device {name!r} is unknown. Allowed: auto, cpu, cuda, cuda:1, mps... Here are: {', '.join(devices())}."
            ) from error
    return name


def choose_device(name: str = "auto") -> torch.device:
    """``auto``: the first CUDA GPU, else the CPU. Raises FigmentError where the device is not there."""
    if name == "auto":
        # An Apple GPU only where it is asked for: the tests have not run on one.
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device, here = torch.device(check_device(name)), devices()
    if device.type != "cpu" and f"{device.type}:{device.index or 0}" not in here:
        raise FigmentError(
            f"The device is {name}, and torch {torch.__version__} finds none of that name here, but {', '.join(here)}."
            " Set device: auto, or one of these."
        )
    return device


def check_dtype(name: str) -> str:
    """The name, if it is one of :data:`DTYPES`. Raises FigmentError."""
    if name not in DTYPES:
        raise FigmentError(f"The dtype {name!r} is unknown.{nearest(name, DTYPES)} Allowed: {', '.join(DTYPES)}.")
    return name


def generator_dtype(name: str, device: torch.device) -> torch.dtype:
    """``auto``: half precision where the chip computes in it, else float32. Raises FigmentError."""
    if check_dtype(name) != "auto":
        return getattr(torch, name)
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return torch.bfloat16 if device.type == "cpu" and cpu_has_bfloat16() else torch.float32


def encoder_dtype(name: str, device: torch.device) -> torch.dtype:
    """``auto``: float16 on a CUDA GPU. On a CPU it would change verdicts near a threshold and save little: float32. Raises FigmentError."""
    if check_dtype(name) != "auto":
        return getattr(torch, name)
    return torch.float16 if device.type == "cuda" else torch.float32


def cpu_has_bfloat16() -> bool:
    """Whether the CPU computes in bfloat16; others emulate it, about twenty times slower than float32."""
    chip = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(chip.get("avx512_bf16") or chip.get("amx_bf16"))


#: How older versions of torch, and libraries that pass errors on as text, say what is a torch.AcceleratorError today. What cuBLAS,
#: cuDNN and their like (``CUBLAS_STATUS_...``) say of themselves is none: mostly they lacked memory, and the next call works.
_FAILED = re.compile(r"\b(CUDA|HIP|XPU) error: (?![A-Z]+_STATUS)")


def is_out_of_memory(error: BaseException) -> bool:
    """Of the device or the machine; less at a time may fit."""
    text = str(error).lower()
    told = ("out of memory", "can't allocate memory", "status_alloc_failed")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(words in text for words in told)


def free_memory(device: torch.device) -> None:
    """Give back what nothing refers to any more, also what torch keeps for later."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def free_bytes(device: torch.device) -> int | None:
    """What is free on a CUDA GPU, torch's own cache counted as free; None of other devices, which do not say."""
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def weight_bytes(module: torch.nn.Module) -> int:
    """Of its parameters and buffers."""
    return sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))


def gib(size: float) -> str:
    """Bytes as they are shown: ``6.9 GiB``."""
    return f"{size / 2**30:,.1f} GiB"


def put(
    module: Any,
    device: torch.device,
    what: str,
    mend: str = "Choose a smaller model, or end what else uses that memory.",
) -> Any:
    """The module, moved to the device. Raises FigmentError where it does not fit there, which ends in ``mend``."""
    free = free_bytes(device)
    try:
        return module.to(device)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise FigmentError(f"{does_not_fit(what, weight_bytes(module), device, free)} {mend}") from error


def does_not_fit(what: str, size: int, device: torch.device, free: int | None) -> str:
    """The first sentence on weights that a device, or the machine, has no memory for."""
    there = "" if free is None else f", where {gib(free)} are free"
    return f"{what} does not fit into the memory of {device}: its weights take {gib(size)}{there}."


def failure(
    error: BaseException, mend: str = "take another with generate.device, or lower generate.batch_size"
) -> DeviceFailed | None:
    """What to raise in its place where an error says that the device itself has failed; else None. ``mend`` is what else may help.

    It is what a kernel left behind (an illegal access, an assertion, a lost GPU): in that process every later call ends in it too.
    """
    if is_out_of_memory(error) or not (isinstance(error, torch.AcceleratorError) or _FAILED.search(str(error))):
        return None
    said = " ".join(str(error).split("\n")[0].split())[:200].rstrip(".")
    return DeviceFailed(
        f"The device failed: {said}. In this process it cannot be used any more. {AGAIN} If it fails there again, look at nvidia-smi"
        f" and the system's log, or {mend}."
    )

"""Where a pipeline's parts lie: all of them on the device, or in main memory until it is their turn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from figment.device import does_not_fit, free_bytes, gib, is_out_of_memory, weight_bytes
from figment.errors import FigmentError, nearest

#: none: on the device. model: one part at a time is there. sequential: one layer at a time, many times slower.
OFFLOADS = ("none", "model", "sequential")
MAIN_MEMORY = ("cpu", "mps")  # kinds of devices that compute there: nothing could be put aside
ROOM = 0.9  # share of what is free that weights may take, so that an image fits beside them


def check_offload(offload: str, device: str) -> None:
    """Raise FigmentError for a word that is none of `OFFLOADS`, and for a kind of device (``cuda``) that has no memory of its own."""
    if offload not in OFFLOADS:
        raise FigmentError(
            f"offload {offload!r} is unknown.{nearest(offload, OFFLOADS)} Allowed: {', '.join(OFFLOADS)}."
        )
    if offload != "none" and device in MAIN_MEMORY:
        raise FigmentError(
            f"generate.offload: {offload} keeps weights in main memory until an accelerator needs them, and the device is {device},"
            " which computes in main memory itself: nothing would be saved. Set generate.offload: none, or generate.device to a GPU."
        )


def offload_advice(offload: str, cascade: bool | None) -> str:
    """What of a recipe keeps more weights in main memory, as quickly as can be; "" where nothing does.

    ``cascade`` is None for a pipeline of its own. For a stage of a cascade it is that one's ``offload``, which is another: true or false.
    """
    if cascade is None:
        return "generate.offload: model" if offload == "none" else ""
    return "" if cascade else "generate.offload: true"


def place(pipe: Any, device: torch.device, offload: str, what: str, cascade: bool | None = None) -> None:
    """Put a pipeline that was just opened where it is to be. ``cascade`` is as in :func:`offload_advice`. Raises FigmentError where it
    cannot be, and says what would fit."""
    check_offload(offload, device.type)
    free = free_bytes(device)
    others = torch.cuda.memory_allocated(device) if device.type == "cuda" else 0
    try:
        if hasattr(pipe, "unet"):  # convolutions are faster so; transformers have none to speak of
            for part in (pipe.unet, getattr(pipe, "vae", None)):
                if part is not None:
                    part.to(memory_format=torch.channels_last)
        if offload == "none":
            pipe.to(device)
        elif offload == "model":
            pipe.enable_model_cpu_offload(device=device)
        else:
            pipe.enable_sequential_cpu_offload(device=device)
    except (RuntimeError, NotImplementedError, ValueError, MemoryError) as error:
        if is_out_of_memory(error):
            raise _does_not_fit(pipe, device, offload, what, free, cascade, others) from error
        reason = " ".join(str(error).split())[:200]
        raise FigmentError(
            f"{what} cannot be placed on {device} in {str(pipe.dtype).removeprefix('torch.')}"
            f"{'' if offload == 'none' else f' with offload: {offload}'}: {reason.rstrip('.')}. Set generate.device"
            f"{' or generate.offload' if cascade is None else ''} to another, or choose another model."
        ) from error


def _does_not_fit(
    pipe: Any,
    device: torch.device,
    offload: str,
    what: str,
    free: int | None,
    cascade: bool | None = None,
    others: int = 0,
) -> FigmentError:
    """``others`` are bytes of other stages' weights that are there."""
    parts = sorted(((weight_bytes(part), name) for name, part in _networks(pipe)), reverse=True)
    size, dtype = sum(size for size, _ in parts), str(pipe.dtype).removeprefix("torch.")
    known = (
        _ways(parts, pipe.dtype, offload) if cascade is None else _ways_of_a_stage(size, pipe.dtype, cascade, others)
    )
    ways = [text for needs, text in known if free is None or needs <= ROOM * free]
    would = f"What would fit: {'; or '.join(ways)}; or" if ways else "No setting makes it fit:"
    return FigmentError(
        f"{does_not_fit(f'{what} in {dtype}', size, device, free)} Of these {', '.join(f'{name} {gib(n)}' for n, name in parts[:4])}."
        f" {would} a smaller or quantised model, or another generate.device."
    )


def _ways(parts: list[tuple[int, str]], dtype: torch.dtype, offload: str) -> Iterator[tuple[int, str]]:
    """What takes less: how many bytes, and how to say so. The quicker come first."""
    size, largest = sum(size for size, _ in parts), parts[0][0]
    half = dtype == torch.float32
    if half:
        yield size // 2, f"generate.dtype: bfloat16 (or float16), {gib(size / 2)}"
    if offload == "none":
        yield largest, f"generate.offload: model, {gib(largest)} at a time, slower"
    if half and offload == "none":
        yield largest // 2, f"both, {gib(largest / 2)} at a time"
    if offload != "sequential":
        yield 0, "generate.offload: sequential, layer by layer, many times slower"


def _ways_of_a_stage(size: int, dtype: torch.dtype, cascade: bool, others: int) -> Iterator[tuple[int, str]]:
    """The same in a cascade, whose other stages can make room."""
    if dtype == torch.float32:
        yield size // 2, f"generate.dtype: bfloat16 (or float16), {gib(size / 2)}"
    if others and not cascade:
        yield size - others, f"{offload_advice('none', cascade)}, one stage at a time"


def _networks(pipe: Any) -> list[tuple[str, torch.nn.Module]]:
    return [(name, part) for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)]


def computes_on(pipe: Any) -> torch.device:
    """The device at work, also where the weights wait in main memory, which ``pipe.device`` would name."""
    return pipe._execution_device


def still_to_come(pipe: Any, offload: str) -> int:
    """Bytes of weights that are in the way of images, and that are not on the device yet: with ``model`` its largest part."""
    return max((weight_bytes(part) for _, part in _networks(pipe)), default=0) if offload == "model" else 0


def texts_in_the_way(pipe: Any, offload: str) -> list[torch.nn.Module]:
    """The text encoders of a pipeline that is whole on a GPU, where they take more than what is left for images, else none.

    In main memory, but while texts are encoded, they make room for batches of more than twice the size.
    """
    free = free_bytes(computes_on(pipe)) if offload == "none" else None
    own = [part for name, part in _networks(pipe) if name.startswith("text_encoder")]
    return own if free is not None and sum(map(weight_bytes, own)) > free else []

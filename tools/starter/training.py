"""What the trainings share: pixels, precision, and a loop that a killed run goes on from to the same weights."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from figment.checkpoint import Checkpoint
from figment.device import generator_dtype
from figment.generate.training.loop import Advice, Training, resume
from figment.generate.training.settings import TrainingSettings

PRINT_SECONDS = 30.0


def to_input(images: Tensor, device: torch.device) -> Tensor:
    """``uint8 (B, 32, 32)`` grey to ``float (B, 3, 32, 32)`` in [-1, 1]: every model here is an ordinary RGB model."""
    x = images.to(device).float() / 127.5 - 1
    return x[:, None].expand(-1, 3, -1, -1)


def precision(device: torch.device) -> str:
    """bfloat16 where the chip computes in it."""
    return "bfloat16" if generator_dtype("auto", device) == torch.bfloat16 else "float32"


def attention(device: torch.device) -> AbstractContextManager[None]:
    """On a CPU products of whole matrices: torch's fused kernel goes back in bfloat16 several times slower (torch 2.14, sequences of 64)."""
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()


def train(
    name: str, model: nn.Module, loss_of_step: Callable[[int], Tensor], out: Path, device: torch.device, **settings: Any
) -> nn.Module:
    """``model`` with the average of its weights, after a training by `TrainingSettings`."""
    own = TrainingSettings(precision=precision(device), **settings)  # type: ignore[arg-type]
    learns = {n: p for n, p in model.named_parameters() if p.requires_grad}
    training = Training(learns, loss_of_step, own, Advice(name, "Lower its learning rate.", "training it."))
    model.train()
    to_its_end(name, training, out)
    return model.eval()


def to_its_end(name: str, training: Training, out: Path) -> None:
    """From its checkpoint ``<name>.safetensors`` in ``out``, if there is one."""
    printed, running = time.time(), None
    later = (
        {"optimizer"} if training.settings.optimizer == "adamw" else None
    )  # a checkpoint of before it could be chosen counts
    identity = f"{name} {training.settings.model_dump_json(exclude=later)}"
    with attention(training.device):
        for step in resume(training, Checkpoint(out / f"{name}.safetensors", identity)):
            running = step.loss if running is None else 0.98 * running + 0.02 * step.loss
            if time.time() - printed > PRINT_SECONDS:
                print(f"{name}: step {step.number}, {step.done:.0%}, loss {running:.4f}", flush=True)
                printed = time.time()
    training.use_average()
    told = {"steps": len(training.losses), "seconds": round(training.seconds), "loss": running}
    (out / f"{name}.told.json").write_text(json.dumps(told) + "\n")


def end(name: str, out: Path) -> None:
    """What was trained is written: it is over."""
    os.replace(out / f"{name}.told.json", out / f"{name}.json")
    (out / f"{name}.safetensors").unlink(missing_ok=True)


def is_over(name: str, out: Path) -> bool:
    return (out / f"{name}.json").is_file()

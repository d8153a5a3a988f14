"""What the trainings share: the schedule, an averaged copy of the weights, a checkpoint that a killed run goes on from."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path

import torch
from torch import nn

from figment.device import generator_dtype


def autocast(device: torch.device) -> torch.autocast:
    """bfloat16 where the chip computes in it."""
    return torch.autocast(device.type, torch.bfloat16, enabled=generator_dtype("auto", device) == torch.bfloat16)


def to_input(images: torch.Tensor, device: torch.device) -> torch.Tensor:
    """``uint8 (B, 32, 32)`` grey to ``float (B, 3, 32, 32)`` in [-1, 1]: every model here is an ordinary RGB model."""
    x = images.to(device).float() / 127.5 - 1
    return x[:, None].expand(-1, 3, -1, -1)


def train(
    name,
    model,
    loss_of_step,
    *,
    steps,
    lr,
    warmup,
    weight_decay,
    betas,
    out: Path,
    minutes=math.inf,
    ema_decay=0.999,
    save_every=60.0,
):
    """Train ``model`` for ``steps`` steps of ``loss_of_step(step) -> scalar``; returns its exponential moving average.

    A checkpoint is written to ``out/<name>.pt`` every ``save_every`` seconds and gone on from when it is there. When
    ``minutes`` is finite the schedule follows the clock instead of ``steps``, so a slow machine also ends at rate zero.
    """
    checkpoint = out / f"{name}.pt"
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=lr, betas=betas)
    average = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(ema_decay)
    )
    step, spent = 0, 0.0
    if checkpoint.is_file():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        step, spent = state["step"], state["seconds"]
        print(f"{name}: going on from step {step}", flush=True)

    def save() -> None:
        temporary = checkpoint.with_suffix(".tmp")
        state = {"model": model.state_dict(), "average": average.state_dict(), "optimizer": optimizer.state_dict()}
        torch.save({**state, "step": step, "seconds": spent}, temporary)
        os.replace(temporary, checkpoint)

    running, last_print, last_save = None, time.time(), time.time()
    model.train()
    while True:
        progress = step / steps if math.isinf(minutes) else max(step / steps, spent / (60 * minutes))
        if progress >= 1:
            break
        started = time.time()
        for group in optimizer.param_groups:
            group["lr"] = min(1, (step + 1) / warmup) * lr * 0.5 * (1 + math.cos(math.pi * progress))
        loss = loss_of_step(step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average.update_parameters(model)
        step += 1
        spent += time.time() - started
        running = loss.item() if running is None else 0.98 * running + 0.02 * loss.item()
        if time.time() - last_print > 30:
            print(f"{name}: step {step}, {progress:.0%}, loss {running:.4f}, {spent:.0f} s", flush=True)
            last_print = time.time()
        if time.time() - last_save > save_every:
            save()
            last_save = time.time()
    save()
    print(
        f"{name}: done, step {step}, loss {running if running is None else round(running, 4)}, {spent:.0f} s",
        flush=True,
    )
    return average.module.eval()

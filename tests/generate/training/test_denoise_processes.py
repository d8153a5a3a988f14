"""Two processes train the denoiser that one does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from figment.checkpoint import Checkpoint
from figment.errors import FigmentError
from figment.generate.diffusers import DiffusersGenerator
from figment.generate.training.denoise import Denoising, denoiser_training
from figment.generate.training.latents import Latents
from figment.generate.training.loop import Advice, Training, resume
from figment.generate.training.settings import DenoiserSettings, TrainingSettings
from figment.learners.processes import Processes
from warm import launched

SETTINGS = DenoiserSettings(steps=3, batch_size=3, learning_rate=1e-4, warmup_steps=0, grad_clip=0.1, ema_decay=0.9)
SCRIPT = """
import sys
from figment.learners.processes import processes
from test_denoise_processes import *
on = processes("cpu")
losses, weights = trained(sys.argv[1], on, Checkpoint(Path(sys.argv[2]) / "it.safetensors", "it", writes=on.rank == 0))
(Path(sys.argv[2]) / f"{on.rank}.json").write_text(json.dumps([losses, weights]))
torch.distributed.destroy_process_group()
"""


def latents() -> Latents:
    draws = torch.Generator().manual_seed(0)
    return Latents(torch.randn(1, 7, 4, 8, 8, generator=draws), torch.full((1, 7, 4, 8, 8), 0.1))


def trained(model: str, on: Processes | None, checkpoint: Checkpoint) -> tuple[list[float], list[float]]:
    """The loss of each step, and some weights."""
    pipe = DiffusersGenerator(model=model, dtype="float32", num_inference_steps=3).pipe
    training = denoiser_training(pipe, latents(), ["a"] * 7, SETTINGS, size=(64, 64), on=on)
    for step in resume(training, checkpoint, 2):
        assert step.loss > 0
    training.use_average()
    return training.losses, pipe.unet.conv_in.weight.flatten()[:50].tolist()


@pytest.mark.slow
def test_two_processes_end_with_the_weights_of_one(sd15, tmp_path):
    """A batch of three is two images and one; the last of an epoch of seven is one image, and none for the second process."""
    launched(2, SCRIPT, sd15, tmp_path, path=[Path(__file__).parent])
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    losses, weights = trained(str(sd15), None, Checkpoint(tmp_path / "alone.safetensors", "it"))
    assert first == second
    assert first[0] == pytest.approx(losses, rel=1e-5) and first[1] == pytest.approx(weights, abs=2e-5)


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_processes_share_out_a_batch(sd15, world_size):
    pipe = DiffusersGenerator(model=str(sd15), dtype="float32", num_inference_steps=3).pipe
    loss = Denoising(pipe, latents(), ["a"] * 7, (64, 64))
    index = np.array([0, 3, 5])
    with torch.no_grad():
        shares = [
            [part.item() for part in loss.parts(index, 1, world_size, slice(rank, None, world_size))]
            for rank in range(world_size)
        ]
        assert [len(share) for share in shares] == [int(rank < 3) for rank in range(world_size)]
        assert sum(map(sum, shares)) == pytest.approx(loss(index, 1).item(), rel=1e-5)


def test_processes_do_not_end_by_the_clock():
    weight = torch.nn.Parameter(torch.zeros(1))
    on = Processes(0, 2, torch.device("cpu"))
    with pytest.raises(FigmentError, match="Set steps, not minutes"):
        Training({"w": weight}, lambda step: weight.sum(), TrainingSettings(minutes=1.0), Advice("", "", ""), on=on)

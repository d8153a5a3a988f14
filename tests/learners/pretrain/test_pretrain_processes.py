"""Two processes with half of a batch each have the loss and the gradient of one with all of it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from torch import Tensor

from figment.learners.pretrain.heads import BatchNorm
from figment.learners.pretrain.method import Batch, Method
from figment.learners.processes import Processes, processes  # noqa: F401 - the script's
from figment.learners.training import random_numbers_of
from pretrained import KINDS, ONE, batch, method

#: MAE draws which patches it hides, each process its own.
OTHERS = tuple(kind for kind in KINDS if kind != "mae")


def part(whole: Batch, rank: int) -> Batch:
    """Half of a batch: captions of the first slot are in the second half again."""
    half = slice(rank * 6, rank * 6 + 6)
    found = {f.name: getattr(whole, f.name) for f in fields(whole)}
    return Batch(**{k: [v[half] for v in x] if isinstance(x, list) else x[half] for k, x in found.items()})


def stepped(own: Method, shown: Batch) -> dict[str, Tensor]:
    """The loss, the gradients and what is remembered after a step of each process on its part."""
    trained = own.on.wrap(own)
    with random_numbers_of(0):
        loss = trained(shown)
    loss.backward()
    own.after_step(0.5)
    gradients = {f"gradient of {name}": p.grad for name, p in own.named_parameters() if p.grad is not None}
    remembered = {name: b.clone() for name, b in own.named_buffers() if b.is_floating_point() and b.isfinite().all()}
    return {"loss": own.on.mean(loss.detach()), **gradients, **remembered}


def normalised(on: Processes) -> dict[str, Tensor]:
    """Of BatchNorm alone: what comes out, what comes back, and its statistics."""
    torch.manual_seed(0)
    x, weight = torch.randn(8, 3) * 4 + 1, torch.randn(8, 3)
    rows = slice(on.rank * 8 // on.world_size, (on.rank + 1) * 8 // on.world_size)
    own, x = BatchNorm(3, on), x[rows].requires_grad_(True)
    out = own(x)
    (out * weight[rows]).sum().backward()
    return {"out": out.detach(), "back": x.grad, "mean": own.running_mean, "variance": own.running_var}


SCRIPT = """
import sys
import torch
from test_pretrain_processes import *
on = processes("cpu")
found = {kind: stepped(method(kind, on), part(batch(kind), on.rank)) for kind in OTHERS}
torch.save({"norm": normalised(on), **found}, f"{sys.argv[1]}/{on.rank}.pt")
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_losses_gradients_and_statistics_are_those_of_one(tmp_path):
    here = Path(__file__).parent
    (tmp_path / "train.py").write_text(SCRIPT)
    path = os.pathsep.join([str(here), str(here.parents[1]), *sys.path])
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    done = subprocess.run(
        [*command, str(tmp_path / "train.py"), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    two = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    alone = normalised(ONE)
    for name in ("mean", "variance"):
        torch.testing.assert_close(two[1]["norm"][name], alone[name])
    for name in ("out", "back"):
        torch.testing.assert_close(torch.cat([part["norm"][name] for part in two]), alone[name], rtol=1e-4, atol=1e-5)
    for kind in OTHERS:
        whole = stepped(method(kind), batch(kind))
        for found in two:
            assert found[kind].keys() == whole.keys()
            for name, value in whole.items():
                error = (found[kind][name] - value).norm() / value.norm().clamp(min=1e-6)
                assert error < 1e-3 or (found[kind][name] - value).abs().max() < 1e-6, f"{kind}, {name}: {error}"

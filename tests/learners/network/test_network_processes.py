"""Two processes train the network that one does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

from colours import NAMES, coloured
from figment.errors import FigmentError
from figment.learners.network.network import NetworkLearner
from figment.learners.network.settings import NetworkSettings
from figment.learners.processes import Processes, processes

# Without augmentation, whose random numbers are each process's own, and without BatchNorm, whose statistics are.
SETTINGS = NetworkSettings(
    architecture="test_vit", image_size=32, epochs=2, batch_size=8, learning_rate=0.05, crop_scale=None, flip=0.0,
    grad_clip=1.0, ema=0.9, select="validation",
)  # fmt: skip
SCRIPT = """
import sys
from pathlib import Path
from test_network_processes import *
own = NetworkLearner(SETTINGS, NAMES, device="cpu", val=coloured(7, seed=1), folder=Path(sys.argv[1]), checkpoint_seconds=0)
model = own.learn(coloured(24), None, seed=0)
on = processes("cpu")
model.save(Path(sys.argv[1]) / f"rank{on.rank}-of-{on.world_size}")
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_end_with_the_weights_of_one(tmp_path: Path):
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
    alone = NetworkLearner(SETTINGS, NAMES, device="cpu", val=coloured(7, seed=1)).learn(coloured(24), None, seed=0)
    first, second = (safetensors.torch.load_file(tmp_path / f"rank{r}-of-2" / "model.safetensors") for r in (0, 1))
    for name, value in alone.network.module.state_dict().items():
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(first[name], value, rtol=1e-4, atol=1e-5, msg=name)
    assert len(list(tmp_path.glob("*.safetensors"))) == 1  # the checkpoint is one process's


def test_a_batch_is_shared_out_evenly():
    own = NetworkLearner(SETTINGS, NAMES, device="cpu", val=coloured(3))
    three = Processes(0, 3, torch.device("cpu"))
    with pytest.raises(FigmentError, match="batch_size 8 counts the images of 3 processes together.*take 6"):
        own._batch_size(24, three)
    assert own._batch_size(7, Processes(0, 2, torch.device("cpu"))) == 6
    images, two = coloured(24), [Processes(r, 2, torch.device("cpu")) for r in (0, 1)]
    loaders = [own._loader([images], own._order(images, None, 0), 4, own_data(own), on) for on in two]
    seen = [[i for _, index, _ in loader.batches for i in index] for loader in loaders]
    assert sorted(seen[0] + seen[1]) == list(range(24))


def own_data(own: NetworkLearner) -> dict:
    from figment.learners.network.architectures import make

    return make(own.settings, 3).data


def test_one_process_needs_no_launcher(monkeypatch):
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert processes("cpu") == Processes(0, 1, torch.device("cpu"))

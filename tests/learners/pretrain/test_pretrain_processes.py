"""Two processes with half of a batch each have the loss and the gradient of one with all of it."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from colours import NAMES
from figment.learners.pretrain import learner as module
from figment.learners.pretrain.gather import gather
from figment.learners.pretrain.heads import BatchNorm
from figment.learners.pretrain.method import Batch, Method
from figment.learners.processes import Processes, processes
from figment.learners.training import random_numbers_of
from pretrained import KINDS, ONE, batch, method, settings, striped
from warm import launched

GATHER = ("simclr", "stablerep", "stablerep_plus", "clip")
SLOTS = ("stablerep", "stablerep_plus")


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


#: Networks of timm whose norms have their activations in them, and one where they are apart.
NORMED = ("test_efficientnet", "test_byobnet", "test_resnet")


def synchronised(backbone: str, on: Processes) -> nn.Module:
    """As on GPUs, of which there need be none for the conversion."""
    torch.manual_seed(0)
    network = timm.create_model(backbone, num_classes=0)
    return replace(on, device=torch.device("cuda")).synchronised(network)


def by_hand(norm: nn.SyncBatchNorm, x: Tensor) -> Tensor:
    """What torch's SyncBatchNorm does, with the images of all processes in one place: it refuses the CPU."""
    on = processes("cpu")
    statistics = norm.running_mean, norm.running_var
    out = F.batch_norm(gather(x, on), *statistics, norm.weight, norm.bias, True, norm.momentum, norm.eps)
    return out[on.rank * len(x) : (on.rank + 1) * len(x)].clone()


def normed(network: nn.Module, on: Processes) -> dict[str, Tensor]:
    """Features, gradients and statistics of this process's part of eight images."""
    torch.manual_seed(1)
    images, weight = torch.randn(8, 3, 32, 32), torch.randn(8, network.num_features)
    rows = slice(on.rank * 8 // on.world_size, (on.rank + 1) * 8 // on.world_size)
    out = network.train()(images[rows])  # DDP takes no SyncBatchNorm on a CPU either: gradients are added up by hand
    (out * weight[rows]).sum().backward()
    gradients = {f"gradient of {name}": on.sum(p.grad) for name, p in network.named_parameters()}
    statistics = {name: b.clone() for name, b in network.named_buffers() if b.is_floating_point()}
    return {"out": out.detach(), **gradients, **statistics}


SCRIPT = """
import sys
import torch
from test_pretrain_processes import *
on = processes("cpu")
found = {kind: stepped(method(kind, on), part(batch(kind), on.rank)) for kind in KINDS}
for kind in GATHER:
    found[f"{kind} in pieces"] = stepped(method(kind, on, gradient_cache=4), part(batch(kind), on.rank))
for kind in SLOTS:
    found[f"{kind} by slots"] = stepped(method(kind, on, positives="slots"), part(batch(kind), on.rank))
torch.save({"norm": normalised(on), **found}, f"{sys.argv[1]}/{on.rank}.pt")
torch.distributed.destroy_process_group()
"""

NORMS = """
import sys
import torch
from test_pretrain_processes import *
on = processes("cpu")
torch.nn.SyncBatchNorm.forward = by_hand
torch.save({name: normed(synchronised(name, on), on) for name in NORMED}, f"{sys.argv[1]}/{on.rank}.pt")
torch.distributed.destroy_process_group()
"""


def of_two(script: str, folder: Path) -> list[dict[str, dict[str, Tensor]]]:
    """What each of two processes that run a script has saved."""
    launched(2, script, folder, path=[Path(__file__).parent])
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.mark.slow
def test_losses_gradients_and_statistics_are_those_of_one(tmp_path):
    two, alone = of_two(SCRIPT, tmp_path), normalised(ONE)
    for name in ("mean", "variance"):
        torch.testing.assert_close(two[1]["norm"][name], alone[name])
    for name in ("out", "back"):
        torch.testing.assert_close(torch.cat([part["norm"][name] for part in two]), alone[name], rtol=1e-4, atol=1e-5)
    for kind in KINDS:
        whole = stepped(method(kind), batch(kind))
        for found in two:
            same(found[kind], whole, kind)
            if kind in GATHER:
                same(found[f"{kind} in pieces"], whole, f"{kind} in pieces")
    for kind in SLOTS:
        whole = stepped(method(kind, positives="slots"), batch(kind))
        for found in two:
            same(found[f"{kind} by slots"], whole, f"{kind} by slots")


@pytest.mark.slow
def test_norms_of_many_gpus_are_those_of_the_whole_batch(tmp_path):
    two = of_two(NORMS, tmp_path)
    for name in NORMED:
        torch.manual_seed(0)
        whole = normed(timm.create_model(name, num_classes=0), ONE)
        out = whole.pop("out")
        torch.testing.assert_close(torch.cat([part[name].pop("out") for part in two]), out, rtol=1e-3, atol=1e-4)
        for found in two:  # what only moves the mean that a norm takes away has a gradient of rounding
            same(found[name], whole, name, rounding=1e-4)


def same(found: dict[str, Tensor], whole: dict[str, Tensor], what: str, rounding: float = 1e-6) -> None:
    assert found.keys() == whole.keys()
    for name, value in whole.items():
        error = (found[name] - value).norm() / value.norm().clamp(min=1e-6)
        assert error < 1e-3 or (found[name] - value).abs().max() < rounding, f"{what}, {name}: {error}"


@pytest.mark.parametrize("backbone", NORMED)
def test_networks_keep_their_activations_on_many_gpus(backbone: str):
    """torch's own conversion drops those that are in timm's norms."""
    torch.manual_seed(0)
    network = timm.create_model(backbone, num_classes=0).eval()
    many, images = synchronised(backbone, Processes(0, 2, torch.device("cuda"))), torch.randn(2, 3, 32, 32)
    assert any(isinstance(m, nn.SyncBatchNorm) for m in many.modules())
    assert torch.equal(many.eval()(images), network(images))
    alone, on_cpu = Processes(0, 1, torch.device("cuda")), Processes(0, 2, torch.device("cpu"))
    assert all(on.synchronised(network) is network for on in (alone, on_cpu))
    assert not any(isinstance(m, nn.SyncBatchNorm) for m in network.modules())


class Killed(BaseException):
    """As a signal is: nobody catches it."""


#: By SGD: AdamW makes steps of what is nothing but rounding.
SHORT = {"steps": 4, "optimizer": "sgd", "learning_rate": 0.4, "grad_clip": None, "warmup": 0.0}
CONTINUED = ("simclr", "stablerep", "moco", "mae", "synclr")


def taken_on(kind: str, folder: Path, steps: int) -> tuple[list[dict[str, Any]], dict[str, Tensor]] | None:
    """Go on with a training for so many steps, on as many processes as there are; at its end its history and weights."""
    taken, step = [], module.PretrainLoop._update

    def until(loop: module.PretrainLoop, *shown: Any) -> Tensor:
        if len(taken) == steps:
            raise Killed
        taken.append(0)
        return step(loop, *shown)

    own = module.PretrainLearner(
        settings(kind, **SHORT), NAMES, striped(20, 5), folder=folder / kind, device="cpu", checkpoint_seconds=0
    )
    module.PretrainLoop._update = until
    try:
        model = own.backbone(striped(24), None, 1)
    except Killed:
        return None
    finally:
        module.PretrainLoop._update = step
    assert len(taken) == steps  # no more than were left
    return model.history, model.network.module.state_dict()


GO_ON = """
import sys
import torch
from test_pretrain_processes import *
on = processes("cpu")
folder, steps = Path(sys.argv[1]), int(sys.argv[2])
found = {kind: taken_on(kind, folder, steps) for kind in CONTINUED}
torch.save(found, f"{folder}/{on.rank}.pt")
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
@pytest.mark.parametrize("first", [1, 2])
def test_a_training_goes_on_with_another_number_of_processes(first: int, tmp_path):
    """Killed on one and taken on by two, or the other way about: the same, but for rounding, as on one from start to end."""
    whole = {kind: taken_on(kind, tmp_path / "whole", 4) for kind in CONTINUED}
    if first == 1:
        assert {taken_on(kind, tmp_path, 2) for kind in CONTINUED} == {None}
        launched(2, GO_ON, tmp_path, 2, path=[Path(__file__).parent])
        found = torch.load(tmp_path / "1.pt", weights_only=True)
    else:
        launched(2, GO_ON, tmp_path, 2, path=[Path(__file__).parent])
        assert set(torch.load(tmp_path / "0.pt", weights_only=True).values()) == {None}
        found = {kind: taken_on(kind, tmp_path, 2) for kind in CONTINUED}
    for kind in CONTINUED:
        (own, weights), (expected, others) = found[kind], whole[kind]
        for one, other in zip(own, expected, strict=True):
            assert one["loss"] == pytest.approx(other["loss"], rel=1e-4), kind
            assert one["alignment"] == pytest.approx(other["alignment"], rel=1e-2), kind
        same(weights, others, kind, rounding=1e-5)

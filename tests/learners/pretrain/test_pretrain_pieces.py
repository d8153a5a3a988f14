"""A batch that the backbone takes in pieces gives what the whole batch gives, in less memory."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import timm
import torch
from torch import Tensor, nn

from figment.errors import FigmentError
from figment.learners.pretrain.backbone import with_checkpoints
from figment.learners.pretrain.pieces import in_pieces
from figment.learners.training import random_numbers_of
from pretrained import KINDS, batch, method

PIECE = 5  # at most: twelve are taken in three of four


def trained(kind: str, **changed) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Of a method: its first loss and gradients, and its state after two steps of SGD."""
    own, shown = method(kind, **changed), batch(kind)
    optimizer, first = torch.optim.SGD([p for p in own.parameters() if p.requires_grad], 2e-3), {}
    for step in range(2):
        optimizer.zero_grad()
        with random_numbers_of(step):
            loss = own(shown)
        loss.backward()
        gradients = {name: p.grad.clone() for name, p in own.named_parameters() if p.grad is not None}
        first = first or {"loss": loss.detach(), **gradients}
        optimizer.step()
        own.after_step((step + 1) / 2)
    return first, own.state_dict()


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_those_of_the_whole_batch(kind: str):
    """BatchNorm is in the projectors alone, which see all features at once."""
    (first, state), (own_first, own_state) = trained(kind), trained(kind, gradient_cache=PIECE)
    assert first.keys() == own_first.keys()
    for name, value in first.items():
        error = own_first[name] - value  # a bias before a BatchNorm has a gradient of rounding alone
        assert error.norm() < 1e-4 * value.norm() or error.abs().max() < 1e-6, f"{name}: {error.norm() / value.norm()}"
    for name, value in state.items():
        torch.testing.assert_close(own_state[name], value, rtol=0, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")


def test_mixed_precision_goes_with_pieces():
    found = []
    for piece in (None, PIECE):
        own, shown = method("stablerep", gradient_cache=piece), batch("stablerep")
        with torch.autocast("cpu", torch.bfloat16):
            loss = own(shown)
        loss.backward()
        found.append([loss.detach(), own.backbone.blocks[0].mlp.fc1.weight.grad])
    for whole, pieces in zip(*found, strict=True):
        assert (pieces - whole).norm() < 0.02 * whole.norm()


def small_vit(**options) -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model("test_vit", num_classes=0, img_size=32, patch_size=8, **options)


def test_dropout_is_the_same_when_a_piece_is_run_again():
    vit, images = small_vit(drop_path_rate=0.5), torch.randn(12, 3, 32, 32)
    weight = torch.randn(12, vit.num_features)

    def gradients(features: Callable[[], Tensor], seed: int) -> list[Tensor]:
        vit.zero_grad()
        torch.manual_seed(seed)
        (features() * weight).sum().backward()
        return [p.grad.clone() for p in vit.parameters() if p.grad is not None]

    def kept() -> Tensor:
        return torch.cat([vit(some) for some in images.tensor_split(3)])

    expected = gradients(kept, 3)
    torch.testing.assert_close(gradients(lambda: in_pieces(vit, vit, PIECE, images), 3), expected, rtol=1e-5, atol=1e-6)
    assert not all(torch.allclose(a, b) for a, b in zip(gradients(kept, 4), expected, strict=True))  # it matters


@pytest.mark.parametrize("backbone", ["test_resnet", "test_efficientnet"])
def test_batch_norm_counts_a_piece_once(backbone: str):
    """Its statistics are those of each piece, as where the pieces are batches of their own."""
    own, images = timm.create_model(backbone, num_classes=0).train(), torch.randn(12, 3, 32, 32)
    once = copy.deepcopy(own)
    expected = torch.cat([once(some) for some in images.tensor_split(3)])
    found = in_pieces(own, own, PIECE, images)
    expected.square().sum().backward()
    found.square().sum().backward()
    torch.testing.assert_close(found, expected)
    for (name, value), other in zip(own.state_dict().items(), once.state_dict().values(), strict=True):
        assert torch.equal(value, other), name
    for a, b in zip(own.parameters(), once.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-5)
    own(images)  # and they move again afterwards
    assert not torch.equal(own.bn1.running_mean, once.bn1.running_mean)


@pytest.mark.parametrize(("n", "piece"), [(13, 12), (13, 4), (7, 3), (4, 3)])
def test_no_image_is_left_over_for_batch_norm(n: int, piece: int):
    norm, sizes = nn.BatchNorm1d(2), []

    def seen(x: Tensor) -> Tensor:
        sizes.append(len(x))
        return norm(x)

    assert in_pieces(seen, norm, piece, torch.randn(n, 2)).shape == (n, 2)
    assert sum(sizes) == n and min(sizes) >= 2 and max(sizes) <= piece


def peak(work: Callable[[], object]) -> int:
    """The most bytes that torch holds at a time beside those it held before."""
    with torch.autograd.profiler.profile(profile_memory=True) as profile:
        work()
    events = sorted((e for e in profile.kineto_results.events() if e.name() == "[memory]"), key=lambda e: e.start_ns())
    most = held = 0
    for event in events:
        held += event.nbytes()
        most = max(most, held)
    return most


def test_memory_falls():
    vit, images = small_vit(), torch.randn(96, 3, 32, 32)

    def step(piece: int | None) -> None:
        in_pieces(vit, vit, piece, images).square().sum().backward()

    step(None)  # gradients are there from now on
    assert peak(lambda: step(4)) < 0.25 * peak(lambda: step(None))


@pytest.mark.parametrize("kind", ["simclr", "mae", "synclr"])
def test_gradient_checkpointing_changes_nothing_but_memory(kind: str):
    """Also in those that take a ViT apart."""
    own, shown, runs = method(kind), batch(kind), []
    own.backbone.blocks[0].register_forward_pre_hook(lambda *_: runs.append(0))
    found = []
    for _ in range(2):
        own.zero_grad()
        with random_numbers_of(0):
            loss = own(shown)
        loss.backward()
        found.append([loss.detach(), *(p.grad.clone() for p in own.parameters() if p.grad is not None)])
        runs.append(1)
        with_checkpoints(own.backbone, "test_vit")
    plain, checkpointed = runs.index(1), len(runs) - runs.index(1) - 2
    assert checkpointed == 2 * plain
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_networks_without_checkpoints_are_told():
    for network in (timm.create_model("dla46_c", num_classes=0), nn.Linear(2, 2)):
        with pytest.raises(
            FigmentError, match=r"gradient_checkpointing: so_named has none in timm.*gradient_cache: 32"
        ):
            with_checkpoints(network, "so_named")

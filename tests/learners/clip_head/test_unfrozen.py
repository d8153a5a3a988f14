"""Tuning with the encoder in the loop, against training on cached features and against loops written down."""

from __future__ import annotations

import copy
import math
import sys
from functools import partial

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.nn import functional as F

import tiny
from figment.checkpoint import Checkpoint
from figment.encoders import ClipEncoder, Features, OpenClipEncoder, Towers, open_encoder
from figment.errors import FigmentError
from figment.images_in import Unreadable, open_images
from figment.learners.clip_head import pixels as pixels_module
from figment.learners.clip_head import unfrozen as unfrozen_module
from figment.learners.clip_head.augment import random_views, view_seed
from figment.learners.clip_head.head import Head, zero_shot_head
from figment.learners.clip_head.mix import tune_mixed
from figment.learners.clip_head.settings import MixSettings, UnfrozenSettings
from figment.learners.clip_head.tune import tune, tune_few_shot
from figment.learners.clip_head.unfrozen import UnfrozenTuned, from_output, identity_of, tune_unfrozen, wise_ft
from figment.learners.training import schedule

pytestmark = pytest.mark.slow

NAMES = ["red thing", "green thing", "blue thing"]
SETTINGS = MixSettings(epochs=3, batch_size=5, real_batch_size=4)


@pytest.fixture(scope="module")
def vit(clip) -> ClipEncoder:
    return ClipEncoder(str(clip), device="cpu")


@pytest.fixture(scope="module")
def resnet(tmp_path_factory) -> OpenClipEncoder:
    return OpenClipEncoder(
        str(tiny.open_clip_folder(tmp_path_factory.mktemp("rn") / "rn", "resnet", own_tokenizer=True)), "cpu"
    )


@pytest.fixture(scope="module")
def open_vit(tmp_path_factory) -> OpenClipEncoder:
    return OpenClipEncoder(
        str(tiny.open_clip_folder(tmp_path_factory.mktemp("vit") / "vit", "vit", own_tokenizer=True)), "cpu"
    )


@pytest.fixture(scope="module")
def made(photos):
    """18 images in the place of generated ones."""
    return open_images(photos / "train", NAMES)


@pytest.fixture(scope="module")
def real(photos):
    return open_images(photos / "val", NAMES).take(np.arange(0, 12, 2))


def start(encoder: Towers) -> Head:
    head = zero_shot_head(encoder, NAMES, ["a photo of a {}"])
    with torch.no_grad():
        head.linear.weight *= 0.1  # random towers: else the losses are as large as 100
    return head


def state(encoder: Towers) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in encoder.image_tower.state_dict().items()}


def changed(encoder: Towers, tuned: UnfrozenTuned) -> set[str]:
    after = tuned.encoder.image_tower.state_dict()
    return {name for name, value in encoder.image_tower.state_dict().items() if not torch.equal(value, after[name])}


def is_close(one: Head, two: Head, **tolerance: float) -> bool:
    tolerance = {"atol": 1e-4, **tolerance}
    return all(torch.allclose(a, b, **tolerance) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def data(encoder: Towers, images) -> tuple[np.ndarray, np.ndarray]:
    return Features(encoder)(images), images.labels


# ---- the head alone: the same as on cached features ------------------------------------------------------------------


@pytest.mark.parametrize("which", ["vit", "resnet"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"symmetric_temperature": True, "label_smoothing": 0.1},
        {"warmup_steps": 4, "soft_weight": 0.0},
        {"hard_pseudo_labels": True},
    ],
)
def test_generated_images_alone(which, changes, made, request):
    encoder = request.getfixturevalue(which)
    s = SETTINGS.model_copy(update=changes)
    own = tune_unfrozen(encoder, start(encoder), s, UnfrozenSettings(micro_batch=3), 1, synthetic=made, real=None)
    twin = tune(start(encoder), *data(encoder, made), s, 1)
    assert is_close(own.head, twin.head) and not is_close(own.head, start(encoder))
    for a, b in zip(own.history, twin.history, strict=True):
        assert list(a) == list(b) and list(a.values())[:3] == pytest.approx(list(b.values())[:3], rel=1e-4)
    assert not changed(encoder, own)


@pytest.mark.parametrize("order", ["mix", "synthetic_then_real", "real_then_synthetic"])
def test_both_kinds(order, vit, made, real):
    s = SETTINGS.model_copy(update={"order": order, "real_weight": 0.8, "synthetic_weight": 0.3})
    own = tune_unfrozen(vit, start(vit), s, UnfrozenSettings(), 1, synthetic=made, real=real)
    twin = tune_mixed(start(vit), data(vit, real), data(vit, made), s, 1)
    assert is_close(own.head, twin.head)
    assert [h["loss"] for h in own.history] == pytest.approx([h["loss"] for h in twin.history], rel=1e-4)


def test_real_images_alone(vit, real):
    s = MixSettings(epochs=2, min_steps=60)
    own = tune_unfrozen(vit, start(vit), s, UnfrozenSettings(), 1, synthetic=None, real=real)
    twin = tune_few_shot(start(vit), *data(vit, real), 1, s)
    assert is_close(own.head, twin, atol=1e-3) and len(own.history) == 60


def test_images_that_do_not_fit_into_memory_are_read_again(vit, made, monkeypatch):
    runs = []
    for most in (2**30, 0):
        monkeypatch.setattr(pixels_module, "PIXEL_BYTES", most)
        runs.append(tune_unfrozen(vit, start(vit), SETTINGS, UnfrozenSettings(), 1, synthetic=made, real=None).head)
    assert is_close(*runs, atol=1e-6)


@pytest.mark.parametrize("select", ["validation", "test_best"])
def test_the_best_epoch_on_validation_images(vit, made, real, select):
    s = SETTINGS.model_copy(update={"select": select, "epochs": 6, "learning_rate": 0.05})
    unfrozen = UnfrozenSettings(trainable_fraction=1.0, learning_rate=0.05)
    tuned = tune_unfrozen(vit, start(vit), s, unfrozen, 4, synthetic=made, real=None, val=real)
    best = max(h["val_accuracy"] for h in tuned.history)
    assert tuned.history[-1]["val_accuracy"] < best  # or the last epoch would do as well
    found = tuned.head.predict(Features(tuned.encoder)(real)).argmax(1)
    assert (found == real.labels).mean() == pytest.approx(best)
    with pytest.raises(FigmentError, match=f"select: {select}"):
        tune_unfrozen(vit, start(vit), s, unfrozen, 1, synthetic=made, real=None)


# ---- BatchNorm -------------------------------------------------------------------------------------------------------


def norms(encoder: Towers) -> dict[str, torch.Tensor]:
    return {name: value for name, value in state(encoder).items() if "running" in name or "num_batches" in name}


def naive_live(encoder: Towers, head: Head, made, real, s: MixSettings, seed: int) -> tuple[nn.Module, Head]:
    """The head on an encoder whose BatchNorm layers are in train mode, with nothing else changed: torch's own pieces."""
    tower, head, teacher = copy.deepcopy(encoder.image_tower), copy.deepcopy(head), copy.deepcopy(head)
    x, y = encoder.pixels(made.load(range(len(made)))), torch.tensor(made.labels)
    rx, ry = encoder.pixels(real.load(range(len(real)))), torch.tensor(real.labels)
    with torch.no_grad():
        soft = (teacher(encoder.image_tower(x)) / s.temperature).softmax(-1)
    tower.train()
    optimizer = torch.optim.AdamW(head.parameters(), weight_decay=s.weight_decay)
    order, real_order = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(seed + 1)
    waiting: list[torch.Tensor] = []
    total, step = s.epochs * math.ceil(len(x) / s.batch_size), 0
    for _ in range(s.epochs):
        for batch in torch.randperm(len(x), generator=order).split(s.batch_size):
            if not waiting:
                waiting = list(torch.randperm(len(rx), generator=real_order).split(s.real_batch_size))
            own = waiting.pop(0)
            with torch.no_grad():
                features, real_features = tower(x[batch]), tower(rx[own])
            logits = head(features)
            loss = F.cross_entropy(head(real_features), ry[own])
            loss = loss + s.soft_weight * F.cross_entropy(logits, soft[batch])
            loss = loss + (1 - s.soft_weight) * F.cross_entropy(logits, y[batch])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(head.parameters(), s.grad_clip)
            optimizer.param_groups[0]["lr"] = s.learning_rate * 0.5 * (1 + math.cos(math.pi * step / total))
            optimizer.step()
            step += 1
    return tower, head


def test_live_statistics_are_those_of_the_loop_written_down(resnet, made, real):
    before = norms(resnet)
    own = tune_unfrozen(
        resnet, start(resnet), SETTINGS, UnfrozenSettings(batch_norm="train"), 1, synthetic=made, real=real
    )
    tower, head = naive_live(resnet, start(resnet), made, real, SETTINGS, 1)
    statistics = norms(own.encoder)
    for name, value in statistics.items():
        assert torch.allclose(value, tower.state_dict()[name], atol=1e-5), name
    assert all(not torch.equal(value, before[name]) for name, value in statistics.items())
    assert statistics["visual.bn1.num_batches_tracked"] == 3 * 4 * 2  # epochs, steps, kinds
    assert is_close(own.head, head, atol=1e-3)
    assert changed(resnet, own) == set(statistics)  # the weights are frozen
    assert not own.encoder.image_tower.training


def test_frozen_statistics_stay_bit_for_bit_though_the_weights_are_tuned(resnet, made):
    unfrozen = UnfrozenSettings(trainable_fraction=1.0, learning_rate=1e-3)
    tuned = tune_unfrozen(resnet, start(resnet), SETTINGS, unfrozen, 1, synthetic=made, real=None)
    before, after = norms(resnet), norms(tuned.encoder)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert changed(resnet, tuned) == set(state(resnet)) - set(before)


def test_live_needs_batch_norm(vit, made):
    with pytest.raises(FigmentError, match="has none"):
        tune_unfrozen(vit, start(vit), SETTINGS, UnfrozenSettings(batch_norm="train"), 1, synthetic=made, real=None)


# ---- which weights are tuned -----------------------------------------------------------------------------------------


def names_of(tower: nn.Module, share: float) -> list[str]:
    chosen = {id(p) for p in from_output(tower, share)}
    return [name for name, p in tower.named_parameters() if id(p) in chosen]


def test_modules_are_counted_from_the_output_end(vit, open_vit, resnet):
    for encoder in (vit, open_vit, resnet):
        assert names_of(encoder.image_tower, 0.0) == []
        assert names_of(encoder.image_tower, 1.0) == [name for name, _ in encoder.image_tower.named_parameters()]
    assert names_of(vit.image_tower, 1e-6) == ["projection.weight"]
    assert names_of(open_vit.image_tower, 1e-6) == ["visual.proj"]
    half = names_of(vit.image_tower, 0.3)
    assert {name.partition(".layers.")[2][:1] for name in half if "layers" in name} == {"1"}
    assert sum("layers.1." in name for name in half) == 16  # all of the block
    blocks = {".".join(name.split(".")[:3]) for name in names_of(resnet.image_tower, 0.9) if "layer" in name}
    assert blocks == {f"visual.layer{i}.0" for i in range(min(int(b[12]) for b in blocks), 5)}


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_share_is_what_was_tuned(share, vit, made):
    unfrozen = UnfrozenSettings(trainable_fraction=share, learning_rate=1e-3)
    s = SETTINGS.model_copy(update={"weight_decay": 0.5})  # so that weights without a gradient move too
    tuned = tune_unfrozen(vit, start(vit), s, unfrozen, 1, synthetic=made, real=None)
    sizes = {name: p.numel() for name, p in vit.image_tower.named_parameters()}
    moved, head = sum(sizes[name] for name in changed(vit, tuned)), 3 * 32 + 3
    assert tuned.trainable_fraction == pytest.approx((moved + head) / (sum(sizes.values()) + head))
    assert moved / sum(sizes.values()) >= share and (share == 1.0) == (tuned.trainable_fraction == 1.0)


def test_end_to_end_is_the_loop_written_down(vit, made):
    unfrozen = UnfrozenSettings(trainable_fraction=1.0, learning_rate=3e-3, micro_batch=2)
    s = SETTINGS.model_copy(update={"soft_weight": 0.0, "warmup_steps": 2, "grad_clip": 0.2})
    own = tune_unfrozen(vit, start(vit), s, unfrozen, 1, synthetic=made, real=None)
    tower, head = copy.deepcopy(vit.image_tower).train(), start(vit)
    x, y = vit.pixels(made.load(range(len(made)))), torch.tensor(made.labels)
    optimizer = torch.optim.AdamW(
        [{"params": head.parameters()}, {"params": tower.parameters()}], weight_decay=s.weight_decay
    )
    rates, order = iter(schedule(1.0, 2, 12)), torch.Generator().manual_seed(1)
    for _ in range(3):
        for batch in torch.randperm(18, generator=order).split(5):
            rate = next(rates)
            optimizer.param_groups[0]["lr"], optimizer.param_groups[1]["lr"] = rate * s.learning_rate, rate * 3e-3
            optimizer.zero_grad()
            F.cross_entropy(head(tower(x[batch])), y[batch]).backward()
            nn.utils.clip_grad_norm_([*head.parameters(), *tower.parameters()], s.grad_clip)
            optimizer.step()
    assert is_close(own.head, head, atol=1e-3)
    with torch.no_grad():
        expected, before = F.normalize(tower.eval()(x), dim=-1), F.normalize(vit.image_tower(x), dim=-1)
    found = torch.tensor(Features(own.encoder)(made))
    assert (found - expected).abs().max() < 0.01 * (before - expected).abs().max()


# ---- LoRA ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("which", "touched"), [("vit", 8), ("open_vit", 4)])
def test_lora_is_merged_into_the_attention_layers(which, touched, made, request, tmp_path):
    encoder = request.getfixturevalue(which)
    unfrozen = UnfrozenSettings(lora_rank=2, learning_rate=1e-2)
    tuned = tune_unfrozen(encoder, start(encoder), SETTINGS, unfrozen, 1, synthetic=made, real=None)
    layers = changed(encoder, tuned)
    assert len(layers) == touched and all(name.endswith("weight") and "attn" in name for name in layers)
    before, after = state(encoder), state(tuned.encoder)
    names = {name for name, _ in encoder.image_tower.named_parameters()}
    assert {name for name, _ in tuned.encoder.image_tower.named_parameters()} == names and set(before) == set(after)
    for name in layers:  # three of them lie on top of each other in torch's own layer
        assert torch.linalg.matrix_rank((after[name] - before[name]).double(), rtol=1e-3) <= 2
    n_head = 3 * encoder.n_features + 3
    own = sum(2 * sum(before[name].shape) for name in layers)
    total = sum(p.numel() for p in encoder.image_tower.parameters()) + n_head
    assert tuned.trainable_fraction == pytest.approx((own + n_head) / total)
    tuned.encoder.save(tmp_path / "saved")
    opened = open_encoder(str(tmp_path / "saved"), "cpu")
    assert np.allclose(Features(opened)(made), Features(tuned.encoder)(made), atol=1e-5)
    assert not np.allclose(Features(opened)(made), Features(encoder)(made), atol=1e-3)


def test_lora_needs_attention_layers_and_peft(resnet, vit, made, monkeypatch):
    unfrozen = UnfrozenSettings(lora_rank=2)
    with pytest.raises(FigmentError, match="attention layers"):
        tune_unfrozen(resnet, start(resnet), SETTINGS, unfrozen, 1, synthetic=made, real=None)
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(FigmentError, match=r"figment-vision\[finetune\]"):
        tune_unfrozen(vit, start(vit), SETTINGS, unfrozen, 1, synthetic=made, real=None)


# ---- the rest --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{"trainable_fraction": 0.5}, {"lora_rank": 2}, {"augment": True}])
def test_a_seed_gives_the_same_weights_and_nothing_else_is_touched(changes, vit, made, real):
    unfrozen = UnfrozenSettings(learning_rate=1e-3, **changes)
    head, before, random = start(vit), state(vit), torch.get_rng_state()
    one, two, other = (tune_unfrozen(vit, head, SETTINGS, unfrozen, i, synthetic=made, real=real) for i in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), random)
    assert is_close(one.head, two.head, atol=0, rtol=0) and not is_close(one.head, other.head, atol=0, rtol=0)
    assert not changed(one.encoder, two)
    assert one.encoder.fingerprint == two.encoder.fingerprint
    assert len({vit.fingerprint, one.encoder.fingerprint, other.encoder.fingerprint}) == 3
    assert is_close(head, start(vit), atol=0, rtol=0)
    assert all(torch.equal(value, before[name]) for name, value in state(vit).items())
    assert all(p.requires_grad and p.grad is None for p in one.encoder.image_tower.parameters())


def test_augmentation_changes_what_is_learnt(vit, made):
    plain, cropped = (
        tune_unfrozen(vit, start(vit), SETTINGS, UnfrozenSettings(augment=on), 1, synthetic=made, real=None)
        for on in (False, True)
    )
    assert not is_close(plain.head, cropped.head, atol=1e-5) and not changed(vit, cropped)


@pytest.mark.parametrize("which", ["vit", "resnet"])
def test_augmented_images_are_other_crops_in_every_step(which, made, request):
    encoder = request.getfixturevalue(which)
    source = pixels_module.Pixels(encoder, made, (0.5, 0.7), 8)
    index = torch.tensor([4, 2])
    one, again, later = source(index, 0), source(index, 0), source(index, 1)
    crops = [random_views(made.load([i])[0], 1, 32, (0.5, 0.7), view_seed(8, 0, i))[0] for i in (4, 2)]
    assert torch.allclose(one, encoder.pixels(crops), atol=1e-5)
    assert torch.equal(one, again) and not torch.allclose(one, later)
    assert torch.equal(source(index.flip(0), 0), one.flip(0))  # whatever else is in the batch


def test_wise_ft_goes_from_the_start_to_the_end(vit, made):
    head = start(vit)
    tuned = tune_unfrozen(
        vit, head, SETTINGS, UnfrozenSettings(trainable_fraction=1.0, learning_rate=1e-3), 1, synthetic=made, real=None
    )
    first, middle, last = (wise_ft(vit, head, tuned, alpha) for alpha in (0.0, 0.5, 1.0))
    assert not changed(vit, first) and is_close(first.head, head, atol=0, rtol=0)
    assert not changed(tuned.encoder, last) and is_close(last.head, tuned.head, atol=0, rtol=0)
    for name, value in state(middle.encoder).items():
        assert torch.allclose(value, (state(vit)[name] + state(tuned.encoder)[name]) / 2, atol=1e-6)
    fingerprints = {e.fingerprint for e in (vit, tuned.encoder, first.encoder, middle.encoder, last.encoder)}
    assert len(fingerprints) == 5


def test_half_precision_is_trained_in_single(clip, made):
    half = ClipEncoder(str(clip), device="cpu", dtype="bfloat16")
    tuned = tune_unfrozen(
        half, start(half), SETTINGS, UnfrozenSettings(trainable_fraction=1.0), 1, synthetic=made, real=None
    )
    assert {p.dtype for p in tuned.encoder.image_tower.parameters()} == {torch.float32}
    assert {p.dtype for p in half.image_tower.parameters()} == {torch.bfloat16}
    assert Features(tuned.encoder)(made).shape == (18, 32)
    middle = wise_ft(half, start(half), tuned, 0.5)
    assert {p.dtype for p in middle.encoder.image_tower.parameters()} == {torch.float32}


@pytest.mark.parametrize("changes", [{"augment": True}, {"trainable_fraction": 0.5}])
def test_other_processes_prepare_the_same_images_ahead_of_the_steps(changes, vit, made, real, monkeypatch):
    unfrozen, runs = UnfrozenSettings(learning_rate=1e-3, micro_batch=3, **changes), []
    monkeypatch.setattr(pixels_module, "PIXEL_BYTES", 0)
    processes: list[set[int]] = []
    portions = unfrozen_module._Learner._portions

    def seen(self, part, batch, prepared):
        processes[-1].add(0 if prepared is None else len(prepared))
        return portions(self, part, batch, prepared)

    monkeypatch.setattr(unfrozen_module._Learner, "_portions", seen)
    for workers in (0, 2):
        processes.append(set())
        monkeypatch.setattr(pixels_module, "usual_workers", lambda device, n=workers: n)
        runs.append(tune_unfrozen(vit, start(vit), SETTINGS, unfrozen, 3, synthetic=made, real=real))
    assert is_close(runs[0].head, runs[1].head, atol=0, rtol=0) and not changed(runs[0].encoder, runs[1])
    assert runs[0].history == runs[1].history
    assert processes == [{5, 4, 3, 2}] * 2  # batches of 5 and 4, and what is left of each kind


def test_an_image_that_cannot_be_read_is_the_users_error_whoever_reads_it(vit, made, monkeypatch):
    monkeypatch.setattr(pixels_module, "PIXEL_BYTES", 0)
    monkeypatch.setattr(pixels_module, "usual_workers", lambda device: 2)

    def unreadable(self, index, step):
        raise Unreadable("red/3.png", "it is cut off")

    monkeypatch.setattr(pixels_module.Pixels, "prepared", unreadable)
    with pytest.raises(Unreadable, match="cut off"):
        tune_unfrozen(vit, start(vit), SETTINGS, UnfrozenSettings(), 1, synthetic=made, real=None)


def test_the_forward_pass_alone_is_in_bfloat16_where_that_is_asked_for(vit, made):
    asked, types = {"trainable_fraction": 1.0, "learning_rate": 1e-3}, []
    own = copy.deepcopy(vit)
    own.image_tower.projection.register_forward_hook(lambda module, given, found: types.append(found.dtype))
    plain, single, half = (
        tune_unfrozen(own, start(vit), SETTINGS, UnfrozenSettings(**asked, **more), 1, synthetic=made, real=None)
        for more in ({}, {"precision": "float32"}, {"precision": "bfloat16"})
    )
    assert (
        torch.bfloat16 in types[-4:] and types[-1] == torch.bfloat16 and torch.bfloat16 not in types[: len(types) // 2]
    )
    assert is_close(plain.head, single.head, atol=0, rtol=0) and not changed(plain.encoder, single)
    assert changed(plain.encoder, half) and is_close(plain.head, half.head, atol=0.05)
    assert {p.dtype for p in half.encoder.image_tower.parameters()} == {torch.float32}
    assert half.history[-1]["loss"] == pytest.approx(plain.history[-1]["loss"], rel=0.05)


def test_trainings_from_before_there_was_a_precision_keep_their_names():
    """Those in float32, which is what they were in; others are another model, also where nobody said so."""
    cpu, own = torch.device("cpu"), UnfrozenSettings()
    assert "precision" not in identity_of(own, cpu) and "micro_batch" in identity_of(own, cpu)
    assert identity_of(own.model_copy(update={"precision": "float32"}), cpu) == identity_of(own, cpu)
    assert identity_of(own.model_copy(update={"precision": "bfloat16"}), cpu)["precision"] == "bfloat16"


class Small(nn.Module):
    """A tower in too small a memory: more than ``most`` images do not fit."""

    def __init__(self, tower: nn.Module, most: int, error: Exception | None = None):
        super().__init__()
        self.tower, self.most = tower, most
        self.error = error or torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(x) > self.most:
            raise self.error
        return self.tower(x)


@pytest.mark.parametrize("error", [None, RuntimeError("GET was unable to find an engine to execute this computation")])
def test_portions_are_halved_until_they_fit(error, vit, resnet, made, real):
    unfrozen = UnfrozenSettings(trainable_fraction=1.0, learning_rate=1e-3)
    small = copy.deepcopy(vit)
    small.image_tower, small.batch_size = Small(small.image_tower, 2, error), 2
    one, two = (tune_unfrozen(e, start(vit), SETTINGS, unfrozen, 1, synthetic=made, real=real) for e in (vit, small))
    assert is_close(one.head, two.head, atol=1e-3)
    rn = copy.deepcopy(resnet)
    rn.image_tower, rn.batch_size = Small(rn.image_tower, 2, error), 2
    with pytest.raises(
        FigmentError, match=r"^Out of memory while .* was tuned on cpu \(.*\)\. Lower unfrozen\.micro_batch"
    ):
        tune_unfrozen(rn, start(rn), SETTINGS, UnfrozenSettings(batch_norm="train"), 1, synthetic=made, real=None)


def test_one_image_that_does_not_fit_in_training_is_said(vit, made, monkeypatch):
    def full(self, part, batch, prepared):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    monkeypatch.setattr(unfrozen_module._Learner, "_portions", full)
    unfrozen = UnfrozenSettings(trainable_fraction=0.5, precision="float32")
    lighter = "Set unfrozen.precision: bfloat16, lower unfrozen.trainable_fraction, or choose a smaller encoder."
    with pytest.raises(FigmentError, match=rf"was tuned on cpu \(CUDA out of memory\. Tried.*\)\. {lighter}"):
        tune_unfrozen(vit, start(vit), SETTINGS, unfrozen, 1, synthetic=made, real=None)
    with pytest.raises(FigmentError, match=r"20\.00 GiB\)\. Choose a smaller encoder\.$"):
        tune_unfrozen(vit, start(vit), SETTINGS, UnfrozenSettings(), 1, synthetic=made, real=None)


def test_what_cannot_be_is_said(vit, made):
    with pytest.raises(FigmentError, match="nothing to learn from"):
        tune_unfrozen(vit, start(vit), SETTINGS, UnfrozenSettings(), 1, synthetic=None, real=None)
    with pytest.raises(FigmentError, match="labels run from 0 to 2"):
        two = Head(n_features=32, n_classes=2)
        tune_unfrozen(vit, two, SETTINGS, UnfrozenSettings(), 1, synthetic=made, real=None)
    with pytest.raises(ValidationError, match="set one of the two to 0"):
        UnfrozenSettings(trainable_fraction=0.5, lora_rank=4)
    with pytest.raises(ValidationError, match="crop_scale"):
        UnfrozenSettings(crop_scale=(0.9, 0.5))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("changes", [{"trainable_fraction": 0.5}, {"lora_rank": 2, "augment": True}])
def test_a_killed_training_goes_on_to_the_same_weights(changes, workers, vit, made, real, tmp_path, monkeypatch):
    unfrozen, taken = UnfrozenSettings(learning_rate=1e-3, **changes), []

    def tuned(folder=None):
        return tune_unfrozen(vit, start(vit), SETTINGS, unfrozen, 3, synthetic=made, real=real, folder=folder)

    def dies(self, parts, batches):
        taken.append(len(batches))
        if len(taken) == 6:  # in the second epoch
            raise KeyboardInterrupt
        return gradient(self, parts, batches)

    whole, gradient = tuned(), unfrozen_module._Learner.gradient
    monkeypatch.setattr(pixels_module, "usual_workers", lambda device: workers)
    monkeypatch.setattr(unfrozen_module, "Checkpoint", partial(Checkpoint, seconds=0))
    monkeypatch.setattr(unfrozen_module._Learner, "gradient", dies)
    with pytest.raises(KeyboardInterrupt):
        tuned(tmp_path)
    again = tuned(tmp_path)
    assert len(taken) == 6 + 7  # of twelve steps five were taken
    assert is_close(again.head, whole.head, atol=0, rtol=0)
    assert not changed(again.encoder, whole)
    assert again.history == whole.history


def test_a_training_killed_after_its_last_step_is_not_begun_again(vit, made, tmp_path, monkeypatch):
    class Cut(Checkpoint):
        def write(self, state):
            if "weights" in state:
                raise KeyboardInterrupt
            super().write(state)

    def tuned(folder=None):
        return tune_unfrozen(vit, start(vit), SETTINGS, UnfrozenSettings(), 3, synthetic=made, real=None, folder=folder)

    whole = tuned()
    monkeypatch.setattr(unfrozen_module, "Checkpoint", partial(Cut, seconds=0))
    with pytest.raises(KeyboardInterrupt):
        tuned(tmp_path)
    monkeypatch.undo()
    again = tuned(tmp_path)
    assert is_close(again.head, whole.head, atol=0, rtol=0) and again.history == whole.history

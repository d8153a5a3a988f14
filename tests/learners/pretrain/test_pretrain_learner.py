"""A backbone is learnt from images and captions, goes on where it was killed, and opens in timm."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import timm
import torch

from colours import NAMES, coloured
from figment.errors import FigmentError
from figment.images_in.captions import Captions
from figment.images_in.memory import MemoryImages
from figment.learners.network.network import NetworkLearner
from figment.learners.network.settings import NetworkSettings
from figment.learners.pretrain import learner as module
from figment.learners.pretrain.health import alignment, rankme, uniformity
from figment.learners.pretrain.learner import PretrainLearner
from figment.types import Learner, Model
from pretrained import KINDS, OWN, settings, striped, tinted
from warm import ended, python


@pytest.fixture
def captioned(monkeypatch):
    """Images in memory, four of a caption, which names the class."""

    def captions_of(images):
        if isinstance(images, MemoryImages) and len(images) % 12 == 0:
            order = np.argsort(images.labels, kind="stable")
            groups = np.empty(len(images), np.int64)
            groups[order] = np.arange(len(images)) // 4
            return Captions(groups, [f"a {NAMES[label]}" for label in images.labels])
        return None

    monkeypatch.setattr(module, "captions_of", captions_of)


def learner(kind: str, labelled: MemoryImages | None = None, folder: Path | None = None, **changed) -> PretrainLearner:
    own = settings(kind, **changed)
    return PretrainLearner(own, NAMES, striped(20, 5) if labelled is None else labelled, folder=folder, device="cpu", checkpoint_seconds=0)  # fmt: skip


@pytest.fixture
def few_steps(monkeypatch):
    """A probe that is not waited for."""
    monkeypatch.setattr("figment.probe.MIN_STEPS", 20)
    monkeypatch.setattr("figment.probe.EPOCHS", 20)


#: Below what guessing costs (in brackets), by far: colours are told apart, and little is to be seen beside them.
LEARNT = {
    "simclr": 3.0,  # (ln 47)
    "stablerep": 2.3,  # (ln 23)
    "stablerep_plus": 4.2,  # (ln 23 + ln 16)
    "clip": 2.5,  # (ln 24)
    "supervised": 0.3,  # (ln 3)
    "moco": 2.6,  # (ln 25)
    "byol": 2.8,  # (4)
    "mae": 0.97,  # (1)
    "dino": 0.5,  # (ln 24)
    "moco_v3": 2.0,  # (.8 ln 24)
    "synclr": 8.0,  # (2 ln 24 + ln 24)
}


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "loss"), LEARNT.items(), ids=LEARNT.keys())
def test_planted_colours_are_learnt(kind: str, loss: float, captioned, few_steps, monkeypatch):
    monkeypatch.setattr(module, "LOOKS", 1)
    mild = {"color": 0.0, "grayscale": 0.0, "blur": 0.0, "crop_scale": (0.5, 1.0)}
    queue = {"queue": 24} if kind == "moco" else {}
    epochs = 16 if kind == "mae" else 8
    own: Learner = learner(kind, coloured(15, seed=5), epochs=epochs, batch_size=24, **mild, **queue)
    model: Model = own.learn(coloured(48), None, seed=0)
    last = model.history[-1]
    assert last["loss"] < loss and last["knn"] > 0.6  # of three classes
    test = coloured(30, seed=9)
    assert (model.logits(test).argmax(1) == test.labels).mean() > 0.9
    assert {"rankme", "alignment", "uniformity"} <= last.keys()


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "changed"), [("simclr", {"epochs": 8}), ("stablerep", {"epochs": 20, "learning_rate": 0.01})])  # fmt: skip
def test_training_makes_features_that_the_backbone_had_not(kind: str, changed: dict, captioned, few_steps, monkeypatch):
    """Of twelve labelled images the untrained backbone learns little; the same with what 96 images without labels taught it, much."""
    monkeypatch.setattr(module, "LOOKS", 1)
    monkeypatch.setattr("figment.probe.MIN_STEPS", 100)
    mild = {"color": 0.0, "grayscale": 0.0, "blur": 0.0, "crop_scale": (0.2, 0.6)}
    own, test = learner(kind, tinted(12, 5), batch_size=24, **mild, **changed), tinted(150, 9)

    def right(model: Model) -> float:
        return float((model.logits(test).argmax(1) == test.labels).mean())

    assert right(own.untrained()) < 0.65 and right(own.learn(tinted(96), None, seed=0)) > 0.72


def test_the_seed_decides_all_and_nothing_around_it_does(few_steps, captioned):
    own, images = learner("stablerep", epochs=1), striped(24)
    torch.manual_seed(5)
    first = own.learn(images, None, seed=1)
    drawn = torch.rand(1)
    np.random.seed(9)
    torch.manual_seed(5)
    assert own.learn(images, None, seed=1).fingerprint == first.fingerprint
    assert torch.equal(torch.rand(1), drawn)
    assert own.learn(images, None, seed=2).fingerprint != first.fingerprint


@pytest.mark.parametrize(("n", "steps"), [(12, 3), (24, 3), (24, 5), (60, 3)])
def test_steps_are_as_many_as_asked_for_however_many_images_there_are(n: int, steps: int, few_steps, monkeypatch):
    """Less than an epoch of them, or several and a part."""
    monkeypatch.setattr(module, "LOOKS", 1)
    model = learner("simclr", steps=steps).learn(striped(n), None, seed=0)
    assert model.facts["steps"] == steps
    assert model.history[-1]["epoch"] == len(model.history) == -(-steps // (n // 12))
    assert model.history[-1]["learning_rate"] < model.history[0]["learning_rate"] or len(model.history) == 1


class Killed(BaseException):
    """As a signal is: nobody catches it."""


@pytest.mark.parametrize("kind", [k if k == "stablerep" else pytest.param(k, marks=pytest.mark.slow) for k in KINDS])
def test_a_training_that_was_killed_thrice_ends_with_the_same_weights(
    kind: str, tmp_path, monkeypatch, few_steps, captioned
):
    """All that a next step depends on is in the checkpoint: queue, centre, teachers, optimiser."""
    images, epochs = striped(24), 4 if "images_per_caption" in OWN[kind] else 2  # four steps
    monkeypatch.setattr(module, "LOOKS", 1)
    whole = learner(kind, epochs=epochs).learn(images, None, seed=1)
    step, taken = module.PretrainLoop._update, []

    def until(loop, *batch):
        taken.append(0)
        if len(taken) in (2, 4, 6):  # one step further each time
            raise Killed
        return step(loop, *batch)

    monkeypatch.setattr(module.PretrainLoop, "_update", until)
    for _ in range(3):
        with pytest.raises(Killed):
            learner(kind, folder=tmp_path, epochs=epochs).learn(images, None, seed=1)
    model = learner(kind, folder=tmp_path, epochs=epochs).learn(images, None, seed=1)
    assert model.fingerprint == whole.fingerprint
    assert [h["loss"] for h in model.history] == [h["loss"] for h in whole.history]
    begun = len(taken)
    again = learner(kind, folder=tmp_path, epochs=epochs).learn(images, None, seed=1)  # and is not repeated
    assert again.fingerprint == whole.fingerprint and len(taken) == begun and again.history == model.history


def test_pieces_go_on_too(tmp_path, monkeypatch, few_steps, captioned):
    """With drop-path, whose numbers a piece draws once more in the backward pass."""
    monkeypatch.setattr(module, "LOOKS", 1)
    changed = {"gradient_cache": 5, "options": {"patch_size": 8, "drop_path_rate": 0.4}, "epochs": 4}
    images, step = striped(24), module.PretrainLoop._update
    whole, taken = learner("stablerep", **changed).learn(images, None, seed=1), []

    def until(loop, *batch):
        taken.append(0)
        if len(taken) == 3:
            raise Killed
        return step(loop, *batch)

    monkeypatch.setattr(module.PretrainLoop, "_update", until)
    with pytest.raises(Killed):
        learner("stablerep", folder=tmp_path, **changed).learn(images, None, seed=1)
    model = learner("stablerep", folder=tmp_path, **changed).learn(images, None, seed=1)
    assert model.fingerprint == whole.fingerprint
    assert len(taken) == 3 + 2  # two were done


@pytest.mark.parametrize("views", [1, 2])
def test_the_learning_rate_grows_with_the_crops_of_an_image(views: int, few_steps, captioned, monkeypatch):
    """As StableRep's program has it: 2e-4 of 256 images with two crops of each."""
    monkeypatch.setattr(module, "LOOKS", 1)
    own = learner("stablerep", views=views, epochs=2, warmup=0.0, learning_rate=1e-4)
    assert own.learn(striped(24), None, seed=0).history[0]["learning_rate"] == pytest.approx(
        2e-4 * 12 / 256 * views / 2
    )


@pytest.mark.parametrize("kind", KINDS)
def test_adamws_betas_are_the_settings(kind: str, captioned, few_steps, monkeypatch):
    """And one kernel takes its steps on GPUs alone: its bits are others."""
    seen, step = [], module.PretrainLoop._update
    monkeypatch.setattr(module.PretrainLoop, "_update", lambda loop, *batch: seen.append(loop) or step(loop, *batch))
    learner(kind, epochs=1, betas=(0.8, 0.9)).learn(striped(24), None, seed=0)
    groups = seen[0].updates.optimizer.param_groups
    assert {(tuple(group["betas"]), group["fused"]) for group in groups} == {((0.8, 0.9), False)}


def test_weight_decay_rises_and_the_last_layer_waits(few_steps, monkeypatch):
    """DINO's published schedules: half a cosine, as its program has it, and no step for the prototypes in the first epoch."""
    seen, step = [], module.PretrainLoop._update

    def watched(loop, *batch):
        loss = step(loop, *batch)
        groups = loop.updates.optimizer.param_groups
        seen.append((sorted(g["weight_decay"] for g in groups), loop.method.last.weight.detach().clone()))
        return loss

    monkeypatch.setattr(module.PretrainLoop, "_update", watched)
    learner("dino", epochs=2).learn(striped(36), None, seed=0)
    assert len(seen) == 6
    for i, (decays, _) in enumerate(seen):
        expected = 0.4 + 0.5 * (0.04 - 0.4) * (1 + np.cos(np.pi * i / 6))
        assert decays == [0, pytest.approx(expected)]  # biases and norms never
    weights = [weight for _, weight in seen]
    assert all(torch.equal(weights[0], other) for other in weights[:3]) and not torch.equal(weights[2], weights[3])


@pytest.mark.slow
def test_a_compiled_backbone_is_the_same_model(few_steps, monkeypatch):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))  # what it is compiled to is not ours
    called, images = [], striped(24)
    monkeypatch.setattr(torch.nn.Module, "compile", lambda own: called.append(own) or compiled(own))
    plain, fast = (learner("simclr", epochs=1, compile=one) for one in (False, True))
    assert plain.fingerprint == fast.fingerprint
    models = [own.learn(images, None, seed=0) for own in (plain, fast)]
    assert len(called) == 1
    for name, value in models[0].network.module.state_dict().items():
        torch.testing.assert_close(models[1].network.module.state_dict()[name], value, rtol=1e-4, atol=1e-5)


compiled = torch.nn.Module.compile


@pytest.mark.parametrize(
    "changed", [{"gradient_cache": 4}, {"gradient_checkpointing": True}], ids=["pieces", "checkpoints"]
)
def test_what_may_round_otherwise_is_another_training(changed: dict):
    assert learner("simclr", **changed).fingerprint != learner("simclr").fingerprint


@pytest.mark.parametrize("images", [1, 2])
def test_pieces_of_one_image_are_refused_to_batch_norm(images: int):
    with pytest.raises(
        FigmentError, match=f"gradient_cache: {images} leaves single images to .* test_resnet.* Set 3 or"
    ):
        learner("simclr", backbone="test_resnet", options={}, gradient_cache=images)
    learner("simclr", gradient_cache=images)  # a ViT has none


SCRIPT = """
import sys
from pathlib import Path
from colours import NAMES, coloured
from figment.learners.pretrain.learner import PretrainLearner
from pretrained import KINDS, settings, striped
own = PretrainLearner(settings("moco", epochs=12), NAMES, striped(20, 5), folder=Path(sys.argv[1]), device="cpu", checkpoint_seconds=0)
Path(f"{sys.argv[1]}.txt").write_text(own.learn(striped(24), None, seed=1).fingerprint)
"""


@pytest.mark.slow
def test_a_process_that_is_killed_goes_on(tmp_path):
    for _ in range(3):
        before = _written(tmp_path)
        process = python(SCRIPT, tmp_path / "killed")
        until = time.monotonic() + 60
        while process.is_alive() and _written(tmp_path) == before and time.monotonic() < until:
            time.sleep(0.01)
        process.kill()
        process.join()
    assert [ended(python(SCRIPT, tmp_path / name)) for name in ("killed", "whole")] == [0, 0]
    assert (tmp_path / "killed.txt").read_text() == (tmp_path / "whole.txt").read_text()


def _written(folder: Path) -> list[int]:
    return [path.stat().st_mtime_ns for path in folder.glob("killed/*.safetensors")]


@pytest.mark.parametrize("backbone", ["test_vit", "test_resnet"])
def test_timm_opens_the_backbone(backbone: str, tmp_path, few_steps):
    changed = {} if backbone == "test_vit" else {"options": {}}
    model = learner("simclr", backbone=backbone, epochs=1, **changed).learn(striped(24), None, seed=0)
    model.save(tmp_path)
    expected = model.network.module.state_dict()
    args = {"img_size": 32, "patch_size": 8} if backbone == "test_vit" else {}
    own = timm.create_model(backbone, num_classes=0, checkpoint_path=str(tmp_path / "model.safetensors"), **args)
    local = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    for opened in (own, local):
        assert expected.keys() == opened.state_dict().keys()
        assert all(torch.equal(value, expected[name]) for name, value in opened.state_dict().items())
    test = striped(6, 9)
    transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=local), is_training=False)
    from PIL import Image

    with torch.inference_mode():
        features = local(torch.stack([transform(Image.fromarray(i)) for i in test.images]))
    np.testing.assert_allclose(model.encodes(test), features, rtol=1e-4, atol=1e-5)
    probe = safetensors.torch.load_file(tmp_path / "probe.safetensors")
    np.testing.assert_allclose(model.logits(test), features @ probe["weight"].T + probe["bias"], rtol=1e-3, atol=1e-3)


def test_a_network_starts_from_it(tmp_path, few_steps):
    learner("simclr", epochs=1).learn(striped(24), None, seed=0).save(tmp_path)
    options = {"options": {"patch_size": 8}, "image_size": 32, "epochs": 1, "batch_size": 8}
    network = NetworkSettings(architecture="test_vit", pretrained=str(tmp_path), **options)
    assert NetworkLearner(network, NAMES, device="cpu").start is not None
    again = learner("byol", pretrained=str(tmp_path), epochs=1)
    started = again.untrained().network.module.state_dict()
    stored = safetensors.torch.load_file(tmp_path / "model.safetensors")
    assert started.keys() == stored.keys() and all(torch.equal(started[k], v) for k, v in stored.items())


def test_the_probe_learns_from_the_real_images_of_its_training(few_steps, monkeypatch):
    seen = []
    monkeypatch.setattr(
        module, "linear_probe", lambda f, labels, n, **on: seen.append(labels.tolist()) or real(f, labels, n)
    )
    from figment.probe import linear_probe as real

    labelled, shots, made = striped(20, 5), striped(9, 6), striped(24)
    own = learner("simclr", labelled, epochs=1)
    own.learn(made, None, 0)
    own.learn(made, shots, 0)
    own.learn(None, shots, 0)
    own.untrained()
    assert seen == [labelled.labels.tolist(), shots.labels.tolist(), shots.labels.tolist(), labelled.labels.tolist()]


@pytest.mark.parametrize("shape", [(60, 120), (120, 60)])
def test_photographs_are_seen_to_their_edges(shape: tuple[int, int], few_steps, monkeypatch):
    """White beside the square in their middle, which was all that was seen of them; square ones beside them are as they were."""
    image = np.full((*shape, 3), 255, np.uint8)
    image[tuple(slice(side // 2 - 30, side // 2 + 30) for side in shape)] = 0
    shown, step = [], module.PretrainLoop._update
    monkeypatch.setattr(
        module.PretrainLoop, "_update", lambda loop, *batch: shown.append(batch[0]) or step(loop, *batch)
    )
    images = MemoryImages([image, np.zeros((60, 60, 3), np.uint8)] * 6, np.zeros(12, np.int64))
    learner("simclr", epochs=1).learn(images, None, seed=0)
    (pixels, sizes), *_ = shown
    white = (pixels > 128).float().mean((1, 2, 3))
    assert sorted(white.round(decimals=1).tolist()) == [0.0] * 6 + [0.5] * 6
    assert {tuple(size) for size in sizes.tolist()} == {(36, 36), tuple(36 * side // 60 for side in shape)}


def test_a_models_rank_is_of_all_classes(few_steps, monkeypatch):
    """Real images come class by class: of the first of them alone it would be that of one class."""
    monkeypatch.setattr(module, "LOOKED_AT", 6)
    mixed = striped(30, 5)
    by_class = mixed.take(np.argsort(mixed.labels, kind="stable"))
    model = learner("simclr", by_class).untrained()
    features = torch.from_numpy(model.encodes(by_class))
    assert model.facts["rankme"] == pytest.approx(rankme(features[[0, 5, 11, 17, 23, 29]])) != rankme(features[:6])


def test_an_image_without_a_caption_is_a_caption_of_its_own(captioned):
    own = learner("stablerep_plus")
    parts = [striped(24), striped(5, 6)]
    found, turns = own._captions(parts)
    assert len(np.unique(found.groups[:24])) == 6 and found.groups[24:].tolist() == [6, 7, 8, 9, 10]
    assert turns.tolist() == found.groups.tolist()
    assert found.texts[24:] == [f"a photo of a {NAMES[c]}." for c in (0, 1, 2, 0, 1)]
    known = own._known(parts, found)
    texts = known.texts[24:].tolist()  # two photographs of a class have one text
    assert texts[0] == texts[3] and len(set(texts)) == 3 and len(known.tokens) == 6


def test_copies_of_an_image_are_no_negatives_of_it_and_have_turns_of_their_own():
    """The few real images again and again, in the place of generated ones: as many steps, and nothing false to learn."""
    few = striped(3, 6)
    found, turns = learner("stablerep")._captions([few.take([0, 1, 2, 0, 1]), few])
    assert found.groups.tolist() == [0, 1, 2, 0, 1, 0, 1, 2] and turns.tolist() == list(range(8))
    for kind in ("simclr", "moco_v3"):  # which do not look at captions
        known = learner(kind)._known([few.take([0, 1, 2, 0, 1]), few], found)
        rows = torch.tensor([0, 3, 5, 1])
        assert known.of([torch.zeros(4)], rows).images.tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize(
    ("kind", "said"),
    [("simclr", "1 image is too few.*two or more"), ("stablerep", "1 caption is too few.*two or more, with 3 images")],
)
def test_too_few_images_are_said_before_anything_is_spent(kind: str, said: str):
    with pytest.raises(FigmentError, match=said):
        learner(kind).check(1, 0)
    learner(kind).check(4, 0)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"backbone": "test_vitt"}, "timm has no architecture 'test_vitt'"),
        ({"backbone": "small_cnn", "options": {}}, "small_cnn is no backbone"),
        ({"image_size": 30}, "test_vit"),
        ({"backbone": "vit_tiny_patch16_224.augreg_in21k", "options": {}}, "has a tag"),
    ],
)
def test_backbones_that_there_are_not(changed: dict, said: str):
    with pytest.raises(FigmentError, match=said):
        learner("simclr", **changed)


def test_a_loss_that_is_not_finite_is_said():
    with pytest.raises(FigmentError, match="learning_rate"):
        learner("supervised", optimizer="sgd", learning_rate=1000.0, weight_decay=10.0, epochs=40).learn(
            striped(24), None, 0
        )


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"precision": "auto"},
            "Set gradient_cache: 32, set gradient_checkpointing: true, lower batch_size or image_size, or choose a smaller",
        ),
        (
            {"gradient_cache": 4, "precision": "float32"},
            "Lower gradient_cache, .*set precision: bfloat16, lower batch_size",
        ),
    ],
)
def test_memory_that_runs_out_in_training(changed: dict, said: str, monkeypatch):
    own = learner("simclr", **changed)

    def full(loop, *batch):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    monkeypatch.setattr(module.PretrainLoop, "_update", full)
    with pytest.raises(
        FigmentError, match=rf"^Out of memory while \w+ learnt from \d+ images a step on cpu .*\. {said}"
    ):
        own.learn(striped(20, 5), None, seed=0)


def test_weights_that_are_not_finite_at_an_epochs_end_are_said(monkeypatch):
    """The loss of the last step was still finite; the look at the features that follows has nothing to say."""
    own, update = learner("supervised", epochs=1), module.PretrainLoop._update

    def spoiling(loop, *batch):
        loss = update(loop, *batch)
        next(loop.learnt.parameters()).data.fill_(torch.nan)
        return loss

    monkeypatch.setattr(module.PretrainLoop, "_update", spoiling)
    with pytest.raises(FigmentError, match="some of its weights were NaN or infinite at step 1"):
        own.learn(striped(12), None, 0)


def test_health_in_known_cases():
    x = torch.randn(50, 1) @ torch.randn(1, 8)
    assert rankme(x) == pytest.approx(1, abs=1e-3)
    assert rankme(torch.eye(8)) == pytest.approx(8, rel=1e-4)
    values = np.linalg.svd(torch.arange(24.0).view(6, 4).sin().numpy(), compute_uv=False)
    p = values / values.sum()
    assert rankme(torch.arange(24.0).view(6, 4).sin()) == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-4)
    assert alignment(x, x * 3) == pytest.approx(0) and alignment(x, -x) == pytest.approx(4)
    a = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0]])
    expected = np.log((np.exp(-4) * 2 + np.exp(-8)) / 3)
    assert uniformity(a) == pytest.approx(expected)

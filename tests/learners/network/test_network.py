"""A network learns planted classes, the same ones for the same seed, and goes on exactly where it was killed."""

from __future__ import annotations

import copy
import logging
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from colours import NAMES, coloured
from figment.checkpoint import Checkpoint
from figment.images_in.concat import concatenate
from figment.images_in.memory import MemoryImages
from figment.learners.network.architectures import make
from figment.learners.network.loop import NetworkLoop
from figment.learners.network.network import NetworkLearner
from figment.learners.network.settings import NetworkSettings
from figment.learners.network.small_cnn import SMALL_CNN
from figment.learners.processes import Processes
from figment.learners.training import schedule
from figment.learners.updates import autocast_dtype
from figment.loading.loader import ImageDataset, Loader
from figment.types import Learner, Model
from warm import ended, python

CPU = Processes(0, 1, torch.device("cpu"))
PLAIN = {"crop_scale": None, "flip": 0.0, "label_smoothing": 0.0, "warmup": 0.0}


def settings(architecture: str = "test_vit", **changed) -> NetworkSettings:
    start = {"image_size": 32, "epochs": 4, "batch_size": 12, "optimizer": "adamw", "learning_rate": 3e-3}
    return NetworkSettings(architecture=architecture, **{**start, "crop_scale": (0.5, 1.0), **changed})


def learner(s: NetworkSettings, **options) -> NetworkLearner:
    return NetworkLearner(s, NAMES, device="cpu", **options)


def loop_of(own: NetworkLearner, images: MemoryImages, seed: int = 0, epochs: int = 2) -> NetworkLoop:
    torch.manual_seed(seed)
    network = make(own.settings, len(NAMES))
    loader = own._loader([images], own._order(images, None, seed), 12, network.data, CPU)
    return NetworkLoop(network, loader, epochs, own.settings, seed, CPU)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["test_vit", "test_resnet", "small_cnn"])
def test_planted_colours_are_learnt(architecture: str):
    images = coloured(48) if architecture != "small_cnn" else lit(48)
    own: Learner = learner(settings(architecture, epochs=8))
    model: Model = own.learn(images, None, seed=0)
    assert (model.logits(images).argmax(1) == images.labels).mean() > 0.9
    assert [h["epoch"] for h in model.history] == list(range(1, 9))
    assert model.history[-1]["loss"] < model.history[0]["loss"]
    assert own.untrained() is None
    assert model.facts["steps"] == 32


def lit(n: int) -> MemoryImages:
    """The small CNN is blind to colour, so its classes are tones."""
    rng, labels = np.random.default_rng(0), np.arange(n) % 3
    return MemoryImages(
        [rng.normal(40 + 80 * c, 20, (32, 32, 3)).clip(0, 255).astype(np.uint8) for c in labels], labels
    )


def test_the_seed_decides_all_and_nothing_around_it_does():
    images, own = coloured(24), learner(settings(epochs=2, mixup=0.2, cutmix=1.0, random_erasing=0.5, rand_augment=2))
    torch.manual_seed(5)
    first = own.learn(images, None, seed=1)
    drawn = torch.rand(1)
    np.random.seed(9)
    torch.manual_seed(5)
    assert own.learn(images, None, seed=1).fingerprint == first.fingerprint
    assert torch.equal(torch.rand(1), drawn)  # and the generator that everybody uses was left alone
    assert own.learn(images, None, seed=2).fingerprint != first.fingerprint


def test_workers_and_whether_images_fit_into_memory_change_nothing(monkeypatch):
    images = coloured(24)
    expected = learner(settings(epochs=1)).learn(images, None, seed=0).fingerprint
    monkeypatch.setattr("figment.learners.network.network.MEMORY", 1000)
    assert learner(settings(epochs=1, workers=1)).learn(images, None, seed=0).fingerprint == expected


def test_the_fingerprint_is_of_what_decides_the_model():
    s, val = settings(), coloured(3)
    own = learner(s).fingerprint
    assert learner(s.model_copy(update={"workers": 3, "seeds": 9, "images_per_class": 4})).fingerprint == own
    changed = [learner(s.model_copy(update={"epochs": 5})), learner(s, val=val), NetworkLearner(s, NAMES[::-1])]
    assert len({own, *(c.fingerprint for c in changed)}) == 4


def test_the_steps_are_those_of_a_loop_written_by_hand():
    s = settings("small_cnn", optimizer="sgd", learning_rate=0.05, weight_decay=0.1, grad_clip=0.5, **PLAIN)
    s = s.model_copy(update={"warmup": 0.4, "label_smoothing": 0.2, "options": {}})
    images = lit(24)
    loop = loop_of(learner(s), images)
    model = copy.deepcopy(loop.module)
    model.features[-1].p = loop.module.features[-1].p = 0.0  # dropout
    heavy = [p for n, p in model.named_parameters() if p.ndim > 1]
    light = [p for n, p in model.named_parameters() if p.ndim == 1]
    groups = [{"params": heavy, "weight_decay": 0.1}, {"params": light, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=1.0, momentum=0.9, nesterov=True)
    batches = [
        index for epoch in range(2) for index in np.random.default_rng([0, epoch]).permutation(24).reshape(2, 12)
    ]
    for step, (index, rate, found) in enumerate(zip(batches, schedule(0.05, 1, 4), loop, strict=True)):
        x = np.stack([images.images[i] for i in index]).astype(np.float32).transpose(0, 3, 1, 2)
        logits = model.train()(torch.from_numpy(x / 127.5 - 1))
        wanted = 0.8 * F.one_hot(torch.tensor(images.labels[index]), 3) + 0.2 / 3
        loss = -(wanted * logits.log_softmax(1)).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        assert abs(found.loss.item() - loss.item()) < 1e-5
        assert (found.epoch, found.images, found.learning_rate) == (step // 2 + 1, 12, rate)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(loop.module.state_dict()[name], value, rtol=1e-4, atol=1e-5, msg=name)


def test_the_average_is_of_weights_and_of_batch_norms_statistics():
    loop = loop_of(learner(settings("small_cnn", ema=0.5)), lit(24), epochs=3)
    average: dict[str, torch.Tensor] = {}
    for number, _ in enumerate(loop):
        decay = min(0.5, 1 - (1 + number) ** (-2 / 3)) if number else 0.0
        for name, value in loop.module.state_dict().items():
            if value.is_floating_point():
                average[name] = decay * average.get(name, torch.zeros(())) + (1 - decay) * value
    assert "features.1.running_var" in average
    for name, value in average.items():
        torch.testing.assert_close(loop.weights()[name], value, rtol=1e-5, atol=1e-6)
    assert not torch.equal(loop.weights()["classifier.weight"], loop.module.state_dict()["classifier.weight"])


class Killed(Exception):
    pass


def dies_after(monkeypatch, step: int) -> None:
    """Raise before the state after that step is written; 0 = never."""
    update = NetworkLoop._update

    def _update(self, images, labels):
        if step and self.step == step:
            raise Killed
        return update(self, images, labels)

    monkeypatch.setattr(NetworkLoop, "_update", _update)


FULL = {"ema": 0.8, "mixup": 0.2, "rand_augment": 1, "random_erasing": 0.3, "select": "validation", "grad_clip": 1.0}


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["test_vit", "small_cnn"])
def test_a_training_killed_three_times_ends_with_the_same_bytes(architecture: str, tmp_path: Path, monkeypatch):
    s, images, val = settings(architecture, epochs=3, **FULL), coloured(30), coloured(6, seed=1)
    own = learner(s, val=val, folder=tmp_path, checkpoint_seconds=0)
    whole = learner(s, val=val).learn(images, None, seed=0)
    for step in (1, 3, 5):
        with monkeypatch.context() as patch, pytest.raises(Killed):
            dies_after(patch, step)
            own.learn(images, None, seed=0)
    resumed = own.learn(images, None, seed=0)
    whole.save(tmp_path / "whole")
    resumed.save(tmp_path / "resumed")
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "resumed" / name).read_bytes()
    assert resumed.history == whole.history
    with monkeypatch.context() as patch:
        dies_after(patch, 1)
        assert own.learn(images, None, seed=0).fingerprint == whole.fingerprint  # read, and not repeated
        with pytest.raises(Killed):
            own.learn(images.take(range(29)), None, seed=0)  # other images are another training


SCRIPT = """
import os, signal, sys
from pathlib import Path
from test_network import *
update = NetworkLoop._update
def _update(self, images, labels):
    if self.step == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return update(self, images, labels)
NetworkLoop._update = _update
learner(settings(epochs=3, **FULL), val=coloured(6, seed=1), folder=Path(sys.argv[1]), checkpoint_seconds=0).learn(coloured(30), None, 0)
"""


@pytest.mark.slow
def test_a_process_that_is_killed_leaves_what_the_next_one_goes_on_from(tmp_path: Path):
    assert ended(python(SCRIPT, tmp_path, path=[Path(__file__).parent])) == -signal.SIGKILL
    (path,) = tmp_path.glob("*.safetensors")
    s, val = settings(epochs=3, **FULL), coloured(6, seed=1)
    assert Checkpoint(path, path.stem).read()["loop"]["step"] == 3
    own = learner(s, val=val, folder=tmp_path)
    expected = learner(s, val=val).learn(coloured(30), None, seed=0)
    assert own.learn(coloured(30), None, seed=0).fingerprint == expected.fingerprint


def test_both_kinds_of_images_go_into_each_batch_by_their_share():
    made, real = coloured(36), coloured(12, seed=1)
    shared = Loader(ImageDataset(concatenate(made, real)), learner(settings(real_share=0.25))._order(made, real, 0), 12)
    for index in shared.batches:
        assert (index[1] >= 36).sum() == 3
    assert sorted(learner(settings())._order(made, real, 0)(0)) == list(range(48))


def test_each_epoch_shows_generated_images_of_its_own_and_all_real_ones(tmp_path):
    made, real, s = coloured(36), coloured(6, seed=1), {"epochs": 3, "batch_size": 6, **PLAIN}
    own = learner(settings(fresh_epochs=3, **s))
    epochs = [own._order(made, real, 0)(epoch) for epoch in range(3)]
    shown = [set(epoch[epoch < 36].tolist()) for epoch in epochs]
    assert set.union(*shown) == set(range(36)) and sum(map(len, shown)) == 36
    assert all(sorted(epoch[epoch >= 36].tolist()) == list(range(36, 42)) for epoch in epochs)
    assert own.learn(made, real, seed=0).facts["steps"] == 3 * (12 + 6) // 6
    assert own.learn(None, real, seed=0).facts["steps"] == 3  # real images alone are all shown
    assert own.settings.shown(36) == 36 and settings(**s).shown(36) == 3 * 36  # of generated images
    assert settings(fresh_epochs=3, **{**s, "steps": 5}).shown(36) == 30


@pytest.mark.parametrize(("synthetic", "real", "shown"), [(30, 0, 3), (30, 6, 9), (3, 0, 3), (2_400, 0, 24), (0, 6, 6)])
def test_an_epoch_of_its_own_images_has_one_of_each_class_at_least(synthetic, real, shown):
    """What is refused before anything is made is what the training would refuse."""
    own = learner(settings(fresh_epochs=100))
    made, photos = coloured(synthetic) if synthetic else None, coloured(real, seed=1) if real else None
    assert len(own._order(made, photos, 0)) == shown
    counted = []
    own._batch_size = lambda n, on: counted.append(n)
    own.check(synthetic, real)
    assert counted == [shown]


def test_the_epoch_is_chosen_on_validation_images():
    val = coloured(12, seed=3)
    model = learner(settings(epochs=3, select="validation"), val=val).learn(coloured(24), coloured(6, seed=9), seed=0)
    accuracy = (model.logits(val).argmax(1) == val.labels).mean()
    assert accuracy == max(h["val_accuracy"] for h in model.history)


def test_few_images_make_one_smaller_batch_and_more_epochs():
    model = learner(settings(epochs=1, min_steps=5, batch_size=64, mixup=0.2)).learn(None, coloured(7), seed=0)
    assert model.facts["batch_size"] == 6  # pairs, for mixup
    assert model.facts["steps"] == len(model.history) == 5


def test_half_precision_is_for_the_forward_pass_alone():
    own = learner(settings(precision="bfloat16", epochs=1))
    model = own.learn(coloured(24), None, seed=0)
    assert {v.dtype for v in model.network.module.state_dict().values() if v.is_floating_point()} == {torch.float32}
    assert model.fingerprint != learner(settings(epochs=1)).learn(coloured(24), None, seed=0).fingerprint
    assert autocast_dtype("auto", torch.device("cpu")) == torch.float32


def test_a_resnet_at_32_pixels_works_and_a_line_says_what_is_lost(caplog):
    with caplog.at_level(logging.WARNING):
        learner(settings("resnet50"))
    assert "resnet50 sees an image of 32 pixels as a single place" in caplog.text
    caplog.clear()
    learner(settings("test_vit"))
    learner(SMALL_CNN)
    assert not caplog.text


@pytest.mark.parametrize("n", [7, 24, 30])
def test_steps_are_the_same_for_any_number_of_images(n: int, tmp_path: Path, monkeypatch):
    own = learner(settings("small_cnn", steps=5, batch_size=6, epochs=50), folder=tmp_path, checkpoint_seconds=0)
    with monkeypatch.context() as patch:
        update = NetworkLoop._update

        def killed(self, *batch):
            if self.step == 3:
                raise KeyboardInterrupt
            return update(self, *batch)

        patch.setattr(NetworkLoop, "_update", killed)
        with pytest.raises(KeyboardInterrupt):
            own.learn(lit(n), None, seed=0)
    model = own.learn(lit(n), None, seed=0)
    assert model.facts["steps"] == 5
    assert [h["epoch"] for h in model.history] == list(range(1, -(-5 // (n // 6)) + 1))  # the last one may be short
    assert model.history[-1]["learning_rate"] == schedule(3e-3, int(0.05 * 5), 5)[-1]
    assert learner(own.settings).learn(lit(n), None, seed=0).fingerprint == model.fingerprint


def test_steps_or_epochs():
    with pytest.raises(ValueError, match="give one of them"):
        settings(steps=5, min_steps=3)
    assert learner(settings()).fingerprint == learner(settings(steps=None)).fingerprint
    assert learner(settings(steps=4)).fingerprint != learner(settings()).fingerprint


def test_a_network_that_has_no_room_for_all_images_looks_at_fewer_at_a_time(monkeypatch):
    images = coloured(12)
    model = learner(settings(epochs=1)).learn(images, None, 0)
    expected, forward, tried = model.logits(images), model.network.module.forward, []

    def small(x):
        tried.append(len(x))
        if len(x) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(x)

    monkeypatch.setattr(model.network.module, "forward", small)
    assert np.allclose(model.logits(images), expected, atol=1e-5) and tried == [12, 6, 3, 3, 3, 3]

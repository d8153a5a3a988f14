"""A network that is pre-trained on the images of its training before it learns their labels."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest

from colours import NAMES, coloured
from figment.errors import FigmentError
from figment.images_in.relabelled import Relabelled
from figment.learners.network.loop import NetworkLoop
from figment.learners.network.network import NetworkLearner
from figment.learners.network.settings import OF_THE_NETWORK, NetworkSettings
from figment.learners.pretrain.learner import PretrainLearner
from figment.learners.pretrain.loop import PretrainLoop
from figment.learners.pretrain.settings import AnyMethod, SimCLRSettings
from figment.recipe import Recipe, validate
from figment.recipe.unfingerprinted import identity
from pretrained import KINDS, OWN

LABELLED = coloured(10, seed=5)
#: Of a pre-training that is over in two steps.
SHORT = {"steps": 2, "batch_size": 12, "precision": "float32"}


def settings(kind: str | None = "simclr", own: dict[str, Any] | None = None, **changed: Any) -> NetworkSettings:
    pretrain = None if kind is None else {"kind": kind, **SHORT, **OWN[kind], **(own or {})}
    start = {"image_size": 32, "steps": 2, "batch_size": 12, "optimizer": "adamw", "learning_rate": 3e-3}
    tiny = {"architecture": "test_vit", "options": {"patch_size": 8}, "pretrain": pretrain}
    return NetworkSettings.model_validate({**start, **tiny, **changed})


def learner(s: NetworkSettings, folder=None) -> NetworkLearner:
    first = None
    if s.pretraining is not None:
        first = PretrainLearner(s.pretraining, NAMES, LABELLED, folder=folder, device="cpu", checkpoint_seconds=0)
    return NetworkLearner(s, NAMES, pretrainer=first, folder=folder, device="cpu", checkpoint_seconds=0)


def fingerprint(s: NetworkSettings, *training: Any) -> str:
    return learner(s).learn(*training).fingerprint


@pytest.mark.parametrize(
    "kind", [k if k in ("simclr", "mae") else pytest.param(k, marks=pytest.mark.slow) for k in KINDS]
)
def test_any_method_comes_first(kind):
    s = settings(kind)
    own = learner(s)
    assert s.pretraining.backbone == "test_vit" and s.pretraining.options == {"patch_size": 8}
    assert (
        own.name.endswith(f", after {kind} on the same images") and own.reads_captions == s.pretraining.reads_captions
    )
    model = own.learn(coloured(24), None, 0)
    assert model.logits(LABELLED).shape == (10, 3) and model.network.args["num_classes"] == 3
    assert model.fingerprint != fingerprint(settings(None), coloured(24), None, 0)


def test_every_method_there_is_may_come_first():
    assert {own.model_fields["kind"].default for own in get_args(get_args(AnyMethod)[0])} == set(KINDS)


def test_it_starts_where_the_pre_training_ends():
    """With hardly a step of its own, the network's features are the backbone's."""
    own = learner(settings(steps=1, learning_rate=1e-12, weight_decay=0.0, warmup=0.0))
    made = coloured(24)
    model = own.learn(made, None, 3)
    backbone = own.pretrainer.backbone(made, None, 3).network.module
    theirs = model.network.module.state_dict()
    for name, value in backbone.state_dict().items():
        np.testing.assert_allclose(theirs[name], value, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "options", "own"),
    [
        ("moco_v3", {}, {}),  # whose projection of patches stays as it starts
        ("mae", {"global_pool": "avg"}, {}),  # which does not pool
        ("simclr", {}, {"gradient_checkpointing": True}),  # which is the pre-training's alone
    ],
)
def test_nothing_but_weights_is_left_of_a_pre_training(kind, options, own):
    s = settings(kind, own, options={"patch_size": 8, **options}, crop_pct=0.5)
    network = learner(s).learn(coloured(24), None, 0).network
    assert all(p.requires_grad for p in network.module.parameters()) and not network.module.grad_checkpointing
    assert network.data["crop_pct"] == 0.5


@pytest.mark.parametrize(("field", "value", "counts"), [("compile", True, False), ("temperature", 0.2, True)])
def test_what_changes_nothing_of_a_pre_training_is_no_part_of_its_identity(field, value, counts):
    own, changed = settings(), settings(own={field: value})
    assert (learner(own).fingerprint != learner(changed).fingerprint) == counts
    assert (identity(own) != identity(changed)) == counts
    assert changed.model_dump()["pretrain"][field] == value


def test_labels_of_generated_images_can_be_left_unread():
    """``real_share: 1`` learns them from real images alone; their pixels still count."""
    made, shots = coloured(24), coloured(12, seed=1)
    other = Relabelled(made, (made.labels + 1) % 3)
    unread = settings(real_share=1.0)
    first = fingerprint(unread, made, shots, 0)
    assert first == fingerprint(unread, other, shots, 0)
    assert first != fingerprint(unread, coloured(24, seed=8), shots, 0)


@pytest.mark.parametrize("kept", [1, 3])
def test_a_training_that_was_killed_goes_on_in_the_part_it_was_in(kept, tmp_path, monkeypatch):
    """After so many steps of four: two of pre-training, two of the network."""
    made, whole, taken = coloured(24), fingerprint(settings(), coloured(24), None, 1), []

    class Killed(BaseException):
        pass

    for loop in (PretrainLoop, NetworkLoop):

        def step(self, *batch, of=loop._update):
            if len(taken) == kept:
                raise Killed
            taken.append(type(self))
            return of(self, *batch)

        monkeypatch.setattr(loop, "_update", step)
    with pytest.raises(Killed):
        learner(settings(), tmp_path).learn(made, None, 1)
    kept = 4
    assert learner(settings(), tmp_path).learn(made, None, 1).fingerprint == whole
    assert taken == [PretrainLoop] * 2 + [NetworkLoop] * 2


@pytest.mark.parametrize("field", OF_THE_NETWORK)
def test_what_is_the_networks_is_said_once(field):
    with pytest.raises(ValueError, match=rf"pretrain.{field} is the network's own {OF_THE_NETWORK[field]}"):
        settings(own={field: 3})
    assert field not in settings().model_dump()["pretrain"]


def test_it_is_said_once_in_python_too():
    with pytest.raises(ValueError, match="pretrain.backbone is the network's own architecture"):
        NetworkSettings(pretrain=SimCLRSettings(backbone="resnet18"))
    assert NetworkSettings(pretrain=SimCLRSettings(epochs=3)).pretraining.backbone == "resnet50"


def recipe(**changes: Any) -> Recipe:
    task = {"class_names": NAMES, "real": {"train": "somewhere", "test": "elsewhere"}}
    return validate({"task": task, "few_shot": {"shots": 2}, "train": settings().model_dump(), **changes}, "it")


def test_an_arm_differs_in_one_field():
    own = recipe()
    assert own.changed({"train.pretrain": None}).train == settings(None)
    assert own.changed({"train.real_share": 1.0}).train.real_share == 1
    assert own.changed({"train.architecture": "resnet18", "train.options": {}}).train.pretraining.backbone == "resnet18"
    assert own.changed({"train.pretrain.temperature": 0.2}).train.pretraining.temperature == 0.2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"train.pretrain": None, "train.real_share": 1}, "real_share: 1 learns from real images alone.*give pretrain"),
        ({"train.real_share": 1, "few_shot": None}, "there are none: give few_shot"),
        ({"task.real.train": None, "few_shot": None}, r"train.pretrain is watched by.*task.real.train"),
        ({"train.pretrain.kind": "simclrr"}, "train.pretrain: kind must be one of 'simclr'"),
        ({"train.pretrain.epoch": 3}, "train.pretrain.epoch: there is no such field. Did you mean 'epochs'"),
        ({"train.pretrain.min_steps": 3}, "steps says how long a training is, and so does min_steps"),
    ],
)
def test_what_does_not_go_together_is_refused(change, said):
    with pytest.raises(FigmentError, match=said):
        recipe().changed(change)


@pytest.mark.parametrize(
    ("kind", "real_share", "has"),
    [("simclr", None, True), ("simclr", 1, False), ("stablerep", 1, True), ("supervised", 1, True), (None, 0.5, True)],
)
def test_there_is_a_placebo_where_labels_or_captions_are_read(kind, real_share, has):
    assert settings(kind, real_share=real_share).has_placebo == has

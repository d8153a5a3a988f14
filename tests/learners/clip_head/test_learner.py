"""The CLIP head behind the protocol of learners, against the functions it is made of."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image

from figment.encoders import ClipEncoder, Features, open_encoder
from figment.errors import FigmentError
from figment.images_in import open_images
from figment.learners.clip_head.augment import augmented_features
from figment.learners.clip_head.baseline_names import BASELINES
from figment.learners.clip_head.baselines import AUGMENTED_VIEWS, baseline
from figment.learners.clip_head.coop import coop
from figment.learners.clip_head.head import Head, zero_shot_head
from figment.learners.clip_head.learner import ClipHeadLearner
from figment.learners.clip_head.linear_probe import linear_probe
from figment.learners.clip_head.mix import tune_mixed
from figment.learners.clip_head.settings import FEW_SHOT_STEPS, MixSettings, Start, UnfrozenSettings
from figment.learners.clip_head.tip_adapter import tip_adapter, tip_adapter_f
from figment.learners.clip_head.tune import tune, tune_few_shot
from figment.learners.clip_head.unbiased import unbiased
from figment.learners.clip_head.unfrozen import tune_unfrozen
from figment.learners.clip_head.wise_ft import interpolate
from figment.types import Learner, Training

CLASSES = ["red thing", "green thing", "blue thing"]
TEMPLATES = ["a photo of a {}."]


class Settings(MixSettings):
    """As a recipe's `train` has them."""

    encoder: str = "the encoder"
    min_steps: int = FEW_SHOT_STEPS
    wise_ft: float = 1.0
    start: Start = "zero_shot"
    unfrozen: UnfrozenSettings | None = None
    low_resolution: int | None = None


@pytest.fixture(scope="module")
def features(clip) -> Features:
    return Features(ClipEncoder(str(clip), device="cpu"))


@pytest.fixture(scope="module")
def made(photos):
    """18 images in the place of generated ones."""
    return open_images(photos / "train", CLASSES)


@pytest.fixture(scope="module")
def real(photos):
    return open_images(photos / "val", CLASSES)


@pytest.fixture(scope="module")
def test_images(photos):
    return open_images(photos / "test", CLASSES)


def learner_of(features: Features, val=None, **changes) -> ClipHeadLearner:
    settings = Settings(**{"epochs": 3, "batch_size": 7, "real_batch_size": 4, "learning_rate": 0.02, **changes})
    return ClipHeadLearner(features, CLASSES, TEMPLATES, settings, val)


def start_of(features: Features) -> Head:
    return zero_shot_head(features.encoder, CLASSES, TEMPLATES)


def same(model, head: Head, images, features: Features) -> None:
    np.testing.assert_allclose(model.logits(images), head.predict(features(images)), atol=1e-4)
    assert not np.allclose(model.logits(images), start_of(features).predict(features(images)), atol=1e-2)


def test_each_kind_of_images_is_learnt_from_by_its_function(features, made, real, test_images):
    learner, start, s = learner_of(features), start_of(features), learner_of(features).settings
    x, own = (features(made), made.labels), (features(real), real.labels)
    same(learner.learn(made, None, 1), tune(start, *x, s, 1).head, test_images, features)
    same(learner.learn(None, real, 1), tune_few_shot(start, *own, 1, s), test_images, features)
    mixed = tune_mixed(start, own, x, s, 1)
    model = learner.learn(made, real, 1)
    same(model, mixed.head, test_images, features)
    assert len(model.history) == len(mixed.history) == 100
    assert [h["loss"] for h in model.history] == pytest.approx([h["loss"] for h in mixed.history], rel=1e-3)
    assert learner.name == "CLIP head" and model.facts == {}


@pytest.mark.parametrize("min_steps", [0, 6, 12])
@pytest.mark.parametrize("unfrozen", [None, UnfrozenSettings()])
def test_real_images_alone_and_mixed_ones_get_the_steps_that_the_recipe_says(features, made, real, min_steps, unfrozen):
    learner = learner_of(features, batch_size=9, real_batch_size=4, min_steps=min_steps, unfrozen=unfrozen)
    for synthetic, an_epoch in ((None, math.ceil(len(real) / 4)), (made, 2)):
        epochs = len(learner.learn(synthetic, real, 1).history)
        assert epochs == max(3, math.ceil(min_steps / an_epoch))


@pytest.mark.parametrize("size", [2, 5])
def test_real_images_alone_come_in_the_recipes_batches(features, real, test_images, size):
    learner, start, own = learner_of(features, real_batch_size=size, min_steps=0), start_of(features), features(real)
    s = learner.settings.model_copy(update={"batch_size": size, "soft_weight": 0.0})
    same(learner.learn(None, real, 1), tune(start, own, real.labels, s, 1).head, test_images, features)


@pytest.mark.parametrize("side", [8, 13])
@pytest.mark.parametrize("unfrozen", [None, UnfrozenSettings()])
def test_generated_images_are_learnt_from_in_low_resolution_and_real_ones_are_not(
    features, made, real, test_images, side, unfrozen
):
    learner, start = learner_of(features, low_resolution=side, unfrozen=unfrozen, min_steps=0), start_of(features)
    small = [Image.fromarray(i).resize((side, side * 24 // 20), Image.BILINEAR) for i in made.load(range(18))]
    x = features.encoder.images([np.array(i) for i in small])
    assert not np.allclose(x, features(made), atol=1e-2)
    s, own = learner.settings, (features(real), real.labels)
    same(learner.learn(made, None, 1), tune(start, x, made.labels, s, 1).head, test_images, features)
    same(learner.learn(made, real, 1), tune_mixed(start, own, (x, made.labels), s, 1).head, test_images, features)
    same(learner.learn(None, real, 1), tune_few_shot(start, *own, 1, s), test_images, features)
    assert learner.fingerprint != learner_of(features, unfrozen=unfrozen, min_steps=0).fingerprint


def test_many_are_those_of_one_at_a_time_in_order(features, made, real, test_images):
    learner = learner_of(features, val=real, select="validation")
    one, two = made.take(range(0, 18, 2)), made.take([0, 1, 1, 7, 9, 13])  # one of them twice
    trainings = [
        Training(made, None, 0), Training(None, one, 1), Training(made, real, 2), Training(two, None, 3), Training(None, two, 4),
    ]  # fmt: skip
    many = list(learner.learn_many(trainings))
    assert len(many) == 5
    for model, t in zip(many, trainings, strict=True):
        alone = learner.learn(t.synthetic, t.real, t.seed)
        np.testing.assert_allclose(model.logits(test_images), alone.logits(test_images), atol=1e-4)
        assert len(model.history) == len(alone.history)
    assert many[0].history[0]["val_accuracy"] is not None and many[1].history[0]["val_accuracy"] is None


def test_labels_are_each_trainings_own(features, made, test_images):
    """A placebo: the same images, other labels."""
    other = type(made)(made.paths, np.roll(made.labels, 6), made.ids, made.digests)
    right, wrong = learner_of(features).learn_many([Training(made, None, 0), Training(other, None, 0)])
    want = tune(start_of(features), features(made), np.roll(made.labels, 6), learner_of(features).settings, 0).head
    same(wrong, want, test_images, features)
    assert not np.allclose(right.logits(test_images), wrong.logits(test_images), atol=0.1)


def test_untrained_is_the_zero_shot_classifier(features, test_images):
    model = learner_of(features).untrained()
    np.testing.assert_allclose(model.logits(test_images), start_of(features).predict(features(test_images)), atol=1e-5)
    assert model.history == []


def test_wise_ft_lies_between(features, made, test_images):
    learner = learner_of(features, wise_ft=0.25)
    tuned = tune(start_of(features), features(made), made.labels, learner.settings, 0).head
    same(learner.learn(made, None, 0), interpolate(start_of(features), tuned, 0.25), test_images, features)


def test_the_last_images_are_remembered_and_no_others(features, made, test_images):
    model = learner_of(features).untrained()
    first, other, again = (model.logits(images) for images in (test_images, made, test_images))
    assert first.shape == (36, 3) and other.shape == (18, 3) and np.array_equal(first, again)


def test_a_saved_head_is_read_again(features, made, test_images, tmp_path):
    model = learner_of(features).learn(made, None, 0)
    model.save(tmp_path)
    head, card = Head.load(tmp_path)
    np.testing.assert_allclose(head.predict(features(test_images)), model.logits(test_images), atol=1e-5)
    assert card.class_names == tuple(CLASSES) and card.templates == tuple(TEMPLATES)
    assert card.encoder == "the encoder" and card.encoder_fingerprint == features.encoder.fingerprint
    assert sorted(p.name for p in tmp_path.iterdir()) == ["head.json", "head.safetensors"]


def test_an_unfrozen_encoder_is_trained_and_saved_too(features, made, test_images, tmp_path):
    unfrozen = UnfrozenSettings(trainable_fraction=0.3, learning_rate=1e-3)
    learner = learner_of(features, unfrozen=unfrozen)
    (model,) = learner.learn_many([Training(made, None, 5)])
    want = tune_unfrozen(
        features.encoder, start_of(features), learner.settings, unfrozen, 5,
        synthetic=made, real=None,
    )  # fmt: skip
    np.testing.assert_allclose(
        model.logits(test_images), want.head.predict(Features(want.encoder)(test_images)), atol=1e-4
    )
    assert model.facts == {"trainable_fraction": want.trainable_fraction}
    model.save(tmp_path)
    head, card = Head.load(tmp_path)
    assert card.encoder == str(tmp_path / "encoder")
    again = Features(open_encoder(card.encoder, device="cpu"))
    np.testing.assert_allclose(head.predict(again(test_images)), model.logits(test_images), atol=1e-3)


def test_fingerprints_are_of_all_that_decides(features, made, real):
    base = learner_of(features)
    assert base.fingerprint == learner_of(features).fingerprint
    others = [learner_of(features, real), learner_of(features, epochs=4), learner_of(features, wise_ft=0.5)]
    others += [learner_of(features, unfrozen=UnfrozenSettings())]
    others += [ClipHeadLearner(features, CLASSES, ["{}"], Settings(epochs=3, batch_size=7))]
    assert len({base.fingerprint, *(o.fingerprint for o in others)}) == 6
    one, two, again = (base.learn(made, None, seed).fingerprint for seed in (0, 1, 0))
    assert one == again != two


def test_nothing_to_learn_from_is_refused(features, made):
    with pytest.raises(FigmentError, match="nothing to learn from"):
        learner_of(features).learn(None, None, 0)
    with pytest.raises(FigmentError, match="at least 1"):
        learner_of(features).learn(made.take([]), None, 0)


# ---- baselines -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_baselines_are_their_functions(features, made, test_images):
    learner, start = learner_of(features, wise_ft=0.5), start_of(features)
    x, y, encoder = features(made), made.labels, features.encoder
    crops = augmented_features(encoder, made, AUGMENTED_VIEWS, 3)
    theirs = {
        "tip_adapter": tip_adapter(start, x, y),
        "tip_adapter_f": tip_adapter_f(start, x, y, 3),
        "coop": coop(encoder, CLASSES, x, y, 3),
        "linear_probe": linear_probe(x, y, 3),
        "augmented": interpolate(start, tune_few_shot(start, *crops, 3, learner.settings), 0.5),
    }
    assert set(theirs) == set(BASELINES)
    for name, predictor in theirs.items():
        model = baseline(name, learner).learn(None, made, 3)
        np.testing.assert_allclose(model.logits(test_images), predictor.predict(features(test_images)), atol=1e-4)


def test_baselines_have_names_fingerprints_and_files(features, made, tmp_path):
    learner = learner_of(features)
    all_of_them = [baseline(name, learner) for name in BASELINES]
    assert [b.name for b in all_of_them][:2] == ["Tip-Adapter", "Tip-Adapter-F"]
    assert len({b.fingerprint for b in all_of_them} | {learner.fingerprint}) == 6
    baseline("tip_adapter", learner).learn(None, made, 0).save(tmp_path / "tip")
    baseline("linear_probe", learner).learn(None, made, 0).save(tmp_path / "probe")
    assert sorted(p.name for p in (tmp_path / "tip").iterdir()) == ["tip_adapter.json", "tip_adapter.safetensors"]
    assert (tmp_path / "probe" / "head.safetensors").exists()


def test_baselines_that_cannot_be(features, made):
    class Other(Learner):
        name = "network"

    for name, learner in (("tip_adaptor", learner_of(features)), ("coop", Other())):  # type: ignore[abstract]
        with pytest.raises(FigmentError, match="There are: tip_adapter" if name != "coop" else "network has none"):
            baseline(name, learner)
    with pytest.raises(FigmentError, match="real images alone"):
        baseline("coop", learner_of(features)).learn(made, made, 0)


def test_a_training_starts_where_its_own_images_show_no_bias_and_so_does_its_teacher(features, made, real, test_images):
    learner, zero = learner_of(features, start="bias_removed", soft_weight=0.5), start_of(features)
    x, own = (features(made), made.labels), (features(real), real.labels)
    trainings = [
        Training(made, None, 1),
        Training(None, real, 2),
        Training(made, real, 3),
        Training(made.take(range(9)), None, 4),
    ]
    wants = [
        tune(unbiased(zero, x, None), *x, learner.settings, 1).head,
        tune_few_shot(unbiased(zero, None, own), *own, 2, learner.settings),
        tune_mixed(unbiased(zero, x, own), own, x, learner.settings, 3).head,
        tune(unbiased(zero, (x[0][:9], x[1][:9]), None), x[0][:9], x[1][:9], learner.settings, 4).head,
    ]
    for model, want in zip(learner.learn_many(trainings), wants, strict=True):
        same(model, want, test_images, features)
    assert learner.fingerprint != learner_of(features, soft_weight=0.5).fingerprint


def test_a_placebo_starts_where_its_subject_does(features, made):
    other = type(made)(made.paths, np.roll(made.labels, 6), made.ids, made.digests)  # as many of each class
    learner = learner_of(features, start="bias_removed")
    starts = [learner.start_of(Training(images)) for images in (made, other)]
    assert starts[0].linear.bias.tolist() == starts[1].linear.bias.tolist() != [0.0] * 3


def test_wise_ft_is_with_the_start(features, made, test_images):
    learner = learner_of(features, start="bias_removed", wise_ft=0.25)
    start = learner.start_of(Training(made))
    tuned = tune(start, features(made), made.labels, learner.settings, 0).head
    same(learner.learn(made, None, 0), interpolate(start, tuned, 0.25), test_images, features)


@pytest.mark.parametrize(("free", "where"), [(None, "cpu"), (1_000, "cpu"), (2**20, "cuda:1")])
@pytest.mark.parametrize("kinds", [(True, False), (False, True), (True, True)])
def test_heads_are_tuned_where_the_encoder_is_if_it_is_a_gpu_with_room(
    features, made, real, monkeypatch, free, where, kinds
):
    """Without a GPU: what would be moved there, and that it comes back, with the weights that it has on the CPU."""
    moved = []

    def to(self, device):
        moved.append(str(device))
        return self

    training = Training(*(images if used else None for images, used in zip((made, real), kinds, strict=True)), seed=1)
    learner = learner_of(features)
    (here,) = learner.learn_many([training])
    start, before = learner.zero_shot, learner.zero_shot.linear.weight.clone()
    monkeypatch.setattr("figment.learners.clip_head.learner.free_bytes", lambda device: free)
    monkeypatch.setattr(Head, "to", to)
    monkeypatch.setattr(features.encoder, "device", torch.device("cuda:1"))
    (model,) = learner.learn_many([training])
    assert moved == [where, "cpu"]
    assert model.fingerprint == here.fingerprint
    assert learner.zero_shot is start and torch.equal(start.linear.weight, before)

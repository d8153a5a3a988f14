from __future__ import annotations

import copy
import math
import warnings

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from figment.errors import FigmentError
from figment.learners.clip_head import together
from figment.learners.clip_head import tune as tune_module
from figment.learners.clip_head.head import Head
from figment.learners.clip_head.settings import MixSettings, TuneSettings
from figment.learners.clip_head.tune import tune, tune_few_shot
from figment.learners.training import schedule


def task(n: int = 90, n_features: int = 12, n_classes: int = 3, seed: int = 0, noise: float = 0.6):
    """A zero-shot head that points roughly at the classes, and labelled features around their true centres."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(n_classes, n_features))
    labels = rng.integers(n_classes, size=n)
    features = centres[labels] + noise * rng.normal(size=(n, n_features))
    head = Head.from_texts(centres + rng.normal(size=centres.shape), logit_scale=10.0)
    return head, features.astype(np.float32), labels


def weights(head: Head) -> list[np.ndarray]:
    return [p.detach().numpy() for p in head.parameters()]


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def naive_tune(head: Head, features: np.ndarray, labels: np.ndarray, s: TuneSettings, seed: int) -> list[np.ndarray]:
    """The training loop, slowly: gradients, clipping and AdamW by hand, in float64, one image at a time."""
    w, b = (p.astype(np.float64) for p in weights(head))
    x = features / np.linalg.norm(features, axis=1, keepdims=True)
    teacher_w, teacher_b = w.copy(), b.copy()
    m, v = [np.zeros_like(w), np.zeros_like(b)], [np.zeros_like(w), np.zeros_like(b)]
    order = torch.Generator().manual_seed(seed)
    steps = s.epochs * math.ceil(len(x) / s.batch_size)
    step, n_classes = 0, len(b)
    for _ in range(s.epochs):
        permutation = torch.randperm(len(x), generator=order).tolist()
        for start in range(0, len(x), s.batch_size):
            batch = permutation[start : start + s.batch_size]
            gw, gb = np.zeros_like(w), np.zeros_like(b)
            for i in batch:
                z, teacher = x[i] @ w.T + b, x[i] @ teacher_w.T + teacher_b
                hard = (1 - s.label_smoothing) * np.eye(n_classes)[labels[i]] + s.label_smoothing / n_classes
                soft = softmax(teacher[None] / s.temperature)[0]
                if s.hard_pseudo_labels:
                    soft = np.eye(n_classes)[max(range(n_classes), key=lambda c: teacher[c])]
                t = s.temperature if s.symmetric_temperature else 1.0
                gz = s.soft_weight * t * (softmax(z[None] / t)[0] - soft)  # t^2 of the loss, 1/t of the chain rule
                gz = (gz + (1 - s.soft_weight) * (softmax(z[None])[0] - hard)) / len(batch)
                gw, gb = gw + np.outer(gz, x[i]), gb + gz
            norm = math.sqrt((gw**2).sum() + (gb**2).sum())
            if norm > s.grad_clip:
                gw, gb = gw * s.grad_clip / norm, gb * s.grad_clip / norm
            if step < s.warmup_steps:
                rate = s.learning_rate * (step + 1) / s.warmup_steps
            else:
                done = (step - s.warmup_steps) / (steps - s.warmup_steps)
                rate = s.learning_rate * (1 + math.cos(math.pi * done)) / 2
            step += 1
            for k, (value, gradient) in enumerate(((w, gw), (b, gb))):
                m[k] = 0.9 * m[k] + 0.1 * gradient
                v[k] = 0.999 * v[k] + 0.001 * gradient**2
                value *= 1 - rate * s.weight_decay
                value -= rate * (m[k] / (1 - 0.9**step)) / (np.sqrt(v[k] / (1 - 0.999**step)) + 1e-8)
    return [w, b]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"soft_weight": 0.0, "label_smoothing": 0.1},
        {"soft_weight": 1.0, "temperature": 4.0},
        {"symmetric_temperature": True, "warmup_steps": 5},
        {"grad_clip": 0.01},
        {"hard_pseudo_labels": True, "soft_weight": 0.7},
        {"hard_pseudo_labels": True, "soft_weight": 1.0, "label_smoothing": 0.1},
    ],
)
def test_gives_the_weights_of_the_naive_twin(changes):
    head, features, labels = task()
    settings = TuneSettings(epochs=4, batch_size=32, learning_rate=0.02, **changes)  # 90 = 32 + 32 + 26
    expected = naive_tune(head, features, labels, settings, seed=7)
    for got, want, start in zip(
        weights(tune(head, features, labels, settings, 7).head), expected, weights(head), strict=True
    ):
        np.testing.assert_allclose(got, want, atol=1e-4)
        assert np.abs(want - start).max() > 0.05  # something was learnt, so the line above says something


@pytest.mark.parametrize("n_features", [15, 16, 17])
def test_many_classes_and_any_width_give_the_weights_of_the_naive_twin(n_features):
    head, features, labels = task(n_features=n_features, n_classes=20)
    settings = TuneSettings(epochs=2, batch_size=32, learning_rate=0.02, soft_weight=0.3, label_smoothing=0.1)
    expected = naive_tune(head, features, labels, settings, 7)
    for got, want in zip(weights(tune(head, features, labels, settings, 7).head), expected, strict=True):
        np.testing.assert_allclose(got, want, atol=1e-4)


def test_same_seed_same_bits_and_the_head_passed_in_is_left_alone():
    head, features, labels = task()
    before = copy.deepcopy(head)
    torch.manual_seed(1)
    a = tune(head, features, labels, TuneSettings(batch_size=16), 3).head
    torch.manual_seed(2)  # the global generator has no say
    b = tune(head, features, labels, TuneSettings(batch_size=16), 3).head
    c = tune(head, features, labels, TuneSettings(batch_size=16), 4).head
    assert all(np.array_equal(x, y) for x, y in zip(weights(a), weights(b), strict=True))
    assert not np.array_equal(weights(a)[0], weights(c)[0])
    assert all(np.array_equal(x, y) for x, y in zip(weights(head), weights(before), strict=True))
    assert all(p.requires_grad for p in a.parameters())  # and can be trained on


def test_schedule_matches_the_formula_and_has_every_step():
    rates = schedule(2.0, 4, 10)
    assert len(rates) == 10 and rates[:4] == [0.5, 1.0, 1.5, 2.0]
    assert rates[4:] == pytest.approx([1 + math.cos(math.pi * k / 6) for k in range(6)])
    assert schedule(2e-3, 0, 3) == pytest.approx([2e-3, 1.5e-3, 0.5e-3])
    with pytest.raises(FigmentError, match="warmup_steps is 10"):
        schedule(1.0, 10, 10)


def test_history_tells_each_epoch():
    head, features, labels = task()
    settings = TuneSettings(epochs=5, batch_size=40)  # 3 steps an epoch
    history = tune(head, features, labels, settings, 0).history
    assert [h["epoch"] for h in history] == [1, 2, 3, 4, 5]
    assert [h["learning_rate"] for h in history] == pytest.approx(schedule(2e-3, 0, 15)[2::3])
    assert history[-1]["loss"] < history[0]["loss"]
    assert {h["val_accuracy"] for h in history} == {None}


def test_first_loss_is_that_of_the_head_passed_in():
    head, features, labels = task()
    settings = TuneSettings(epochs=1, batch_size=1000, soft_weight=0.25, temperature=3.0)
    z = head.predict(features).astype(np.float64)
    log_p = np.log(softmax(z))
    expected = -0.25 * (softmax(z / 3) * log_p).sum(1).mean() - 0.75 * log_p[np.arange(len(z)), labels].mean()
    assert tune(head, features, labels, settings, 0).history[0]["loss"] == pytest.approx(expected, rel=1e-5)


def test_tuning_helps_on_other_images_and_validation_is_recorded():
    head, features, labels = task(n=1200)
    val = (features[600:], labels[600:])
    tuned = tune(head, features[:600], labels[:600], TuneSettings(learning_rate=0.02, batch_size=64), 0, val=val)
    start, end = ((h.predict(val[0]).argmax(1) == val[1]).mean() for h in (head, tuned.head))
    assert end > start + 0.03
    assert tuned.history[-1]["val_accuracy"] == pytest.approx(end)


def test_validation_keeps_the_best_epoch_and_the_earliest_of_equals():
    head, features, labels = task(n=400, noise=1.0)
    labels = np.where(
        np.arange(400) < 300, (labels + 1) % 3, labels
    )  # training labels are wrong: every epoch makes it worse
    val = (features[300:], labels[300:])
    settings = TuneSettings(learning_rate=0.05, batch_size=64, epochs=8, soft_weight=0.0, select="validation")
    tuned = tune(head, features[:300], labels[:300], settings, 0, val=val)
    scores = [h["val_accuracy"] for h in tuned.history]
    assert scores[-1] < max(scores)
    assert (tuned.head.predict(val[0]).argmax(1) == val[1]).mean() == pytest.approx(max(scores))
    last = tune(head, features[:300], labels[:300], settings.model_copy(update={"select": "last"}), 0, val=val)
    assert (last.head.predict(val[0]).argmax(1) == val[1]).mean() == pytest.approx(scores[-1])


def test_a_given_teacher_is_followed():
    head, features, labels = task()
    teacher = tune(head, features, labels, TuneSettings(learning_rate=0.05, soft_weight=0.0), 0).head
    settings = TuneSettings(learning_rate=0.05, epochs=60, soft_weight=1.0, temperature=1.0, weight_decay=0.0)
    gap = [
        np.abs(softmax(h.predict(features)) - softmax(teacher.predict(features))).mean()
        for h in (head, tune(head, features, labels, settings, 0, teacher=teacher).head)
    ]
    assert gap[1] < 0.5 * gap[0]


@pytest.mark.parametrize(("n", "epochs"), [(10, 300), (320, 30), (321, 30), (100, 75)])
def test_few_shots_get_300_steps_or_30_epochs(n, epochs, monkeypatch):
    import figment.learners.clip_head.tune as module

    seen = {}

    def spy(*args, **kwargs):
        seen["tuned"] = tune(*args, **kwargs)
        return seen["tuned"]

    head, features, labels = task(n=n)
    monkeypatch.setattr(module, "tune", spy)
    tune_few_shot(head, features, labels, 0, MixSettings(min_steps=300))
    assert len(seen["tuned"].history) == epochs
    assert epochs * math.ceil(n / 32) >= 300


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x[:, :5], y), r"\(n, 12\)"),
        (lambda x, y: (x, y[:-1]), "labels"),
        (lambda x, y: (x[:0], y[:0]), "at least 1"),
        (lambda x, y: (x, y + 1), "0 to 2"),
        (lambda x, y: (np.where(np.arange(len(x))[:, None] == 3, np.nan, x), y), "1 of 90 training features"),
    ],
)
def test_unsound_arrays_are_refused(change, message):
    head, features, labels = task()
    with pytest.raises(FigmentError, match=message):
        tune(head, *change(features, labels), TuneSettings(), 0)


def test_selecting_without_validation_images_is_refused():
    head, features, labels = task()
    with pytest.raises(FigmentError, match="select: validation"):
        tune(head, features, labels, TuneSettings(select="validation"), 0)


def test_test_best_keeps_the_best_epoch_of_what_it_is_given_and_says_what_it_is_for():
    head, features, labels = task(n=300, noise=1.0)
    labels = np.where(np.arange(300) < 200, (labels + 1) % 3, labels)
    settings = TuneSettings(learning_rate=0.05, batch_size=64, epochs=6, select="test_best")
    test = (features[200:], labels[200:])
    tuned = tune(head, features[:200], labels[:200], settings, 0, val=test)
    scores = [h["val_accuracy"] for h in tuned.history]
    assert scores[-1] < max(scores) == pytest.approx((tuned.head.predict(test[0]).argmax(1) == test[1]).mean())
    as_validation = settings.model_copy(update={"select": "validation"})
    other = tune(head, features[:200], labels[:200], as_validation, 0, val=test).head
    assert torch.equal(tuned.head.linear.weight, other.linear.weight)
    with pytest.raises(FigmentError, match="(?s)test_best keeps .* the test images.*exists to reproduce published"):
        tune(head, features, labels, settings, 0)


@pytest.mark.parametrize("symmetric", [False, True])
def test_soft_targets_of_many_images_are_worked_out_in_pieces(symmetric, monkeypatch):
    head, features, labels = task()
    settings = TuneSettings(epochs=2, symmetric_temperature=symmetric, label_smoothing=0.1)
    whole = tune(head, features, labels, settings, 0).head
    monkeypatch.setattr(together, "ROWS_AT_ONCE", 7)
    for got, want in zip(weights(tune(head, features, labels, settings, 0).head), weights(whole), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-4)


def test_features_that_cannot_be_written_to_or_lie_otherwise_are_as_good():
    head, features, labels = task()
    expected = weights(tune(head, features, labels, TuneSettings(epochs=2), 0).head)
    locked = features.copy()
    locked.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for same in (locked, np.asfortranarray(features), features[::-1].copy()[::-1], features.astype(np.float64)):
            got = weights(tune(head, same, labels, TuneSettings(epochs=2), 0).head)
            assert all(np.array_equal(x, y) for x, y in zip(got, expected, strict=True))


def test_only_soft_targets_take_a_matrix(monkeypatch):
    head, features, labels = task()

    def refuse(*_):
        raise AssertionError("a matrix (n, N)")

    monkeypatch.setattr(tune_module, "teacher_probabilities", refuse)
    tune(head, features, labels, TuneSettings(epochs=1, soft_weight=0.0), 0)
    with pytest.raises(AssertionError, match="a matrix"):
        tune(head, features, labels, TuneSettings(epochs=1, soft_weight=0.1), 0)


def test_hard_pseudo_labels_leave_nothing_to_soften():
    with pytest.raises(ValueError, match=r"symmetric_temperature .* hard_pseudo_labels .* one of the two to false"):
        TuneSettings(hard_pseudo_labels=True, symmetric_temperature=True)


@pytest.mark.parametrize("wrong", [{"lr": 1e-3}, {"epochs": 0}, {"soft_weight": 1.5}, {"select": "best"}])
def test_settings_are_strict(wrong):
    with pytest.raises(ValidationError):
        TuneSettings(**wrong)

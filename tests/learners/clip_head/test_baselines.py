"""The baselines a reader expects: Tip-Adapter, CoOp, a linear probe, and weight-space ensembles."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from figment.encoders import ClipEncoder
from figment.learners.clip_head.coop import _Texts, coop, epochs_for, learning_rates
from figment.learners.clip_head.head import Head
from figment.learners.clip_head.linear_probe import linear_probe
from figment.learners.clip_head.tip_adapter import tip_adapter, tip_adapter_f
from figment.learners.clip_head.wise_ft import interpolate

N, D = 3, 8


def clusters(per_class: int, seed: int, spread: float = 0.6) -> tuple[np.ndarray, np.ndarray]:
    centres = np.random.default_rng(0).normal(size=(N, D))
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(N), per_class)
    return (centres[y] + spread * rng.normal(size=(len(y), D))).astype(np.float32), y


def poor_head() -> Head:
    """Words that know a little."""
    centres = np.random.default_rng(0).normal(size=(N, D))
    return Head.from_texts(centres + 1.5 * np.random.default_rng(1).normal(size=(N, D)), 5.0)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.dot(a, b) / math.sqrt(np.dot(a, a) * np.dot(b, b)))


def accuracy(model, data) -> float:
    return float((model.predict(data[0]).argmax(1) == data[1]).mean())


def loss(model, data) -> float:
    return torch.nn.functional.cross_entropy(torch.tensor(model.predict(data[0])), torch.tensor(data[1])).item()


def test_tip_adapter_is_its_formula():
    head, (x, y) = poor_head(), clusters(4, 1)
    adapter = tip_adapter(head, x, y)
    probe = clusters(2, 2)[0]
    unit = lambda v: v / math.sqrt(sum(float(a) ** 2 for a in v))
    for i, row in enumerate(probe):
        expected = head.predict(probe[i : i + 1])[0].copy()
        for key, label in zip(x, y, strict=True):
            cosine = float(np.dot(unit(row), unit(key)))
            expected[label] += adapter.alpha * math.exp(-adapter.beta * (1 - cosine))
        assert adapter.predict(probe)[i] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("drop", [[], [2, 5, 8], [2, 4, 5], [0, 1, 8]])  # 3 shots a class; 2; 2, 1 and 3; 1, 3 and 2
def test_alpha_and_beta_are_chosen_by_leaving_one_out(drop):
    """The naive twin goes through all pairs; what is left of the shot's own class stands in for the one that is left out."""
    head, (x, y) = poor_head(), clusters(3, 1)
    keep = np.isin(np.arange(len(x)), drop, invert=True)
    x, y = x[keep], y[keep]
    grid = {"alphas": (0.0, 0.5, 2.0), "betas": (1.0, 6.0)}
    losses = {}
    for beta in grid["betas"]:
        for alpha in grid["alphas"]:
            total = 0.0
            for i in range(len(x)):
                own = [j for j in range(len(x)) if j != i and y[j] == y[i]]
                if not own:
                    continue
                logits = torch.tensor(head.predict(x[i : i + 1]))
                for j in range(len(x)):
                    counts = (len(own) + 1) / len(own) if y[j] == y[i] else 1
                    logits[0, y[j]] += 0 if j == i else alpha * counts * math.exp(-beta * (1 - cosine(x[i], x[j])))
                total += torch.nn.functional.cross_entropy(logits, torch.tensor(y[i : i + 1])).item()
            losses[alpha, beta] = total
    best = tip_adapter(head, x, y, **grid)
    assert (best.alpha, best.beta) == min(losses, key=losses.__getitem__)


@pytest.mark.parametrize("shots", [2, 3, 8])
@pytest.mark.parametrize("n_classes", [2, 5])
@pytest.mark.parametrize("gap", [0.02, 0.1, 0.4])
def test_shots_that_tell_the_classes_apart_are_listened_to_however_few(shots, n_classes, gap):
    """All cosines within a class are .5 + gap, all others .5, and the words know nothing: listening is right.

    Left out, a shot has a key fewer of its own class than there are of any other, which looked as if it were wrong.
    """
    y = np.repeat(np.arange(n_classes), shots)
    cosines = 0.5 + gap * (y[:, None] == y) + (0.5 - gap) * np.eye(len(y))
    x, head = np.linalg.cholesky(cosines), Head(len(y), n_classes)
    torch.nn.init.zeros_(head.linear.weight)
    assert tip_adapter(head, x, y, alphas=(0.0, 0.5), betas=(1.0,)).alpha == 0.5


def test_one_shot_a_class_takes_the_published_start():
    x, y = clusters(1, 1)
    assert (tip_adapter(poor_head(), x, y).alpha, tip_adapter(poor_head(), x, y).beta) == (1.0, 5.5)


def test_shots_help_and_tuned_keys_help_more_on_the_shots():
    head, shots, test = poor_head(), clusters(8, 1, spread=1.5), clusters(200, 2, spread=1.5)
    free, tuned = tip_adapter(head, *shots), tip_adapter_f(head, *shots, seed=0)
    assert accuracy(free, test) > accuracy(head, test) + 0.05
    unlearnt = tip_adapter_f(head, *shots, seed=0, learning_rate=1e-12)
    assert torch.allclose(unlearnt.keys, free.keys)  # nothing but the training moves them
    assert loss(tuned, shots) < 0.5 * loss(unlearnt, shots)
    longer = tip_adapter_f(head, *shots, seed=0, epochs=200)
    assert loss(longer, shots) < 0.5 * loss(tuned, shots)
    again = tip_adapter_f(head, *shots, seed=0)
    assert torch.equal(again.keys, tuned.keys) and not torch.equal(tuned.keys, free.keys)


@pytest.mark.parametrize("l2", [0.1, 1.0, 10.0])
def test_the_linear_probe_is_scikit_learns(l2):
    x, y = clusters(20, 3)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    theirs = LogisticRegression(C=1 / l2, tol=1e-10, max_iter=5000).fit(unit, y)
    ours = linear_probe(x, y, N, l2=l2)
    assert ours.linear.weight.detach().numpy() == pytest.approx(theirs.coef_, abs=1e-3)
    probe = clusters(5, 4)[0]
    p = torch.tensor(ours.predict(probe)).softmax(-1).numpy()
    assert p == pytest.approx(theirs.predict_proba(probe / np.linalg.norm(probe, axis=1, keepdims=True)), abs=1e-4)


def test_interpolation_goes_from_one_end_to_the_other():
    before, after = poor_head(), linear_probe(*clusters(5, 1), N)
    assert torch.equal(interpolate(before, after, 0.0).linear.weight, before.linear.weight)
    assert torch.equal(interpolate(before, after, 1.0).linear.weight, after.linear.weight)
    middle = interpolate(before, after, 0.25).linear.weight
    assert torch.allclose(middle, 0.75 * before.linear.weight + 0.25 * after.linear.weight)


# ---- CoOp, with a tiny CLIP ------------------------------------------------------------------------------------------

NAMES = ["red thing", "green thing", "blue thing"]


@pytest.fixture(scope="module")
def encoder(clip) -> ClipEncoder:
    return ClipEncoder(str(clip))


def test_vectors_that_are_the_words_give_the_words_features(encoder):
    """With the filler's own embedding in its places, the learnt prompt is an ordinary text."""
    texts = _Texts(encoder, NAMES, 2)
    embedding = encoder.token_embedding
    filler = texts.tokens[0, 1:3]
    with torch.no_grad():
        own = texts(embedding(filler)).numpy()
    assert own == pytest.approx(encoder.texts([f"x x {name}." for name in NAMES]), abs=1e-5)
    assert not embedding._forward_hooks  # nothing is left behind


def test_coop_learns_from_shots_and_leaves_the_encoder_as_it_was(encoder):
    rng = np.random.default_rng(0)
    width = encoder.n_features
    y = np.repeat(np.arange(3), 4)
    x = (np.eye(3, width)[y] + 0.1 * rng.normal(size=(12, width))).astype(np.float32)
    before = {k: v.clone() for k, v in encoder.model.state_dict().items()}
    head = coop(encoder, NAMES, x, y, seed=0, n_context=4, epochs=30, learning_rate=0.05)
    # What one epoch at the warm-up's rate of 1e-5 leaves: the vectors as they were drawn. Beside the zero-shot
    # classifier they would look as if they had learnt something.
    unlearnt = coop(encoder, NAMES, x, y, seed=0, n_context=4, epochs=1, learning_rate=0.05)
    other = [coop(encoder, NAMES, x, y, seed, n_context=4, epochs=1) for seed in range(1, 6)]
    assert loss(head, (x, y)) < 0.9 * min(loss(h, (x, y)) for h in [unlearnt, *other])
    assert all(torch.equal(v, before[k]) for k, v in encoder.model.state_dict().items())
    assert all(p.grad is None for p in encoder.model.parameters())
    again = coop(encoder, NAMES, x, y, seed=0, n_context=4, epochs=30, learning_rate=0.05)
    assert torch.equal(again.linear.weight, head.linear.weight)


@pytest.mark.parametrize("epochs", [1, 2, 50, 100, 200])
def test_coops_rates_are_the_authors(epochs):
    """Their schedule is torch's cosine, which is held back for an epoch at 1e-5 and then begins at its beginning."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=2e-3)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    rates = [1e-5]
    while len(rates) < epochs:
        rates.append(cosine.get_last_lr()[0])
        optimizer.step()
        cosine.step()
    assert learning_rates(epochs, 2e-3) == pytest.approx(rates, rel=1e-9)


def test_coops_training_length():
    assert [epochs_for(k) for k in (1, 2, 4, 8, 16)] == [50, 100, 100, 200, 200]

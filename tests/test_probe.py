"""The linear probe beside scikit-learn's logistic regression, and the nearest neighbours beside a slow twin."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from figment.probe import RATES, held_out, knn, linear_probe


def clouds(n: int, d: int, classes: int, seed: int, spread: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping classes, dimensions of very different sizes."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=n)
    means = np.random.default_rng(99).normal(0, spread, (classes, d))
    scale = np.exp(np.random.default_rng(98).uniform(-3, 3, d))
    return ((means[labels] + rng.normal(size=(n, d))) * scale + 2 * scale).astype(np.float32), labels


@pytest.mark.parametrize(
    ("n", "d", "classes", "spread", "steps"),
    [
        (1500, 16, 5, 0.5, 200),
        *(pytest.param(*p, marks=pytest.mark.slow) for p in [(2000, 32, 3, 0.25, 1000), (4000, 8, 10, 1.0, 1000)]),
    ],
)
def test_as_accurate_as_logistic_regression(n: int, d: int, classes: int, spread: float, steps: int, monkeypatch):
    monkeypatch.setattr("figment.probe.MIN_STEPS", steps)
    x, y = clouds(n, d, classes, 0, spread)
    test, truth = clouds(20_000, d, classes, 1, spread)
    mean, std = x.mean(0), x.std(0)
    theirs = LogisticRegression(C=1.0, max_iter=1000).fit((x - mean) / std, y).score((test - mean) / std, truth)
    own = linear_probe(x, y, classes)
    assert (own(test).argmax(1) == truth).mean() == pytest.approx(theirs, abs=0.005)
    assert own.held_out.keys() == set(RATES) and own.rate == max(own.held_out, key=lambda r: own.held_out[r])


def test_features_are_taken_as_they_are_where_they_are_not_normalised(monkeypatch):
    """The probe without BatchNorm: as accurate as logistic regression on the features themselves."""
    monkeypatch.setattr("figment.probe.MIN_STEPS", 200)
    (x, y), (test, truth) = clouds(1500, 16, 5, 0, 0.5), clouds(20_000, 16, 5, 1, 0.5)
    mean, size = x.mean(0), np.linspace(0.8, 1.25, 16, dtype=np.float32) / x.std(0)  # no rate fits sizes of e-3 to e+3
    x, test = (x - mean) * size, (test - mean) * size
    own = linear_probe(x, y, 5, normalise=False)
    theirs = LogisticRegression(C=1.0, max_iter=1000).fit(x, y).score(test, truth)
    assert (own(test).argmax(1) == truth).mean() == pytest.approx(theirs, abs=0.005)
    other = linear_probe(x, y, 5)
    assert not np.allclose(own.weight, other.weight, rtol=0.01)


@pytest.mark.parametrize("size", [1.0, 1e-3, 1e-5])
def test_features_are_normalised_as_a_batch_norm_without_weights_does(size: float, monkeypatch):
    """Those of a backbone that has collapsed hardly vary, and are not to be enlarged into what they are not."""
    import torch

    from figment import probe

    seen, fit = [], probe._fit
    monkeypatch.setattr(probe, "_fit", lambda x, *others: seen.append(x) or fit(x, *others))
    monkeypatch.setattr(probe, "MIN_STEPS", 20)
    x, y = np.random.default_rng(0).normal(2, size, (40, 6)).astype(np.float32), np.arange(40) % 3
    own = linear_probe(x, y, 3)
    theirs = torch.nn.BatchNorm1d(6, eps=1e-6, affine=False)(torch.from_numpy(x))
    torch.testing.assert_close(seen[-1], theirs, rtol=1e-3, atol=1e-3)
    weight, bias = fit(theirs, torch.from_numpy(y), 3, (own.rate,), 0)
    torch.testing.assert_close(torch.from_numpy(own(x)), theirs @ weight[0] + bias[0], rtol=1e-2, atol=1e-2)


def test_ten_rates_at_once_are_ten_rates_one_by_one(monkeypatch):
    import torch

    from figment.probe import _fit

    monkeypatch.setattr("figment.probe.MIN_STEPS", 60)
    monkeypatch.setattr("figment.probe.EPOCHS", 60)
    x, y = (torch.from_numpy(a) for a in clouds(60, 6, 3, 0))
    x = (x - x.mean(0)) / x.std(0)
    weights, biases = _fit(x, y, 3, RATES, 0)
    for i in (0, 4, 9):
        weight, bias = _fit(x, y, 3, (RATES[i],), 0)
        torch.testing.assert_close(weights[i], weight[0], rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(biases[i], bias[0], rtol=1e-3, atol=1e-5)


def test_one_step_is_torchs_sgd(monkeypatch):
    import torch

    from figment import probe

    monkeypatch.setattr(probe, "MIN_STEPS", 3)
    monkeypatch.setattr(probe, "EPOCHS", 3)
    x, y = torch.randn(20, 4), torch.arange(20) % 3
    found, bias = probe._fit(x, y, 3, (0.2,), 7)
    generator = torch.Generator().manual_seed(7)
    head = torch.nn.Linear(4, 3)
    head.weight.data = (torch.randn(4, 3, generator=generator) * 0.01).T.contiguous()
    head.bias.data.zero_()
    optimizer = torch.optim.SGD(head.parameters(), lr=0.2 * 20 / 256, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 3)
    for _ in range(3):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(head(x), y).backward()
        optimizer.step()
        schedule.step()
    torch.testing.assert_close(found[0].T, head.weight.data, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(bias[0], head.bias.data, rtol=1e-4, atol=1e-6)


def test_the_rate_is_chosen_on_one_in_five_of_each_class():
    labels = np.repeat([0, 1, 2], [10, 5, 4])
    held = held_out(labels)
    assert [held[labels == c].sum() for c in range(3)] == [2, 1, 0]
    few = linear_probe(np.eye(4, dtype=np.float32), np.array([0, 1, 2, 0]), 3)
    assert few.held_out == {} and few(np.eye(4, dtype=np.float32)).argmax(1).tolist() == [0, 1, 2, 0]


@pytest.mark.parametrize("k", [1, 5, 1000])
def test_neighbours_vote_by_their_cosine(k: int):
    x, y = clouds(40, 6, 3, 0)
    queries, _ = clouds(7, 6, 3, 1)
    found = knn(x, y, queries, 4, k)
    for q, row in zip(queries, found, strict=True):
        cosine = x @ q / np.linalg.norm(x, axis=1) / np.linalg.norm(q)
        votes = np.zeros(4)
        for i in np.argsort(-cosine)[:k]:
            votes[y[i]] += np.exp(cosine[i] / 0.07)
        np.testing.assert_allclose(row, votes / votes.sum(), atol=1e-4)

"""A classifier without words, and its sum with the one of words."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from figment.bias import bias_of
from figment.errors import FigmentError
from figment.learners.clip_head.discriminant import NEVER, discriminant
from figment.learners.clip_head.images_only import WEIGHT, ImagesOnlyLearner
from figment.learners.clip_head.unbiased import unbiased
from figment.learners.clip_head.words_and_images import LEFT_OUT, WordsAndImagesLearner
from figment.types import Training


def clusters(n_classes=5, a_class=40, d=24, noise=1.5, seed=0):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(n_classes, d))
    labels = np.tile(np.arange(n_classes), a_class)
    x = centres[labels] + noise * np.linspace(0.2, 1.8, d) * rng.normal(size=(len(labels), d))
    return x / np.linalg.norm(x, axis=1, keepdims=True), labels


def test_by_its_formula():
    """The scores of the textbook, with Chen et al.'s shrinkage (2010, equation 23) of a pooled covariance."""
    x, y = clusters()
    means = np.stack([x[y == c].mean(0) for c in range(5)])
    within = x - means[y]
    n, d = len(x) - 5, x.shape[1]
    s = within.T @ within / n
    trace, of_square = np.trace(s), np.trace(s @ s)
    rho = min(1, ((1 - 2 / d) * of_square + trace**2) / ((n + 1 - 2 / d) * (of_square - trace**2 / d)))
    assert 0 < rho < 1
    inverse = np.linalg.inv((1 - rho) * s + rho * trace / d * np.eye(d))
    mu = means.mean(0)
    new, _ = clusters(seed=1)
    scores = (new - mu) @ inverse @ (means - mu).T - 0.5 * np.einsum("cd,de,ce->c", means - mu, inverse, means - mu)
    found = discriminant(x, y, 5).predict(new)
    assert found - found.mean(1, keepdims=True) == pytest.approx(scores - scores.mean(1, keepdims=True), abs=2e-3)


def test_scikit_learn_says_the_same_classes():
    """With so many images that shrinkage hardly matters: scikit-learn 1.9 shrinks the covariance of each class, not the pooled one."""
    x, y = clusters(noise=2.5, a_class=2_000)
    new, labels = clusters(noise=2.5, seed=1)
    theirs = LinearDiscriminantAnalysis(solver="lsqr", priors=[0.2] * 5).fit(x, y)
    ours = discriminant(x, y, 5).predict(new).argmax(1)
    assert (ours == theirs.predict(new)).mean() > 0.98
    assert (ours == labels).mean() > 0.5


def test_one_image_a_class_is_the_nearest_mean():
    x, y = clusters(a_class=1)
    new, _ = clusters(seed=1)
    nearest = np.linalg.norm(new[:, None] - x[None], axis=2).argmin(1)
    assert (discriminant(x, y, 5).predict(new).argmax(1) == y[nearest]).all()


def test_images_that_are_all_the_same_and_classes_without_images():
    x, y = clusters(a_class=4)
    head = discriminant(x[y != 3], y[y != 3], 5)
    logits = head.predict(x)
    assert (logits[:, 3] == NEVER).all() and (logits.argmax(1) != 3).all()
    same = discriminant(np.repeat(x[:5], 3, axis=0), np.repeat(y[:5], 3), 5)
    assert (same.predict(x[:5]).argmax(1) == y[:5]).all()
    many = discriminant(np.repeat(x[:3], 100_000, axis=0), np.repeat(np.arange(3), 100_000), 3)
    assert many.linear.weight.abs().max() < 1e10  # of sums of so many, what they were rounded by is no variance


class Table:
    """Images that are their features."""

    def __init__(self, x, labels):
        self.x, self.labels = x, labels
        self.digests = [row.tobytes().hex() for row in x]


class Encoder:
    fingerprint, logit_scale = "planted", 50.0

    def __init__(self, prototypes):
        self.prototypes = prototypes

    def texts(self, texts):
        return self.prototypes[[int(t) for t in texts]]


class Known:
    def __init__(self, prototypes):
        self.encoder = Encoder(prototypes)

    def __call__(self, images):
        return images.x.astype(np.float32)


def words(bias: float = 0.3):
    """Prototypes near the classes, all a little nearer to the first: a bias."""
    rng = np.random.default_rng(5)
    centres = np.random.default_rng(99).normal(size=(5, 24))
    p = centres + rng.normal(size=centres.shape)
    p[0] += bias * centres.sum(0)
    return (p / np.linalg.norm(p, axis=1, keepdims=True)).astype(np.float32)


def test_words_and_images_add_their_log_probabilities():
    prototypes, made, test = words(), Table(*clusters()), Table(*clusters(seed=1))
    learner = WordsAndImagesLearner(Known(prototypes), list("01234"), ["{}"])
    found = learner.learn(made, None, 0).logits(test)
    zero = 50 * made.x @ prototypes.T
    unbiased = 50 * test.x @ prototypes.T + bias_of(zero)
    images = discriminant(made.x, made.labels, 5).predict(test.x)
    both = log_softmax(unbiased, 1) + log_softmax(images, 1)
    assert log_softmax(found, 1) == pytest.approx(log_softmax(both, 1), abs=5e-3)
    assert learner.untrained().logits(test) == pytest.approx(50 * test.x @ prototypes.T, abs=1e-3)


def test_it_is_better_than_either():
    prototypes, test = words(), Table(*clusters(noise=2.5, seed=1, a_class=400))
    made = Table(*clusters(noise=2.5, a_class=8))
    right = lambda model: (model.logits(test).argmax(1) == test.labels).mean()
    known = Known(prototypes)
    both = WordsAndImagesLearner(known, list("01234"), ["{}"])
    only = ImagesOnlyLearner(known, list("01234"))
    assert right(both.learn(made, None, 0)) > max(right(only.learn(made, None, 0)), right(both.untrained()))


def test_generated_images_like_the_real_ones_are_learnt_from_alike_and_the_seed_changes_nothing():
    made, real = Table(*clusters()), Table(*clusters(seed=2, a_class=3))
    learner = ImagesOnlyLearner(Known(words()), list("01234"))
    a, b = learner.learn_many([Training(made, real, 0), Training(made, real, 1)])
    together = discriminant(np.concatenate([made.x, real.x]), np.concatenate([made.labels, real.labels]), 5)
    assert a.facts == {WEIGHT: 1.0}
    assert a.logits(made) == pytest.approx(together.predict(made.x), abs=1e-3)
    assert a.fingerprint == b.fingerprint
    assert learner.untrained() is None
    with pytest.raises(FigmentError, match="nothing to learn from"):
        learner.learn(None, None, 0)


def wrong_words():
    """Every class by the name of another."""
    return np.roll(words(0.0), 1, axis=0)


def test_words_are_left_out_where_real_images_tell_that_they_do_harm():
    made, test = Table(*clusters(a_class=8)), Table(*clusters(seed=1, a_class=100))
    shots, names = Table(*clusters(seed=2, a_class=4)), list("01234")
    right = lambda model: (model.logits(test).argmax(1) == test.labels).mean()
    blind = WordsAndImagesLearner(Known(wrong_words()), names, ["{}"]).learn(made, None, 0)
    assert right(blind) < 0.9 and blind.facts == {}  # nobody told
    with_shots = WordsAndImagesLearner(Known(wrong_words()), names, ["{}"]).learn(made, shots, 0)
    only = ImagesOnlyLearner(Known(wrong_words()), names).learn(made, shots, 0)
    assert with_shots.facts == {WEIGHT: only.facts[WEIGHT], **LEFT_OUT}
    assert with_shots.logits(test) == pytest.approx(only.logits(test), abs=1e-4)
    validated = WordsAndImagesLearner(Known(wrong_words()), names, ["{}"], val=shots).learn(made, None, 0)
    assert validated.facts == LEFT_OUT and right(validated) > right(blind)


def test_validation_images_judge_models_as_they_are_used():
    """Each with the weight that suits it: with that of the images alone, the sum would be right on none of these."""
    x, y = clusters(noise=2.5, a_class=60)
    made = Table(x + 0.15 * np.random.default_rng(8).normal(size=(5, x.shape[1]))[y], y)
    shots, pool = Table(*clusters(noise=2.5, seed=500, a_class=16)), Table(*clusters(noise=2.5, seed=1, a_class=400))
    known, names = Known(words()), list("01234")
    learner = WordsAndImagesLearner(known, names, ["{}"])
    both, only = learner.learn(made, shots, 0), ImagesOnlyLearner(known, names).learn(made, shots, 0)
    assert LEFT_OUT.keys().isdisjoint(both.facts) and both.facts[WEIGHT] != only.facts[WEIGHT]
    said = unbiased(learner.zero_shot, (made.x, made.labels), (shots.x, shots.labels)).predict(pool.x)
    by_both, by_only, otherwise = (
        logits.argmax(1) == pool.labels for logits in (both.logits(pool), only.logits(pool), said + only.logits(pool))
    )
    told = np.flatnonzero(by_both & by_only & ~otherwise)
    val = Table(pool.x[told], pool.labels[told])
    judged = WordsAndImagesLearner(known, names, ["{}"], val=val).learn(made, shots, 0)
    assert len(told) > 0 and judged.fingerprint == both.fingerprint and judged.facts == both.facts


def test_good_words_are_kept():
    made, shots = Table(*clusters(noise=2.5, a_class=8)), Table(*clusters(noise=2.5, seed=2, a_class=4))
    model = WordsAndImagesLearner(Known(words()), list("01234"), ["{}"]).learn(made, shots, 0)
    assert LEFT_OUT.keys().isdisjoint(model.facts)


def test_validation_images_count_for_the_learner():
    plain, seen = (
        WordsAndImagesLearner(Known(words()), list("01234"), ["{}"], val=val)
        for val in (None, Table(*clusters(seed=2, a_class=4)))
    )
    assert plain.fingerprint != seen.fingerprint

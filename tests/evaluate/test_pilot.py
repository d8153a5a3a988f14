"""What a pilot says of features and predictions whose truth is planted."""

from __future__ import annotations

import numpy as np
import pytest

from figment.evaluate.content import Content
from figment.evaluate.pilot import COVERED, RECOGNISED, between, know_classes, know_domain, room_left

NAMES = [f"thing {c}" for c in range(10)]
PASSED, FAILED = Content(True, 0.001, 0.8, True, 200), Content(False, 0.4, 0.11, True, 200)
UNSURE = Content(False, 0.1, 0.5, False, 12)  # of two classes


def logits_of(shares: list[float], n: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """Of each class the first so many of n images are recognised, the others taken for the next class."""
    labels = np.repeat(np.arange(len(shares)), n)
    right = np.concatenate([np.arange(n) < share * n for share in shares])
    return np.eye(len(shares))[np.where(right, labels, (labels + 1) % len(shares))], labels


@pytest.mark.parametrize(
    ("share", "word"), [(0.1, "unknown"), (0.25, "unknown"), (0.45, "partly known"), (0.75, "known")]
)
def test_the_word_for_classes_goes_by_how_far_from_guessing_they_are(share, word):
    found = know_classes(*logits_of([share] * 10), NAMES, "a CLIP")
    assert found.word == word and found.numbers["classifier"] == "a CLIP"
    assert found.sentence.startswith("The generator does not know these classes") == (word == "unknown")
    assert "guessing gives 10 %" in found.sentence


def test_two_classes_half_of_them_recognised_are_guessed():
    assert know_classes(*logits_of([0.5, 0.5]), NAMES[:2], "x").word == "unknown"
    assert know_classes(*logits_of([0.9, 0.9]), NAMES[:2], "x").word == "known"


def test_single_classes_that_are_surely_not_known_are_named_the_worst_first():
    found = know_classes(*logits_of([1, 1, 0.1, 1, 1, 0, 1, 0.3, 1, 1]), NAMES, "x")
    assert found.word == "known" and found.numbers["not_known"] == ["thing 5", "thing 2"]
    assert found.sentence.endswith("Surely not known: thing 5, thing 2.")


def world(n: int, seed: int, spread: float = 1.0, shift: float = 0.0) -> np.ndarray:
    return spread * np.random.default_rng(seed).normal(size=(n, 6)) + shift


@pytest.mark.parametrize(
    ("made", "content", "word"),
    [
        (world(100, 1), PASSED, "known"),
        (world(100, 1), None, "known"),
        (world(100, 1, spread=0.1), None, "partly known"),
        (world(100, 1, shift=8.0), None, "unknown"),
        (world(100, 1, shift=2.0), None, "unknown"),
        (world(100, 1), UNSURE, "partly known"),
        (world(100, 1), FAILED, "unknown"),  # the right images under labels that have nothing to do with them
    ],
)
def test_the_word_for_the_domain_goes_by_coverage_beside_that_of_real_images(made, content, word):
    found = know_domain(made, world(240, 2), "an encoder", "train", content)
    assert found.word == word, found
    told = found.numbers
    assert (told["n"], told["k"], told["extractor"], told["split"]) == (100, 5, "an encoder", "train")
    assert told["coverage_among_real"] > 0.85
    assert (told["frechet_ratio"] < 1.5) == (told["coverage"] > 0.85)
    assert ("not told from guessing" in found.sentence) == (content in (FAILED, UNSURE))
    assert ("check first that the labels" in found.sentence) == (content is FAILED)


@pytest.mark.parametrize(("made", "real"), [(19, 100), (100, 39)])
def test_few_images_cannot_tell_a_domain(made, real):
    found = know_domain(world(made, 1), world(real, 2), "x", "train", None)
    assert found.word == "cannot say" and "40 real images and 20 generated ones would tell" in found.sentence


@pytest.mark.parametrize(
    ("n", "words", "learnt", "word"),
    [
        (400, 0.6, 0.8, "room"),
        (4_000, 0.9, 0.9, "at the ceiling"),
        (4_000, 0.9, 0.85, "cannot say"),  # so little to learn from says nothing of what could be learnt
        (60, 0.8, 0.81, "cannot say"),
    ],
)
def test_what_is_left_to_learn(n, words, learnt, word):
    labels = np.arange(n) % 10
    rng = np.random.default_rng(0)

    def predicted(share: float) -> np.ndarray:
        return np.where(rng.random(n) < share, labels, (labels + 1) % 10)

    own = {"zero_shot": 0.5, "bias_removed": words, "images_only": learnt - 0.05, "words_and_images": learnt}
    found = room_left({name: predicted(share) for name, share in own.items()}, labels, NAMES, "train")
    assert found.word == word and found.numbers["n"] == n and found.numbers["split"] == "train"
    assert found.numbers["ci"][0] < found.numbers["gain"] < found.numbers["ci"][1]


@pytest.mark.parametrize("bounds", [RECOGNISED, COVERED])
def test_words_change_at_their_bounds(bounds):
    low, high = bounds
    assert [between(x, bounds) for x in (low - 0.01, low, high - 0.01, high)] == [
        "unknown",
        "partly known",
        "partly known",
        "known",
    ]

"""Filters on images whose verdict is known."""

from __future__ import annotations

import numpy as np
import pytest

from figment.bias import bias_of
from figment.encoders import Features
from figment.filters.blank import BlankFilter
from figment.filters.clip import ClipFilter, is_guessing
from figment.filters.selection import select
from figment.types import Verdict
from planted import Pixels

NAMES = ["a", "b", "c", "d"]


class FirstPixel:
    """An encoder whose classes are the axes: the first pixel says which class, the second how clearly."""

    name, fingerprint, logit_scale = "first-pixel", "0123456789abcdef", 5.0

    def images(self, images):
        features = np.full((len(images), 4), 0.5, np.float32)
        for row, image in zip(features, images, strict=True):
            row[int(image[0, 0, 0])] += float(image[0, 1, 0]) / 100
        return features / np.linalg.norm(features, axis=1, keepdims=True)

    def texts(self, texts):
        return np.eye(4, dtype=np.float32)[[NAMES.index(t.split()[-1].rstrip(".")) for t in texts]]


def image(shown: int, clearness: int) -> np.ndarray:
    image = np.zeros((4, 4, 3), np.uint8)
    image[0, 0], image[0, 1] = shown, clearness
    return image


def planted(seed: int = 0, n: int = 40) -> Pixels:
    rng = np.random.default_rng(seed)
    images = [image(rng.integers(4), rng.integers(1, 200)) for _ in range(n)]
    return Pixels(images, np.arange(n) % 4)


def naive_p(images: Pixels) -> list[float]:
    """The rule, one image at a time."""
    encoder, found = FirstPixel(), []
    for image, label in zip(images.images, images.labels, strict=True):
        cosines = encoder.images([image])[0] @ encoder.texts([f"a photo of a {n}." for n in NAMES]).T
        e = np.exp(5.0 * cosines.astype(np.float64))
        found.append(e[label] / e.sum())
    return found


def clip(**settings) -> ClipFilter:
    return ClipFilter(Features(FirstPixel()), NAMES, **{"remove_bias": False, **settings})


def test_blank_tells_black_constant_and_real_images_apart():
    noise = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    images = Pixels([np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 128, np.uint8), noise], np.zeros(3, int))
    verdicts = BlankFilter()(images)
    assert [(v.keep, v.reason) for v in verdicts] == [(False, "black"), (False, "constant"), (True, "")]
    assert verdicts[2].scores["std"] == pytest.approx(noise.std())


def test_a_uniform_softmax_keeps_nothing_since_the_threshold_is_strict():
    images = Pixels([image(0, 0) for _ in range(8)], np.arange(8) % 4)
    verdicts = clip()(images)
    assert [v.scores["clip_p"] for v in verdicts] == [0.25] * 8
    assert not any(v.keep for v in verdicts)
    assert {v.reason for v in verdicts} == {"clip: p(own class) <= 0.25"}


def test_threshold_is_the_papers_rule():
    images = planted()
    verdicts = clip()(images)
    expected = naive_p(images)
    np.testing.assert_allclose([v.scores["clip_p"] for v in verdicts], expected, rtol=1e-6)
    assert [v.keep for v in verdicts] == [p > 0.25 for p in expected]
    assert 0 < sum(v.keep for v in verdicts) < len(verdicts)
    assert [v.keep for v in clip(threshold=0.5)(images)] == [p > 0.5 for p in expected]


@pytest.mark.parametrize("highest", [0.3, 0.5, 0.9, 1.0])
def test_a_window_of_confidence_drops_what_is_too_sure(highest):
    images = planted()
    p, verdicts = naive_p(images), clip(highest=highest)(images)
    assert [v.keep for v in verdicts] == [0.25 < own <= highest for own in p]
    said = [
        "" if v.keep else "<= 0.25" if own <= 0.25 else f"> {highest:g}" for v, own in zip(verdicts, p, strict=True)
    ]
    assert [v.reason.removeprefix("clip: p(own class) ") for v in verdicts] == said
    with pytest.raises(ValueError, match="highest drops them"):
        clip(rule="top_k", k=2, highest=0.5)


def test_top_k_keeps_the_best_of_each_class_threshold_or_not():
    images = planted()
    p = np.array(naive_p(images))
    keep = np.array([v.keep for v in clip(rule="top_k", k=7)(images)])
    for label in range(4):
        own = np.flatnonzero(images.labels == label)
        assert set(own[keep[own]]) == set(sorted(own, key=lambda i: -p[i])[:7])
    assert (p[keep] <= 0.25).any()  # seven were wanted, fewer passed


def test_threshold_else_top_k_fills_up_a_bad_class_and_draws_from_a_good_one():
    good = [image(0, 150) for _ in range(9)]
    bad = [image(2, 10 * i) for i in range(1, 7)]  # labelled b, look like c: the clearer the worse
    images = Pixels(good + bad, np.array([0] * 9 + [1] * 6))
    verdicts = clip(rule="threshold_else_top_k", k=4, seed=1)(images)
    keep = np.array([v.keep for v in verdicts])
    assert keep[:9].sum() == 4
    assert keep[9:].tolist() == [True] * 4 + [False] * 2
    assert {v.reason for v in verdicts[:9] if not v.keep} == {"clip: more passed than wanted"}
    other = np.array([v.keep for v in clip(rule="threshold_else_top_k", k=4, seed=2)(images)])
    assert (other[:9] != keep[:9]).any()  # which of the good ones is chance, and the seed decides it
    assert (other[9:] == keep[9:]).all()


def test_a_rule_that_needs_k_says_so():
    with pytest.raises(ValueError, match="needs k"):
        clip(rule="top_k")


class Odd:
    name = "odd"

    def __call__(self, images):
        return [Verdict(int(i) % 2 == 0, "" if int(i) % 2 == 0 else "odd") for i in images.labels]


class Seen:
    name = "seen"

    def __call__(self, images):
        self.labels = images.labels.tolist()
        return [Verdict(label != 2, "" if label != 2 else "two") for label in images.labels]


def test_each_filter_sees_what_those_before_it_kept():
    images = Pixels([image(0, 0)] * 8, np.arange(8) % 4)
    seen = Seen()
    selection = select(images, [Odd(), seen])
    assert seen.labels == [0, 2, 0, 2]
    assert selection.keep.tolist() == [True, False, False, False] * 2
    assert selection.counts() == {"odd": 4, "two": 2}
    assert selection.kept.labels.tolist() == [0, 0]
    assert [(s.filter, s.index.tolist()) for s in selection.steps] == [("odd", list(range(8))), ("seen", [0, 2, 4, 6])]


def test_no_filter_keeps_everything():
    assert select(planted(), []).keep.all()


def test_features_are_computed_once_by_content_and_survive_the_process(tmp_path):
    class Counting(FirstPixel):
        calls = 0

        def images(self, decoded):
            Counting.calls += len(decoded)
            return super().images(decoded)

    images = planted()
    first = Features(Counting(), tmp_path)(images)
    distinct = len(set(images.digests))
    assert Counting.calls <= len(images)
    before = Counting.calls
    again = Features(Counting(), tmp_path)(images.take(range(39, -1, -1)))
    assert Counting.calls == before
    np.testing.assert_array_equal(again, first[::-1])
    assert len(set(map(bytes, first))) <= distinct
    other = Counting()
    other.fingerprint = "another-encoder!"
    Features(other, tmp_path)(images)
    assert Counting.calls > before


def naive_rule(p, labels, rule, threshold, k, seed):
    """The three rules, one class and one image at a time."""
    kept = set()
    rng = np.random.default_rng(seed)
    for label in sorted(set(labels)):
        own = [i for i in range(len(p)) if labels[i] == label]
        above = [i for i in own if p[i] > threshold]
        if rule == "threshold":
            kept |= set(above)
        elif rule == "top_k" or len(above) < k:
            kept |= set(sorted(own, key=lambda i: (-p[i], i))[:k])  # of equal ones the earlier
        else:
            kept |= {above[j] for j in rng.choice(len(above), k, replace=False)}
    return [i in kept for i in range(len(p))]


@pytest.mark.parametrize("rule", ["threshold", "top_k", "threshold_else_top_k"])
@pytest.mark.parametrize("k", [1, 5, 1000])
@pytest.mark.parametrize("seed", range(3))
def test_the_rules_equal_their_naive_twins_ties_and_empty_classes_too(rule, k, seed):
    rng = np.random.default_rng(seed)
    labels = rng.choice(4, 60, p=[0.5, 0.3, 0.2, 0.0])
    p = rng.choice([0.1, 0.25, 0.3, 0.6, 0.9], 60)
    assert clip(rule=rule, k=k, seed=seed).decide(p, labels).tolist() == naive_rule(p, labels, rule, 0.25, k, seed)


def test_reasons_say_which_rule_rejected():
    images = Pixels([image(0, c) for c in (190, 180, 170, 0)], np.zeros(4, int))
    low, best, more = "clip: p(own class) <= 0.25", "clip: not among the class's best", "clip: more passed than wanted"
    assert [v.reason for v in clip()(images)] == ["", "", "", low]
    assert [v.reason for v in clip(rule="top_k", k=2)(images)] == ["", "", best, low]
    assert sorted(v.reason for v in clip(rule="threshold_else_top_k", k=2)(images)) == ["", "", more, low]


def test_two_filters_of_one_name_keep_their_own_verdicts():
    selection = select(planted(n=12), [clip(threshold=0.0), clip(threshold=0.3)])
    first, second = selection.steps
    assert first.filter == second.filter == "clip"
    assert all(v.keep for v in first.verdicts)
    assert len(second.verdicts) == 12
    assert [v.keep for v in second.verdicts] == selection.keep.tolist() != [True] * 12


def clear(n: int) -> Pixels:
    """Images that show their class."""
    return Pixels([image(i % 4, 40) for i in range(n)], np.arange(n) % 4)


class Leans(FirstPixel):
    """Sees class a in everything."""

    def images(self, images):
        features = super().images(images)
        features[:, 0] += 0.9
        return features / np.linalg.norm(features, axis=1, keepdims=True)


def test_a_bias_is_taken_away_before_it_is_judged():
    images = clear(40)
    logits = 5.0 * Leans().images(images.images) @ np.eye(4)
    with_bias, without = (ClipFilter(Features(Leans()), NAMES, remove_bias=remove)(images) for remove in (False, True))
    p = np.exp(logits + bias_of(logits, np.full(4, 0.25)))
    p = (p / p.sum(1, keepdims=True))[np.arange(40), images.labels]
    assert [v.scores["clip_p"] for v in without] == pytest.approx(p, rel=1e-5)
    assert sum(v.keep for v in with_bias) == 10 and all(v.keep for v in without)


@pytest.mark.parametrize(("right", "guessing"), [(0, True), (8, True), (40, False)])  # of 80; four classes
def test_a_filter_that_would_be_guessing_keeps_every_image(right, guessing, caplog):
    labels = np.arange(80) % 4
    shown = np.where(np.arange(80) < right, labels, np.random.default_rng(0).permutation(labels))
    shown[right:] = np.where(
        np.arange(80 - right) % 4 == 0, labels[right:], (labels[right:] + 1) % 4
    )  # a quarter right
    verdicts = clip()(Pixels([image(s, 100) for s in shown], labels))
    assert all(v.keep for v in verdicts) == guessing
    assert ("keeps every image" in caplog.text) == guessing
    assert all("clip_p" in v.scores for v in verdicts)


def test_of_few_images_nothing_is_said():
    labels = np.arange(40) % 4
    verdicts = clip()(Pixels([image((label + 1) % 4, 100) for label in labels], labels))
    assert not any(v.keep for v in verdicts)


def test_two_classes_are_not_called_guessing_by_the_rule_of_many():
    """2/N is certainty there."""
    p = np.tile([0.9, 0.1], (60, 1))
    assert not is_guessing(p, (np.arange(60) >= 48).astype(int))  # 80 % right
    assert is_guessing(p, np.arange(60) % 2)

"""Copies of real images, planted and found; test images can take images out and do nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from figment.errors import FigmentError
from figment.filters.memorised import MemorisedFilter
from figment.images_in import open_images
from planted import clusters, cosine, encoded, images, kept, unit

NEAR_TRAIN, EXACT_TRAIN = "memorised: near copy of a training image", "memorised: exact copy of a training image"
NEAR_TEST, EXACT_TEST = "memorised: near copy of a test image", "memorised: exact copy of a test image"


def quantile(values, q):
    values, place = sorted(values), q * (len(values) - 1)
    low, high = values[int(np.floor(place))], values[int(np.ceil(place))]
    return low + (place - np.floor(place)) * (high - low)


@pytest.mark.parametrize("q", [0.3, 0.9, 0.99])
def test_memorised_equals_its_naive_twin(q):
    (train, train_labels), (test, test_labels) = clusters(25, seed=1), clusters(40, seed=2)
    made, labels = clusters(80, seed=3)
    n = range(len(train))
    train_limit = quantile([max(cosine(train[i], train[j]) for j in n if j != i) for i in n], q)
    test_limit = quantile([max(cosine(a, b) for b in test) for a in train], q)
    filter = MemorisedFilter(encoded(), images(train, train_labels), images(test, test_labels), q)
    verdicts = filter(images(made, labels))
    for feature, verdict in zip(made, verdicts, strict=True):
        near_train, near_test = max(cosine(feature, a) for a in train), max(cosine(feature, a) for a in test)
        expected = NEAR_TEST if near_test > test_limit else NEAR_TRAIN if near_train > train_limit else ""
        assert verdict.reason == expected and verdict.keep == (not expected)
        assert verdict.scores["train_cosine"] == pytest.approx(near_train, abs=1e-6)
        assert verdict.scores["test_cosine"] == pytest.approx(near_test, abs=1e-6)
        assert ("test_copy" in verdict.scores) == (near_test > test_limit)
    if q == 0.3:
        assert {v.reason for v in verdicts} == {"", NEAR_TRAIN, NEAR_TEST}


def test_new_images_of_the_same_kind_go_in_the_share_that_the_quantile_says():
    train, test, fresh = clusters(300, seed=4), clusters(900, seed=5), clusters(600, seed=6)
    verdicts = MemorisedFilter(encoded(), images(*train), images(*test), 0.9)(images(*fresh))
    assert 0.04 < np.mean([v.scores["train_cosine"] > 0 and v.reason == NEAR_TRAIN for v in verdicts]) < 0.16
    assert 0.04 < np.mean([v.reason == NEAR_TEST for v in verdicts]) < 0.16


def test_the_threshold_itself_still_passes():
    half = [[0.5, 0.5, 0.5, 0.5, 0, 0]]
    train = images(np.eye(6)[:1], [0])
    assert kept(MemorisedFilter(encoded(), train, threshold=0.5)(images(half, [0]))) == [True]
    assert kept(MemorisedFilter(encoded(), train, threshold=0.4999)(images(half, [0]))) == [False]


def test_equal_pixels_go_whatever_the_threshold():
    x = unit(np.random.default_rng(0).normal(size=(4, 6)))
    filter = MemorisedFilter(encoded(), images(x[:2], [0, 0]), images(x[2:3], [0]), threshold=1.0)
    assert [v.reason for v in filter(images(x, [0, 0, 0, 0]))] == [EXACT_TRAIN, EXACT_TRAIN, EXACT_TEST, ""]


def test_pixels_are_compared_not_files(tmp_path):
    """The same image as PNG and as BMP has other bytes, and is found; one grey level or another shape is another image."""

    class Same:
        name, fingerprint, logit_scale = "same", "0" * 16, 1.0

        def images(self, images):
            return np.ones((len(images), 1), np.float32)

    from figment.encoders import Features

    image = np.random.default_rng(0).integers(0, 255, (9, 7, 3), dtype=np.uint8)
    for split, suffix in (("train", "png"), ("made", "bmp")):
        (tmp_path / split / "a").mkdir(parents=True)
        Image.fromarray(image).save(tmp_path / split / "a" / f"0.{suffix}")
    other = image.copy()
    other[0, 0, 0] ^= 1
    Image.fromarray(other).save(tmp_path / "made" / "a" / "1.bmp")
    Image.fromarray(image.reshape(7, 9, 3)).save(tmp_path / "made" / "a" / "2.bmp")  # the same bytes, another shape
    train, made = open_images(tmp_path / "train", ["a"]), open_images(tmp_path / "made", ["a"])
    assert train.digests[0] not in made.digests
    verdicts = MemorisedFilter(Features(Same()), train, threshold=1.0)(made)
    assert [v.reason for v in verdicts] == [EXACT_TRAIN, "", ""]


def test_copies_of_test_images_are_dropped_reported_or_not_looked_for(capsys):
    x = unit(np.random.default_rng(1).normal(size=(8, 6)))
    train, test, made = images(x[:4], [0, 0, 1, 1]), images(x[4:6], [0, 1]), images(x[[0, 4, 7]], [0, 0, 1])
    found = {
        word: MemorisedFilter(encoded(), train, test, threshold=0.999, on_test=word)(made)
        for word in ("drop", "report", "off")
    }
    assert [v.reason for v in found["drop"]] == [EXACT_TRAIN, EXACT_TEST, ""]
    assert [v.reason for v in found["report"]] == [EXACT_TRAIN, "", ""]
    assert [v.reason for v in found["off"]] == [EXACT_TRAIN, "", ""]
    assert [v.scores.get("test_copy") for v in found["report"]] == [None, 1.0, None]
    assert not any("test_cosine" in v.scores for v in found["off"])
    assert capsys.readouterr().out.count("copies of test images: 1") == 1


def test_the_test_images_labels_and_the_limit_for_training_images_do_not_depend_on_each_other():
    train, (test, test_labels), made = clusters(25, seed=1), clusters(30, seed=2), images(*clusters(50, seed=3))
    one = MemorisedFilter(encoded(), images(*train), images(test, test_labels), 0.8)
    two = MemorisedFilter(encoded(), images(*train), images(test, 1 - np.sign(test_labels)), 0.8)
    none = MemorisedFilter(encoded(), images(*train), None, 0.8)
    assert one(made) == two(made)
    assert one.limits["train"] == none.limits["train"]
    assert {i for i, keep in enumerate(kept(one(made))) if keep} < {
        i for i, keep in enumerate(kept(none(made))) if keep
    }


def test_a_class_with_one_image_sets_no_limit():
    """A lone image's nearest is of another class: how near that is says nothing about copies."""
    pair, lone = unit([[1, 0, 0], [1, 0.1, 0]]), unit([[0, 0, 1]])
    limits = MemorisedFilter(encoded(), images(np.concatenate([pair, lone]), [0, 0, 1]), quantile=0.0).limits
    assert limits["train"] == pytest.approx(cosine(*pair), abs=1e-6)


@pytest.mark.parametrize("labels", [[0], [0, 1, 2]])
def test_one_image_a_class_needs_a_threshold(labels):
    train = images(np.eye(6)[: len(labels)], labels)
    with pytest.raises(FigmentError, match="two or more of a class.*threshold"):
        MemorisedFilter(encoded(), train)
    assert kept(MemorisedFilter(encoded(), train, threshold=0.9)(images(np.eye(6)[[0, 5]], [0, 0]))) == [False, True]


def test_without_real_images_there_is_nothing_to_compare_with():
    test = images(np.eye(6)[:1], [0])
    with pytest.raises(FigmentError, match="there are none.*task.real.train"):
        MemorisedFilter(encoded(), None)
    with pytest.raises(FigmentError, match="there are none"):
        MemorisedFilter(encoded(), None, test, threshold=0.9, on_test="off")
    with pytest.raises(FigmentError, match="threshold"):
        MemorisedFilter(encoded(), None, test)
    assert kept(MemorisedFilter(encoded(), None, test, threshold=0.9)(images(np.eye(6)[:2], [0, 0]))) == [False, True]


def test_no_images_no_verdicts():
    assert MemorisedFilter(encoded(), images(*clusters(9)))(images(np.zeros((0, 6)), [])) == []

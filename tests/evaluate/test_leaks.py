"""Near copies against a naive twin, planted ones and chance; and classes that are told by how their images were made."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from scipy.stats import chi2_contingency
from scipy.stats.contingency import odds_ratio

from figment.encoders import open_encoder
from figment.errors import FigmentError
from figment.evaluate.leaks import near_copies, shortcut_sentence, source_shortcut
from figment.images_in import open_images
from figment.task import builtin, real_folder
from planted import clusters, cosine, unit


def test_near_copies_equal_their_naive_twin():
    reference, queries = clusters(60, seed=1)[0], clusters(40, seed=2)[0]
    queries[3] = unit(reference[5] + 1e-4)
    queries[8] = reference[7]
    usual = [max(cosine(a, b) for j, b in enumerate(reference) if j != i) for i, a in enumerate(reference)]
    limit = np.quantile(usual, 0.999)
    best = [max((cosine(q, r), j) for j, r in enumerate(reference)) for q in queries]
    expected = sorted(((c, i, j) for i, (c, j) in enumerate(best) if c > limit), reverse=True)
    found = near_copies(queries, reference)
    assert found.limit == pytest.approx(limit, abs=1e-6)
    assert {(8, 7), (3, 5)} <= set(map(tuple, found.pairs.tolist()))
    assert found.pairs.tolist() == [[i, j] for _, i, j in expected]
    assert found.cosine == pytest.approx([c for c, _, _ in expected], abs=1e-6)
    assert found.by_chance == pytest.approx(
        2 * 40 / 60
    )  # the nearest two references are the limit, and none is beyond it


def test_different_images_of_one_kind_do_not_warn_and_copies_among_them_do():
    rng = np.random.default_rng(0)
    warned, counted, expected = 0, 0, 0.0
    for seed in range(60):
        x = clusters(1500, seed=seed)[0]
        found = near_copies(x[:500], x[500:])
        warned, counted, expected = warned + found.surely, counted + len(found.pairs), expected + found.by_chance
    assert warned == 0 and 0.5 * expected < counted < 1.6 * expected
    x = clusters(1500, seed=99)[0]
    x[:20] = unit(x[700:720] + 1e-4 * rng.normal(size=(20, 6)))
    found = near_copies(x[:500], x[500:])
    assert found.surely and {(i, 200 + i) for i in range(20)} <= set(map(tuple, found.pairs.tolist()))


def test_with_many_references_the_limit_is_taken_from_some(monkeypatch):
    from figment.evaluate import leaks

    monkeypatch.setattr(leaks, "MOST_OWN", 50)
    x = clusters(300, seed=3)[0]
    a, b = near_copies(x[:100], x[100:]), near_copies(x[:100], x[100:])
    assert a.limit == b.limit and a.by_chance in (2 * 100 / 50, 3 * 100 / 50)
    with pytest.raises(FigmentError, match="two of them or more"):
        near_copies(x[:3], x[:1])


@pytest.mark.slow
def test_what_it_finds_on_photographs_is_what_its_docstring_says():
    """In small: re-encoded photographs are found, shifted ones are not, and different ones are not taken for copies."""
    names, encoder = builtin("fashion")["class_names"], open_encoder("starter/clip")
    pool, test = (open_images(real_folder(f"starter/{s}"), names) for s in ("pool", "test"))
    reference = encoder.images(pool.load(range(0, 10_000, 4)))
    taken = test.load(range(0, 10_000, 50))  # 200

    def jpeg(image: np.ndarray) -> np.ndarray:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=75)
        return np.array(Image.open(buffer).convert("RGB"))

    clean = near_copies(encoder.images(taken), reference)
    assert not clean.surely and len(clean.pairs) <= 4
    with_copies = np.concatenate([reference, encoder.images([jpeg(image) for image in taken[:40]])])
    found = near_copies(encoder.images(taken), with_copies)
    again = {(i, len(reference) + i) for i in range(40)}
    assert found.surely and len(again & set(map(tuple, found.pairs.tolist()))) >= 36
    shifted = np.concatenate([reference, encoder.images([np.roll(image, 1, 1) for image in taken[:40]])])
    assert not near_copies(encoder.images(taken), shifted).surely


# ---- how an image was made tells its class ---------------------------------------------------------------------------


def test_the_shortcut_is_that_of_scipy():
    synthetic, real = np.array([900, 300, 850, 880]), np.array([100, 150, 90, 110])
    found = source_shortcut(synthetic, real)
    assert found.label == 1 and found.is_one
    naive = odds_ratio([[300, 150], [2630, 300]], kind="sample")
    assert found.ratio == pytest.approx(naive.statistic, rel=1e-9)
    low, high = naive.confidence_interval(0.95)
    assert found.ci == pytest.approx((low, high), rel=1e-4)
    assert found.p == pytest.approx(chi2_contingency([synthetic, real]).pvalue)
    assert (found.share, found.share_of_others) == (pytest.approx(300 / 450), pytest.approx(2630 / 2930))
    text = shortcut_sentence(found, "coat")
    assert "'coat' that are learnt from, 66.7 % are generated, of the other classes 89.8 %" in text


def test_even_classes_have_odds_of_one():
    assert source_shortcut(np.array([80] * 3), np.array([6] * 3)).ratio == pytest.approx(1)


@pytest.mark.parametrize(
    ("synthetic", "real", "is_one"),
    [
        ([200] * 10, [16] * 10, False),
        ([200] * 9 + [0], [16] * 10, True),  # a class of photographs alone
        ([200] * 10, [16] * 9 + [0], False),  # sixteen photographs show little
        ([2000] * 10, [160] * 9 + [0], True),
        ([200, 190, 210, 150], [16] * 4, False),  # sure to differ by less than a factor of two
        ([20_000, 19_000, 21_000, 15_000], [1600] * 4, False),
        ([3, 1], [1, 3], False),  # a large factor, and nothing to be sure of
        ([5, 0, 0], [0, 0, 0], False),
    ],
)
def test_a_shortcut_is_large_and_sure(synthetic, real, is_one):
    found = source_shortcut(np.array(synthetic), np.array(real))
    assert found.is_one == is_one and np.isfinite([found.ratio, *found.ci, found.p]).all()

from __future__ import annotations

import numpy as np
import pytest
import torch

from figment.errors import FigmentError
from figment.learners.clip_head import head as head_module
from figment.learners.clip_head.head import Head, HeadCard

CARD = HeadCard(
    ("t-shirt", "ankle boot", "Blühende Tasche"), ("a photo of a {}.",), "openai/clip-vit-base-patch32", "ab12"
)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_logits_start_as_scaled_cosines_whatever_the_lengths(rng):
    prototypes, features = rng.normal(size=(3, 16)) * 5, rng.normal(size=(20, 16)) * rng.uniform(0.1, 9, size=(20, 1))
    logits = Head.from_texts(prototypes, 100.0).predict(features)
    assert logits.dtype == np.float32 and logits.shape == (20, 3)
    np.testing.assert_allclose(logits, 100 * unit(features) @ unit(prototypes).T, atol=2e-4)


def test_bias_is_zero_and_trainable(rng):
    head = Head.from_texts(rng.normal(size=(3, 16)), 100.0)
    assert {name for name, p in head.named_parameters() if p.requires_grad} == {"linear.weight", "linear.bias"}
    assert not head.linear.bias.any()


def test_predict_in_chunks_is_forward(rng, monkeypatch):
    head, features = Head.from_texts(rng.normal(size=(3, 8)), 50.0), rng.normal(size=(10, 8)).astype(np.float32)
    whole = head(torch.tensor(features)).detach().numpy()
    monkeypatch.setattr(head_module, "ROWS_AT_ONCE", 3)
    np.testing.assert_allclose(head.predict(features), whole, rtol=1e-5, atol=1e-5)
    assert head.predict(features[:0]).shape == (0, 3)


def test_predict_takes_half_precision_and_read_only_arrays(rng, recwarn):
    head, features = Head.from_texts(rng.normal(size=(3, 8)), 50.0), rng.normal(size=(4, 8)).astype(np.float16)
    features.setflags(write=False)
    assert np.isfinite(head.predict(features)).all() and not recwarn


def test_predict_refuses_features_of_another_encoder(rng):
    with pytest.raises(FigmentError, match=r"\(n, 8\), not \(4, 9\)"):
        Head(8, 3).predict(rng.normal(size=(4, 9)))


def test_saves_and_loads(rng, tmp_path):
    head = Head.from_texts(rng.normal(size=(3, 8)), 50.0)
    with torch.no_grad():
        head.linear.bias.copy_(torch.tensor([1.0, 2.0, 3.0]))
    head.save(tmp_path / "a" / "model", CARD)
    loaded, card = Head.load(tmp_path / "a" / "model")
    assert card == CARD
    assert all(torch.equal(a, b) for a, b in zip(head.parameters(), loaded.parameters(), strict=True))


def test_load_refuses_what_was_not_saved_together(rng, tmp_path):
    Head(8, 4).save(tmp_path, CARD)  # 4 outputs, 3 names
    with pytest.raises(FigmentError, match="saved together"):
        Head.load(tmp_path)


@pytest.mark.parametrize("content", ["not json", "[]", "{}"])
def test_load_refuses_a_broken_card(rng, tmp_path, content):
    Head(8, 3).save(tmp_path, CARD)
    (tmp_path / "head.json").write_text(content)
    with pytest.raises(FigmentError, match="no classifier to be read"):
        Head.load(tmp_path)


def test_load_refuses_an_empty_folder_and_cut_weights(tmp_path):
    with pytest.raises(FigmentError, match="no classifier to be read"):
        Head.load(tmp_path)
    Head(8, 3).save(tmp_path, CARD)
    weights = tmp_path / "head.safetensors"
    weights.write_bytes(weights.read_bytes()[:40])
    with pytest.raises(FigmentError, match="no classifier to be read"):
        Head.load(tmp_path)

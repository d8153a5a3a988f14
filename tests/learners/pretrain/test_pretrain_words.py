"""What reads captions is saved beside the backbone, and opens again as the same classifier by words."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch.nn import functional as F
from transformers import AutoTokenizer, CLIPTextModelWithProjection

from colours import NAMES, coloured
from figment import FigmentError, judge_backbone, open_backbone
from figment.encoders import PairEncoder, TimmEncoder, class_prototypes, open_encoder
from figment.encoders.pair import PROJECTION, TEXT, write_text
from figment.judging import record
from figment.learners.network.augment import EvalTransform
from figment.learners.pretrain.backbone import BackboneModel
from figment.learners.pretrain.learner import PretrainLearner
from pretrained import settings, striped
from published import aro, class_folders

SAID = ["a red thing", "a photo of a red thing, on a table", "", "naïve café"]


def learnt(kind: str, folder: Path | None = None, **changed) -> BackboneModel:
    own = settings(kind, text_tower=(64, 2), epochs=2, **changed)
    learner = PretrainLearner(own, NAMES, striped(20, 5), folder=folder, device="cpu", checkpoint_seconds=0)
    return learner.learn(coloured(24), None, seed=0)


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch):
    monkeypatch.setattr("figment.probe.MIN_STEPS", 20)
    monkeypatch.setattr("figment.probe.EPOCHS", 5)


@pytest.fixture(scope="module", params=["clip", "stablerep_plus"])
def model(request) -> BackboneModel:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("figment.probe.MIN_STEPS", 20)
        patch.setattr("figment.probe.EPOCHS", 5)
        return learnt(request.param)


@pytest.fixture
def saved(model, tmp_path) -> Path:
    model.save(tmp_path / "model")
    return tmp_path / "model"


@torch.no_grad()
def as_trained(model: BackboneModel, images: list[np.ndarray], texts: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """Unit features of both sides, and logits, by the modules that the loss was computed with."""
    transform, own = EvalTransform(model.network.data), model.words.text
    x = model.network.module(torch.stack([transform(i) for i in images]))
    image = F.normalize(own.of_image(x), dim=-1)
    text = F.normalize(own.of_text(own.tower(model.words.tokens(texts))), dim=-1)
    return image.numpy(), text.numpy(), (own.log_scale.exp() * image @ text.T).numpy()


def test_features_and_logits_are_those_it_was_trained_with(model, saved):
    images = coloured(6, seed=3).load(range(6))
    image, text, logits = as_trained(model, images, SAID)
    found = open_encoder(str(saved), device="cpu")
    assert isinstance(found, PairEncoder) and found.n_features == 512
    np.testing.assert_allclose(found.images(images), image, atol=1e-5)
    np.testing.assert_allclose(found.texts(SAID), text, atol=1e-5)
    again = found.logit_scale * found.images(images) @ found.texts(SAID).T
    np.testing.assert_allclose(again, logits, atol=1e-3)
    assert np.ptp(logits, axis=1).min() > 0.01  # it says something


def test_transformers_opens_the_text_side_and_timm_the_images(model, saved):
    _, text, _ = as_trained(model, coloured(1).load([0]), SAID)
    theirs = CLIPTextModelWithProjection.from_pretrained(saved / TEXT).eval()
    tokens = AutoTokenizer.from_pretrained(saved / TEXT)(SAID, padding=True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        found = F.normalize(theirs(tokens.input_ids).text_embeds, dim=-1)
    np.testing.assert_allclose(found.numpy(), text, atol=1e-5)
    assert timm.create_model(f"local-dir:{saved}", pretrained=True, num_classes=0).num_features == 64


def test_what_the_opened_one_saves_is_the_same_again(saved, tmp_path):
    first = open_encoder(str(saved), device="cpu")
    first.save(tmp_path / "again")
    again = open_encoder(str(tmp_path / "again"), device="cpu")
    images = coloured(3).load(range(3))
    np.testing.assert_array_equal(again.images(images), first.images(images))
    np.testing.assert_array_equal(again.texts(SAID), first.texts(SAID))
    assert again.logit_scale == first.logit_scale
    before, changed = first.images(images), copy.deepcopy(first)
    changed.image_tower.projection.weight.data += 1
    np.testing.assert_array_equal(first.images(images), before)


def test_texts_are_cut_at_the_towers_length(saved):
    found = open_encoder(str(saved), device="cpu")
    long = "thing " * 100
    assert found.tokens([long]).shape == (1, 32) and found.count_cut([long, "a"]) == 1 and found.count_cut([]) == 0


def test_a_training_that_was_finished_still_has_its_text_tower(tmp_path):
    """What is read from the checkpoint in its place is as it was, not as it starts."""
    first, again = learnt("clip", tmp_path / "state"), learnt("clip", tmp_path / "state")
    assert again.fingerprint == first.fingerprint and again.history == first.history
    for name, value in first.words.text.state_dict().items():
        torch.testing.assert_close(again.words.text.state_dict()[name], value, rtol=0, atol=0)


def test_an_end_token_of_number_two_is_found_all_the_same(model, tmp_path):
    """transformers reads such a configuration as a mistake, and looks at the highest token instead."""
    text = model.words.text.text_side(eos_token_id=2)
    model.save(tmp_path)
    write_text(tmp_path, text, model.words.tokens.tokenizer, model.words.text.of_image.weight, torch.tensor(0.0))
    found = open_encoder(str(tmp_path), device="cpu")
    tokens = torch.tensor([[5, 2, 9, 9], [5, 2, 7, 7]])
    with torch.no_grad():
        torch.testing.assert_close(*found.text_tower(tokens))


def test_it_is_judged_by_words_and_by_the_backbones_own_features(saved, tmp_path):
    pairs = [("a dog on a cat", "a cat on a dog"), ("a cup by a tree", "a tree by a cup"), ("a red car", "a car red")]
    regions = aro(tmp_path / "aro", [("on", *pair) for pair in pairs], [(["red", "old"], *pairs[2])])
    colours = {name: [c] * 4 for name, c in zip(NAMES, ((220, 20, 20), (20, 220, 20), (20, 20, 220)), strict=True)}
    for split in ("train", "test"):
        class_folders(tmp_path / "photos" / split, colours)
    backbone = open_backbone(str(saved), device="cpu")
    assert backbone.reads and isinstance(backbone.encoder, TimmEncoder) and backbone.n_features == 64
    judged = judge_backbone(backbone, [f"aro={regions}", f"zero_shot,linear={tmp_path / 'photos'}"], tmp_path / "out")
    encoder, right = open_encoder(str(saved), device="cpu"), []
    for i, (true, false) in enumerate(pairs):
        region = Image.open(regions / "images" / f"relation{i}.jpg").crop((3 + i, 4, 23 + i, 19))
        x = encoder.images([np.array(region)])[0]
        right.append(float(x @ encoder.texts([true])[0] > x @ encoder.texts([false])[0]))
    assert judged[0].numbers.values["relation"] == pytest.approx(np.mean(right)) and judged[0].numbers.n == 4
    words = class_prototypes(encoder, sorted(NAMES), ["a photo of a {}."])
    images = [np.full((8, 8, 3), colours[name][0], np.uint8) for name in sorted(NAMES)]
    answers = (encoder.images(images) @ words.T).argmax(1)
    assert judged[1].numbers.values["accuracy"] == pytest.approx((answers == np.arange(3)).mean())
    assert [one["evaluation"] for one in record.read(tmp_path / "out")] == ["aro", "zero_shot", "linear"]


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lambda folder: (folder / "tokenizer.json").unlink(), "no tokenizer beside its weights"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"x"), "text tower of .* cannot be opened"),
        (lambda folder: (folder / PROJECTION).write_bytes(b"x"), "projection of .* cannot be read"),
    ],
)
def test_a_part_that_is_missing_or_damaged_is_one_paragraph(harm, told: str, saved):
    harm(saved / TEXT)
    with pytest.raises(FigmentError, match=told) as error:
        open_encoder(str(saved), device="cpu")
    assert "\n" not in str(error.value)


def test_methods_that_do_not_read_save_no_text_and_say_so(tmp_path):
    own = settings("simclr", epochs=1)
    PretrainLearner(own, NAMES, striped(20, 5), device="cpu").learn(coloured(24), None, seed=0).save(tmp_path)
    assert not (tmp_path / TEXT).exists()
    with pytest.raises(FigmentError, match="reads no words"):
        open_encoder(str(tmp_path), device="cpu")
    with pytest.raises(FigmentError, match="pre-trained by clip or stablerep_plus"):
        open_backbone(str(tmp_path), device="cpu").words()


def test_a_tokenizer_of_ones_own_is_saved_with_it(clip, tmp_path):
    learnt("clip", tokenizer=str(clip)).save(tmp_path)
    assert len(open_encoder(str(tmp_path), device="cpu").tokenizer) == 514

"""Sentences from a word-to-sentence model: a tiny T5 that was taught a few."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, LogitsProcessorList, TopKLogitsWarper

import tiny
from figment import shards
from figment.errors import FigmentError
from figment.prompts import seq2seq as module
from figment.prompts.sampling import Draw, sample, seed_of
from figment.prompts.seq2seq import Seq2Seq
from figment.recipe import load_recipe, validate
from figment.run import run_recipe
from figment.task import Task

pytestmark = pytest.mark.slow

TASK = Task(class_names=["cat", "dog", "St. Bernard"])
ALL = 42  # sentences a class that the model was taught


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return str(tiny.seq2seq(tmp_path_factory.mktemp("models") / "seq2seq"))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def texts(prompts, label: int) -> list[str]:
    return [p.text for p in prompts if p.label == label]


# ---- what comes out --------------------------------------------------------------------------------------------------


def test_different_sentences_that_say_their_class(model):
    prompts = Seq2Seq(model)(TASK, 15, rng())
    assert [len(set(texts(prompts, label))) for label in range(3)] == [15, 15, 15]
    for p in prompts:
        assert p.text.startswith("a photo of a") and TASK.class_names[p.label].lower() in p.text.lower()
        assert p.source == f"seq2seq {model}" and p.group == p.id and not p.text.endswith(".")
    assert prompts[0].id == "000-cat/00000"


def test_a_name_with_dots_is_read_and_written_whole(model):
    prompts = Seq2Seq(model)(TASK, 15, rng())
    assert all("St. Bernard" in text and len(text.split()) > 5 for text in texts(prompts, 2))


def test_the_model_is_given_the_name_with_an_article(model):
    seen = []
    writer = Seq2Seq(model, batch_size=2)
    opened, tokenizer = writer._model

    def spy(words, **options):
        seen.extend(words)
        return tokenizer(words, **options)

    spy.batch_decode = tokenizer.batch_decode  # type: ignore[attr-defined]
    writer._model = opened, spy  # type: ignore[misc]
    writer._sentences("otter", [1])
    writer._sentences("a Forest", [1])
    writer.article = False
    writer._sentences("otter", [1])
    assert seen == ["an otter", "a Forest", "otter"]


@pytest.mark.slow
def test_neither_the_batch_nor_n_nor_other_classes_change_a_sentence(model):
    whole = Seq2Seq(model)(TASK, 15, rng())
    assert Seq2Seq(model, batch_size=3)(TASK, 15, rng()) == whole
    assert texts(Seq2Seq(model)(TASK, 4, rng()), 0) == texts(whole, 0)[:4]
    alone = Seq2Seq(model)(Task(class_names=["bird", "dog"]), 15, rng())
    assert texts(alone, 1) == texts(whole, 1)


def test_the_seed_decides(model):
    assert Seq2Seq(model)(TASK, 5, rng(0)) != Seq2Seq(model)(TASK, 5, rng(1))


def test_sentences_without_the_name_can_be_let_through(model):
    kept = Seq2Seq(model, require_name=False)(TASK, 30, rng())
    assert any("a man" in text and "cat" not in text for text in texts(kept, 0))
    assert not any("cat" not in text for text in texts(Seq2Seq(model)(TASK, 30, rng()), 0))


def test_the_template_is_the_users(model):
    prompts = Seq2Seq(model, template="a centered satellite photo of {}.")(TASK, 3, rng())
    assert all(p.text.startswith("a centered satellite photo of a ") for p in prompts)
    assert all(not p.text.startswith("a photo") for p in Seq2Seq(model, template="{}")(TASK, 3, rng()))


def test_capitals_inside_a_template():
    writer = Seq2Seq.__new__(Seq2Seq)
    writer.template = "a photo of {}"
    assert writer._prompt(" A dog runs. ") == "a photo of a dog runs." and writer._prompt("  ") == ""
    assert writer._prompt("St. Bernards run.") == "a photo of St. Bernards run."
    writer.template = "{}"
    assert writer._prompt("A dog runs.") == "A dog runs."


def test_a_model_that_repeats_itself_is_given_up_and_templates_fill_in(model, capsys):
    prompts = Seq2Seq(model, temperature=1e-4, max_tries=2)(TASK, 5, rng())  # always the likeliest sentence
    assert [p.source for p in prompts if p.label == 1] == [f"seq2seq {model}", "template 0"]
    said = capsys.readouterr().out
    assert "27 repeated" in said and "fewer than 5 for 3 of 3 classes (cat 1, dog 1, St. Bernard 1)" in said


def test_classes_the_model_never_says(model):
    with pytest.raises(FigmentError, match="no sentence that can be a prompt.*prompts.require_name: false"):
        Seq2Seq(model, max_tries=1)(Task(class_names=["zebra", "okapi"]), 5, rng())


# ---- the sampler -----------------------------------------------------------------------------------------------------


def test_tokens_come_as_often_as_they_are_likely():
    scores = torch.tensor([0.5, 0.2, 0.0, 0.3]).log().repeat(4000, 1)
    drawn = Draw(range(4000))(torch.zeros(4000, 1), scores)
    assert (drawn.isfinite().sum(1) == 1).all()
    share = np.bincount(drawn.argmax(1), minlength=4) / 4000
    assert share[2] == 0 and np.abs(share - [0.5, 0.2, 0, 0.3]).max() < 0.03  # 3.8 standard deviations


def test_draws_are_those_of_transformers_own_sampling(model):
    """Against ``do_sample=True`` with the same settings: the same sentences, as often."""
    network, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(model), AutoTokenizer.from_pretrained(model)
    inputs = dict(tokenizer(["a cat"] * 600, return_tensors="pt"))
    inputs = {key: inputs[key] for key in ("input_ids", "attention_mask")}
    seeds = [seed_of("cat", i) for i in range(600)]
    ours = sample(network, tokenizer, inputs, seeds, temperature=0.7, top_k=5, top_p=0.9, max_length=20)
    torch.manual_seed(0)
    tokens = network.generate(**inputs, do_sample=True, temperature=0.7, top_k=5, top_p=0.9, max_length=20)
    theirs = tokenizer.batch_decode(tokens, skip_special_tokens=True)
    a, b = Counter(ours), Counter(theirs)
    assert len(a) > 20
    distance = sum(abs(a[text] - b[text]) for text in a | b) / 1200  # total variation
    halves = Counter(theirs[:300]), Counter(theirs[300:])
    noise = sum(abs(halves[0][text] - halves[1][text]) for text in a | b) / 600
    assert distance < 1.2 * noise


def test_the_last_token_can_be_drawn_and_nothing_beyond_it():
    class Edge:
        def __init__(self, number: float):
            self.number = number

        def random(self) -> float:
            return self.number

    scores = TopKLogitsWarper(2)(torch.zeros(1, 1), torch.tensor([[0.0, -9.0, 0.1, -9.0]]))
    for number, token in ((0.0, 0), (1 - 2**-53, 2)):
        draw = Draw([0])
        draw.rngs = [Edge(number)]  # type: ignore[list-item]
        assert LogitsProcessorList([draw])(torch.zeros(1, 1), scores).argmax() == token


# ---- models ----------------------------------------------------------------------------------------------------------


def test_models_that_cannot_be_had(model, tmp_path, clip, monkeypatch):
    with pytest.raises(FigmentError, match="no model folder"):
        Seq2Seq(str(tmp_path / "nothing"))
    with pytest.raises(FigmentError, match="cannot be opened by transformers .* as AutoModelForSeq2SeqLM"):
        Seq2Seq(str(clip))(TASK, 2, rng())
    pickled = Path(shutil.copytree(model, tmp_path / "pickled"))
    torch.save(AutoModelForSeq2SeqLM.from_pretrained(model).state_dict(), pickled / "pytorch_model.bin")
    (pickled / "model.safetensors").unlink()
    with pytest.raises(FigmentError, match="allow_pickle: true"):
        Seq2Seq(str(pickled))
    assert len(Seq2Seq(str(pickled), allow_pickle=True)(TASK, 2, rng())) == 6
    # The authors' checkpoint has its words in a SentencePiece file alone.
    spiece = Path(shutil.copytree(model, tmp_path / "spiece"))
    (spiece / "tokenizer.json").rename(spiece / "spiece.model")
    monkeypatch.setattr(module, "_has", lambda package: False)
    with pytest.raises(FigmentError, match="'sentencepiece', which is not installed.*figment-vision\\[seq2seq\\]"):
        Seq2Seq(str(spiece))


# ---- the whole path --------------------------------------------------------------------------------------------------


def test_a_whole_run(model, clip, photos, tmp_path):
    (tmp_path / "recipe.yaml").write_text(
        f"""
task:
  class_names: [red thing, green thing, blue thing]
  real: {{test: {photos / "test"}}}
prompts: {{kind: seq2seq, model: writer, per_class: 4, batch_size: 8}}
generate: {{kind: procedural, images_per_class: 8}}
filters: [{{kind: blank}}]
train: {{encoder: {clip}, epochs: 1, seeds: 1}}
"""
    )
    shutil.copytree(model, tmp_path / "writer")
    recipe = load_recipe(tmp_path / "recipe.yaml")
    assert recipe.prompts.model == str(tmp_path / "writer")
    outcome = run_recipe(recipe, tmp_path / "run")
    assert "gain/synthetic" in outcome.results
    prompts = shards.prompts_in(tmp_path / "run" / "prompts")
    assert len({p.text for p in prompts}) == 12 and {p.source[:7] for p in prompts} == {"seq2seq"}
    # The batch is no part of what was written; the weights are.
    run_recipe(recipe.changed({"prompts.batch_size": 2}), tmp_path / "run")
    (tmp_path / "writer" / "generation_config.json").write_text('{"max_length": 9, "decoder_start_token_id": 0}')
    with pytest.raises(FigmentError, match="writer was .* and is now"):
        run_recipe(recipe, tmp_path / "run")


def test_a_recipes_defaults_are_the_papers():
    """He et al. 2023: plain sampling (one beam, temperature 1, top-k 50), 200 sentences, a T5 tuned on CommonGen."""
    prompts = validate({"task": {"class_names": ["a", "b"]}, "prompts": {"kind": "seq2seq"}}, "it").prompts
    assert (prompts.temperature, prompts.top_k, prompts.top_p, prompts.max_length) == (1.0, 50, 1.0, None)
    assert (prompts.per_class, prompts.model) == (200, module.MODEL)

"""Language enhancement with a word-to-sentence model (He et al. 2023, section 3.1: "LE").

A T5 that was tuned on CommonGen turns a class name into everyday sentences. The authors call it through the package
keytotext with plain sampling; the settings here are those that this comes to.
"""

from __future__ import annotations

import importlib.util
from functools import cached_property
from typing import Any

import numpy as np
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from figment.errors import missing_extra
from figment.models import resolve
from figment.progress import progress
from figment.prompts.collect import Collected, finish
from figment.prompts.sampling import open_model, open_part, quiet, sample, seed_of
from figment.prompts.words import ARTICLE, with_article
from figment.records import fingerprint
from figment.task import Task
from figment.types import Prompt

MODEL = "mrm8488/t5-base-finetuned-common_gen"


class Seq2Seq:
    """``n`` different sentences a class from a sequence-to-sequence model of ``transformers``.

    The model reads the class name as a whole, with an article before it where ``article`` (the authors' own names had
    one); ``template`` holds ``{}`` where the sentence goes. ``temperature``, ``top_k`` and ``top_p`` are transformers';
    ``max_length`` is in tokens, None = the model's own. A class is given up after ``max_tries`` x ``n`` sentences; its
    templates then fill in.

    A sentence depends on the seed, the class name and its number alone: not on the batch, on ``n``, or on other classes.
    Its rounding does depend on the machine. Raises FigmentError for a model that cannot be had or opened.
    """

    def __init__(
        self,
        model: str = MODEL,
        *,
        template: str = "a photo of {}",
        article: bool = True,
        temperature: float = 1.0,
        top_k: int = 50,
        top_p: float = 1.0,
        max_length: int | None = None,
        max_tries: int = 10,
        require_name: bool = True,
        batch_size: int = 64,
        allow_pickle: bool = False,
    ):
        self.folder = resolve(model, allow_pickle=allow_pickle)
        files = {p.name for p in self.folder.path.iterdir()}
        if {"tokenizer.json", "spiece.model"} & files == {"spiece.model"} and not _has("sentencepiece"):
            raise missing_extra("sentencepiece", "seq2seq")
        self.template, self.article, self.max_length = template, article, max_length
        self.temperature, self.top_k, self.top_p = temperature, top_k, top_p
        self.max_tries, self.require_name, self.batch_size = max_tries, require_name, batch_size
        self._allow_pickle = allow_pickle

    @property
    def fingerprint(self) -> str:
        """Of the weights; the settings are the recipe's."""
        return fingerprint(["seq2seq", self.folder.fingerprint])

    @cached_property
    def _model(self) -> tuple[Any, Any]:
        """The model and its tokenizer, opened at the first use."""
        with quiet():
            return (
                open_model(AutoModelForSeq2SeqLM, self.folder, self._allow_pickle),
                open_part(AutoTokenizer, self.folder),
            )

    def __call__(self, task: Task, n: int, rng: np.random.Generator) -> list[Prompt]:
        seed = int(rng.integers(2**63))
        collected = [Collected(task, label, n, self.require_name) for label in range(len(task.class_names))]
        with progress("write", n * len(collected), "sentences") as advance:
            for one in collected:
                self._write(one, seed)
                advance(len(one))
        advice = "Raise prompts.max_tries, choose another prompts.model, or set prompts.require_name: false."
        return finish(collected, "seq2seq", advice)

    def _write(self, collected: Collected, seed: int) -> None:
        """Sentences of one class until there are enough, or too many tries were made."""
        drawn, most = 0, self.max_tries * collected.n
        while collected.missing > 0 and drawn < most:
            batch = min(self.batch_size, most - drawn, 2 * collected.missing)
            seeds = [seed_of(seed, collected.name, drawn + i) for i in range(batch)]
            for sentence in self._sentences(collected.name, seeds):
                collected.add(self._prompt(sentence), f"seq2seq {self.folder.name}")
            drawn += batch

    def _sentences(self, name: str, seeds: list[int]) -> list[str]:
        model, tokenizer = self._model
        words = with_article(name) if self.article else name
        inputs = dict(tokenizer([words] * len(seeds), return_tensors="pt"))
        inputs = {key: inputs[key] for key in ("input_ids", "attention_mask")}
        length = {} if self.max_length is None else {"max_length": self.max_length}
        with quiet():
            return sample(
                model,
                tokenizer,
                inputs,
                seeds,
                temperature=self.temperature,
                top_k=self.top_k,
                top_p=self.top_p,
                **length,
            )

    def _prompt(self, sentence: str) -> str:
        sentence = sentence.strip()
        if not sentence:
            return ""
        if not self.template.startswith("{}") and ARTICLE.match(sentence):
            sentence = sentence[0].lower() + sentence[1:]  # "a photo of A dog" is two beginnings
        return self.template.replace("{}", sentence)


def _has(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # a package that was made unimportable
        return False

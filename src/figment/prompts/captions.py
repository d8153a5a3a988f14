"""Captions of the few real images one has, as prompts ("Image Captions are Natural Prompts", arXiv 2307.08526).

A captioner says what surrounds the classes in real images; prompts with that in them are worth more than templates.
Only training images are ever looked at.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import Any

import numpy as np
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer

from figment.models import resolve
from figment.progress import progress
from figment.prompts.collect import Collected, finish
from figment.prompts.sampling import open_model, open_part, quiet, sample, seed_of
from figment.prompts.words import article_of, find, mentions, tidy, with_article
from figment.records import fingerprint
from figment.task import Task
from figment.types import Images, Prompt

MODEL = "microsoft/git-large-coco"
MENTION = 0.5  # how often one kind of attribute, or a context, is put into a varied caption
VARIED = 20  # new wordings that are tried for each caption that is missing


class Captions:
    """``n`` different captions a class, sampled from an image-to-text model (BLIP, GIT, ViT-GPT2) on ``images``.

    Each image is captioned in turn until there are enough, ``max_tries`` x ``n`` times at most. What is then still
    missing is made, where ``vary``, by putting the task's attributes and contexts into the captions there are. A caption
    that does not say its class gets ``prefix`` before it, with ``{}`` for the class name; one that says another class
    instead is thrown away. All prompts from one image share a ``group``.

    A caption depends on the seed, the image's content and its number alone, not on the batch. Raises FigmentError for a
    model that cannot be had or opened.
    """

    def __init__(
        self,
        images: Images,
        model: str = MODEL,
        *,
        prefix: str = "a photo of {}",
        vary: bool = True,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 0.9,
        max_new_tokens: int = 40,
        max_tries: int = 3,
        batch_size: int = 16,
        allow_pickle: bool = False,
    ):
        self.images, self.folder = images, resolve(model, allow_pickle=allow_pickle)
        self.prefix, self.vary, self.max_tries, self.batch_size = prefix, vary, max_tries, batch_size
        self._settings: dict[str, Any] = {
            "temperature": temperature,
            "top_k": top_k,
            "top_p": top_p,
            "max_new_tokens": max_new_tokens,
        }
        self._allow_pickle = allow_pickle

    @property
    def fingerprint(self) -> str:
        """Of the weights and the images; the settings are the recipe's."""
        return fingerprint(["captions", self.folder.fingerprint, list(self.images.digests)])

    @cached_property
    def _model(self) -> tuple[Any, Any, Any]:
        """The model, its tokenizer and its image processor, opened at the first use."""
        with quiet():
            model = open_model(AutoModelForImageTextToText, self.folder, self._allow_pickle)
            return model, open_part(AutoTokenizer, self.folder), open_part(AutoImageProcessor, self.folder)

    def __call__(self, task: Task, n: int, rng: np.random.Generator) -> list[Prompt]:
        seed = int(rng.integers(2**63))
        collected = [Collected(task, label, n) for label in range(len(task.class_names))]
        with progress("caption", n * len(collected), "captions") as advance:
            for one in collected:
                index = np.flatnonzero(self.images.labels == one.label)
                self._caption(one, index, seed)
                if self.vary:
                    self._vary(one, np.random.default_rng([seed, one.label]))
                advance(len(one))
        advice = "Look at the captioner's answers to your images, or choose another prompts.model."
        return finish(collected, "captions", advice)

    def _caption(self, collected: Collected, index: np.ndarray, seed: int) -> None:
        """Captions of the images of one class, one image after another, round after round."""
        drawn, most = 0, self.max_tries * collected.n if len(index) else 0
        while collected.missing > 0 and drawn < most:
            batch = min(self.batch_size, most - drawn, 2 * collected.missing)
            turns = [(int(index[i % len(index)]), i // len(index)) for i in range(drawn, drawn + batch)]
            for (image, _), caption in zip(turns, self._captions(turns, seed), strict=True):
                self._add(collected, caption, self.images.ids[image])
            drawn += batch

    def _captions(self, turns: list[tuple[int, int]], seed: int) -> list[str]:
        """A caption for each (image, number)."""
        model, tokenizer, processor = self._model
        images = self.images.load([image for image, _ in turns])
        pixels = processor(images=images, return_tensors="pt", input_data_format="channels_last")["pixel_values"]
        seeds = [seed_of(seed, self.images.digests[image], number) for image, number in turns]
        with quiet():
            return sample(model, tokenizer, {"pixel_values": pixels}, seeds, **self._settings)

    def _add(self, collected: Collected, caption: str, image: str) -> None:
        text = tidy(caption)
        if text and collected.missing > 0 and not mentions(text, collected.names):
            others = set(collected.task.class_names) - {collected.name}
            if mentions(text, others):
                collected.rejected["that say another class"] += 1
                return
            text = f"{self.prefix.replace('{}', with_article(collected.name))}, {text}"
        collected.add(text, f"caption of {image}", f"image {image}")

    def _vary(self, collected: Collected, rng: np.random.Generator) -> None:
        """Other wordings of the captions there are, while any are missing."""
        captions = collected.taken
        for _ in range(VARIED * collected.missing if captions else 0):
            if collected.missing <= 0:
                return
            text, source, group = captions[int(rng.integers(len(captions)))]
            varied = varied_caption(text, collected.names, collected.task, rng)
            if varied != text:
                collected.add(varied, f"{source}, varied", group)


def varied_caption(text: str, names: list[str], task: Task, rng: np.random.Generator) -> str:
    """A caption with some of the task's attributes before the class name, and perhaps a context at its end."""
    found = find(text, names)
    words = [str(rng.choice(kind)) for kind in task.attributes.values() if kind and rng.random() < MENTION]
    if found and words:
        before = re.sub(r"\b([Aa])n? $", lambda m: f"{m[1]}{article_of(words[0])[1:]} ", text[: found.start()])
        text = f"{before}{' '.join(words)} {text[found.start() :]}"
    if task.contexts and rng.random() < MENTION:
        text = f"{text} {rng.choice(task.contexts)}"
    return text

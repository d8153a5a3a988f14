"""A grammar of attributes: name, or a word for it, with adjectives before it and a context behind it.

Varied wording is the largest lever there is on how useful generated images are, and it costs nothing. This is its
simplest form, which needs no language model.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from figment.errors import FigmentError
from figment.prompts.ids import prompt_id
from figment.task import Task
from figment.types import Prompt

MENTION = 0.5  # how often one kind of attribute, or a context, is said at all
GIVE_UP = 2_000  # draws in a row that bring nothing new: (nearly) all the grammar holds has been seen


class Attributes:
    """``n`` different prompts a class, drawn from sentence x noun x attributes x context. ``templates``: sentences in place of the task's.

    Where ``n`` different ones do not exist, it raises FigmentError with the number there are, or, unless ``exactly``, writes
    those there are.
    """

    def __init__(self, templates: Sequence[str] | None = None, synonyms: bool = True, exactly: bool = True):
        self.templates, self.synonyms, self.exactly = templates, synonyms, exactly

    def __call__(self, task: Task, n: int, rng: np.random.Generator) -> list[Prompt]:
        prompts = []
        for label, name in enumerate(task.class_names):
            texts = self._texts(task, name, n, rng)
            for i, text in enumerate(texts):
                id = prompt_id(label, name, i)
                prompts.append(Prompt(id, text, label, id, "attributes"))
        return prompts

    def _nouns(self, task: Task, name: str) -> list[str]:
        return [name, *(task.synonyms.get(name, []) if self.synonyms else [])]

    def _texts(self, task: Task, name: str, n: int, rng: np.random.Generator) -> list[str]:
        found: dict[str, None] = {}
        misses = 0
        while len(found) < n and misses < GIVE_UP:
            text = self._draw(task, name, rng)
            misses = misses + 1 if text in found else 0
            found[text] = None
        if len(found) < n and self.exactly:
            raise FigmentError(
                f"The attribute grammar makes only {len(found)} different prompts for the class {name[:60]!r}, and {n} were asked for. "
                f"Set prompts.per_class to {len(found)} or less (several images are then made of each prompt), "
                "or add words to task.attributes, task.contexts or task.synonyms."
            )
        return list(found)

    def _draw(self, task: Task, name: str, rng: np.random.Generator) -> str:
        nouns = self._nouns(task, name)
        # Half the prompts say the class name itself; the rest share out the other words for it.
        noun = nouns[0] if len(nouns) == 1 or rng.random() < 0.5 else nouns[1 + rng.integers(len(nouns) - 1)]
        words = [str(rng.choice(words)) for words in task.attributes.values() if words and rng.random() < MENTION]
        sentences = self.templates or [sentence.rstrip(".") for sentence in task.templates]  # a context may follow
        text = sentences[int(rng.integers(len(sentences)))].replace("{}", " ".join([*words, noun]))
        if task.contexts and rng.random() < MENTION:
            text = f"{text.rstrip('.')} {rng.choice(task.contexts)}"
        return re.sub(r"\ba (?=[aeiouAEIOU])", "an ", text)

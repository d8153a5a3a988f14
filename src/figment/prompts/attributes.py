"""A grammar of attributes: name, or a word for it, with adjectives before it and a context behind it.

Varied wording is the largest lever there is on how useful generated images are, and it costs nothing. This is its
simplest form, which needs no language model.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from figment.errors import FigmentError
from figment.prompts.ids import prompt_id
from figment.prompts.words import fill
from figment.task import Task
from figment.types import Prompt

MENTION = 0.5  # how often one kind of attribute, or a context, is said at all
CONTEXT = "context"  # what a prompt's context counts as, beside the task's kinds of attributes
GIVE_UP = 2_000  # draws in a row that bring nothing new: (nearly) all the grammar holds has been seen

Said = tuple[tuple[str, str], ...]  # kind and word, as `figment.types.Prompt` has them


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
            for i, (text, said) in enumerate(self._texts(task, name, n, rng).items()):
                id = prompt_id(label, name, i)
                prompts.append(Prompt(id, text, label, id, "attributes", said))
        return prompts

    def _nouns(self, task: Task, name: str) -> list[str]:
        return [name, *(task.synonyms.get(name, []) if self.synonyms else [])]

    def _texts(self, task: Task, name: str, n: int, rng: np.random.Generator) -> dict[str, Said]:
        found: dict[str, Said] = {}
        misses = 0
        while len(found) < n and misses < GIVE_UP:
            text, said = self._draw(task, name, rng)
            misses = misses + 1 if text in found else 0
            found.setdefault(text, said)
        if len(found) < n and self.exactly:
            raise FigmentError(
                f"The attribute grammar makes only {len(found)} different prompts for the class {name[:60]!r}, and {n} were asked for. "
                f"Set prompts.per_class to {len(found)} or less (several images are then made of each prompt), "
                "or add words to task.attributes, task.contexts or task.synonyms."
            )
        return found

    def _draw(self, task: Task, name: str, rng: np.random.Generator) -> tuple[str, Said]:
        nouns = self._nouns(task, name)
        # Half the prompts say the class name itself; the rest share out the other words for it.
        noun = nouns[0] if len(nouns) == 1 or rng.random() < 0.5 else nouns[1 + rng.integers(len(nouns) - 1)]
        said = {
            kind: str(rng.choice(words)) if words and rng.random() < MENTION else ""
            for kind, words in task.attributes.items()
        }
        sentences = self.templates or [sentence.rstrip(".") for sentence in task.templates]  # a context may follow
        sentence = sentences[int(rng.integers(len(sentences)))]
        text = fill(sentence, " ".join([*filter(None, said.values()), noun]))
        if task.contexts:
            context = str(rng.choice(task.contexts)) if rng.random() < MENTION else ""
            text = f"{text.rstrip('.')} {context}" if context else text
            said.setdefault(CONTEXT, context)
        return text, tuple(said.items())

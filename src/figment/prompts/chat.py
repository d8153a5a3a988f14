"""Captions written by a language model behind any OpenAI-compatible server: vLLM, llama.cpp, Ollama, or a hosted one.

Many different, plausible captions are the largest lever there is on how useful generated images are (SynCLR, "When Pretty
Isn't Useful"). What was answered is kept by request: an interrupted run pays for no answer twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from figment.progress import progress
from figment.prompts.answered import captions_in
from figment.prompts.chat_model import ChatModel
from figment.prompts.collect import Collected, finish
from figment.prompts.server import ChatServer
from figment.prompts.words import fill, with_article, without_article
from figment.records import fingerprint
from figment.task import Task
from figment.types import Prompt

# One a request, in turn: a model that is asked the same again answers the same again.
FOCUS = (
    "the place, and what is in the background",
    "the viewpoint and the distance of the camera",
    "the light, the weather and the time of day",
    "colour, size, age, material and condition",
    "what it is doing, or what is being done with it",
    "other things, animals or people beside it",
    "ordinary snapshots: off centre, partly hidden, small in the frame, slightly blurred",
    "unusual but real examples of it",
)
MENTIONED = 30  # class names, and words of the task, in one request


class Chat:
    """``n`` different captions a class from a chat model, ``per_request`` of them a request, ``parallel`` requests at a time.

    ``timeout`` is in seconds without a byte, ``deadline`` in seconds for a whole answer. ``temperature``, ``top_p`` and ``max_tokens`` go to the server as they are; so does ``extra``, where null takes a field
    out (``{"seed": None}``). A class is given up after ``max_tries`` times the requests that ``n`` captions need; its
    templates then fill in. ``cache`` is a folder of answers, by request; None keeps none.

    With the same answers the prompts are the same, in whatever order they come. Whether a server answers the same
    request alike is its own affair. Raises FigmentError for a server that cannot be used, see :class:`ChatServer`, and
    where no class gets a caption.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key_env: str | None = None,
        temperature: float | None = 0.8,
        top_p: float | None = 0.9,
        max_tokens: int | None = 2048,
        extra: Mapping[str, Any] | None = None,
        per_request: int = 20,
        max_tries: int = 4,
        require_name: bool = True,
        parallel: int = 8,
        timeout: float = 120.0,
        deadline: float = 600.0,
        retries: int = 6,
        cache: Path | None = None,
    ):
        self.server = ChatServer(base_url, api_key_env, timeout, deadline, retries)
        options = {"temperature": temperature, "top_p": top_p, "max_tokens": max_tokens}
        self.model = ChatModel(self.server, model, options, dict(extra or {}), parallel, cache)
        self.per_request, self.max_tries, self.require_name = per_request, max_tries, require_name

    def __call__(self, task: Task, n: int, rng: np.random.Generator) -> list[Prompt]:
        seed = int(rng.integers(2**31))
        collected = [Collected(task, label, n, self.require_name) for label in range(len(task.class_names))]
        asked, useless = [0] * len(collected), list[dict[str, Any]]()
        most = self.max_tries * -(-n // self.per_request)
        with progress("ask", -(-n // self.per_request) * len(collected), "requests") as advance:
            while wanted := self._wanted(collected, asked, most):
                bodies = [self._body(task, label, number, seed) for label, number in wanted]
                # All answers of a round are looked at in the order of the requests, not that of their arrival.
                for (label, _), answer in zip(wanted, self.model.ask(bodies, advance), strict=True):
                    asked[label] += 1
                    captions = captions_in(answer)
                    useless += [] if captions else [answer]
                    for caption in captions:
                        collected[label].add(caption, f"chat {self.model.model}")
        advice = "Try the model by hand, choose another prompts.model, or set prompts.require_name: false."
        return finish(collected, "chat", advice, self.model.instead(useless, sum(asked)))

    def _wanted(self, collected: Sequence[Collected], asked: Sequence[int], most: int) -> list[tuple[int, int]]:
        """The next round: label and number of each request that is needed, if all answers are good."""
        return [
            (label, asked[label] + i)
            for label, one in enumerate(collected)
            for i in range(min(-(-one.missing // self.per_request), most - asked[label]))
        ]

    def _body(self, task: Task, label: int, number: int, seed: int) -> dict[str, Any]:
        """The request: its number decides what it asks for, so no two are alike."""
        own = int(fingerprint([seed, task.class_names[label], number]), 16) % 2**31
        text = instruction(task, label, number, self.per_request, np.random.default_rng(own))
        return self.model.body(text, own)


# ---- what is asked ---------------------------------------------------------------------------------------------------


def instruction(task: Task, label: int, number: int, k: int, rng: np.random.Generator) -> str:
    """The text of one request for ``k`` captions."""
    name = task.class_names[label]
    template = fill(task.templates[number % len(task.templates)], name)
    others = [n for n in task.class_names if n != name]
    others = [others[i] for i in sorted(rng.permutation(len(others))[:MENTIONED])]
    words = [*task.contexts, *(word for kind in task.attributes.values() for word in kind)]
    ideas = [words[i] for i in sorted(rng.permutation(len(words))[: min(6, MENTIONED)])]
    also = f" (also called {', '.join(task.synonyms[name])})" if task.synonyms.get(name) else ""
    lines = [
        f"Write {k} captions of {k} different photographs of {with_article(name)}{also}.",
        f'They belong to a collection whose plainest caption is: "{template}"',
        f"It has other classes, which must not be shown: {', '.join(others)}.",
        f'Each caption is one English sentence of 10 to 30 words, contains the words "{without_article(name)}" literally, and describes'
        " only what can be seen. The scenes are plausible and differ from one another as much as real photographs do.",
        f"This is list number {number + 1}: vary above all {FOCUS[number % len(FOCUS)]}.",
        *([f"Some ideas, to use where they fit: {'; '.join(ideas)}."] if ideas else []),
        "Answer with a JSON array of strings and nothing else.",
    ]
    return "\n".join(lines)

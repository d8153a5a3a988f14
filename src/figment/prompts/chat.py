"""Captions written by a language model behind any OpenAI-compatible server: vLLM, llama.cpp, Ollama, or a hosted one.

Many different, plausible captions are the largest lever there is on how useful generated images are (SynCLR, "When Pretty
Isn't Useful"). What was answered is kept by request: an interrupted run pays for no answer twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np

from figment.progress import progress
from figment.prompts.answered import captions_in, is_cut_off, shown
from figment.prompts.collect import Collected, finish
from figment.prompts.server import ChatServer, Stopped
from figment.prompts.words import with_article, without_article
from figment.records import fingerprint, read_answer, write_answer
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
        self.model, self.per_request, self.parallel = model, per_request, parallel
        self.max_tries, self.require_name, self.cache = max_tries, require_name, cache
        self._options = {"temperature": temperature, "top_p": top_p, "max_tokens": max_tokens}
        self._extra = dict(extra or {})

    def __call__(self, task: Task, n: int, rng: np.random.Generator) -> list[Prompt]:
        seed = int(rng.integers(2**31))
        collected = [Collected(task, label, n, self.require_name) for label in range(len(task.class_names))]
        asked, useless = [0] * len(collected), list[dict[str, Any]]()
        most = self.max_tries * -(-n // self.per_request)
        with progress("ask", -(-n // self.per_request) * len(collected), "requests") as advance:
            while wanted := self._wanted(collected, asked, most):
                bodies = [self._body(task, label, number, seed) for label, number in wanted]
                # All answers of a round are looked at in the order of the requests, not that of their arrival.
                for (label, _), answer in zip(wanted, self._ask(bodies, advance), strict=True):
                    asked[label] += 1
                    captions = captions_in(answer)
                    useless += [] if captions else [answer]
                    for caption in captions:
                        collected[label].add(caption, f"chat {self.model}")
        advice = "Try the model by hand, choose another prompts.model, or set prompts.require_name: false."
        return finish(collected, "chat", advice, self._instead(useless, sum(asked)))

    def _instead(self, useless: Sequence[Mapping[str, Any]], n: int) -> str:
        """What came where captions should have; nothing where they came."""
        if not useless:
            return ""
        cut = [answer for answer in useless if is_cut_off(answer)]
        if cut:
            return (
                f" {len(cut):,} of {n:,} answers ended at {self._limit()} before they held a caption. Raise it, or"
                " turn the model's thinking off."
            )
        return f" {len(useless):,} of {n:,} answers held no caption; one of them: {shown(useless[-1])!r}."

    def _limit(self) -> str:
        """The setting that ends an answer."""
        for name in ("max_completion_tokens", "max_tokens"):
            if self._extra.get(name) is not None:
                return f"prompts.extra.{name}: {self._extra[name]}"
        own = None if "max_tokens" in self._extra else self._options["max_tokens"]
        return (
            "the server's limit of tokens (prompts.max_tokens is null)" if own is None else f"prompts.max_tokens: {own}"
        )

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
        body = {"model": self.model, "messages": [{"role": "user", "content": text}], "seed": own, **self._options}
        return {name: value for name, value in {**body, **self._extra}.items() if value is not None}

    # ---- answers, from the cache or the server -----------------------------------------------------------------------

    def _ask(self, bodies: Sequence[Mapping[str, Any]], advance: Callable[[int], None]) -> list[dict[str, Any]]:
        """One answer for each request, in their order. Whatever arrives is kept, also when another request fails."""
        self.server.stop.clear()
        failure: BaseException | None = None
        with ThreadPoolExecutor(self.parallel, thread_name_prefix="figment-chat") as pool:
            futures = [pool.submit(self._answer, body) for body in bodies]
            try:
                for future in as_completed(futures):
                    error = future.exception()
                    if error is None:
                        advance(1)
                    elif not isinstance(error, Stopped):
                        failure = failure or error
            finally:
                self.server.stop.set()  # at Ctrl-C: what is under way is paid for and kept, nothing more is asked
        if failure is not None:
            raise failure
        return [future.result() for future in futures]

    def _answer(self, body: Mapping[str, Any]) -> dict[str, Any]:
        path = None if self.cache is None else self.cache / f"{fingerprint(body)}.json"
        known = None if path is None else read_answer(path)
        if known is not None and captions_in(known["answer"]):
            return known["answer"]
        try:
            answer = self.server.complete(body)
        except Exception:
            self.server.stop.set()
            raise
        if path is not None and captions_in(answer):  # one of no use is asked for again by the next run
            write_answer(path, {"request": body, "answer": answer})
        return answer


# ---- what is asked ---------------------------------------------------------------------------------------------------


def instruction(task: Task, label: int, number: int, k: int, rng: np.random.Generator) -> str:
    """The text of one request for ``k`` captions."""
    name = task.class_names[label]
    template = task.templates[number % len(task.templates)].replace("{}", name)
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

"""A language model behind a server, asked many things at a time. What it answered is kept by request: an interrupted run pays for no
answer twice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from figment.prompts.answered import captions_in, is_cut_off, shown
from figment.prompts.server import ChatServer, Stopped
from figment.records import fingerprint, read_answer, write_answer


@dataclass(frozen=True)
class ChatModel:
    """``model`` as the ``server`` calls it.

    ``options`` go to the server as they are, and so does ``extra``, where null takes a field out. ``cache`` is a folder of answers, by
    request; None keeps none.
    """

    server: ChatServer
    model: str
    options: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    parallel: int = 8  # requests at a time
    cache: Path | None = None

    def body(self, text: str, seed: int) -> dict[str, Any]:
        """A request."""
        body = {"model": self.model, "messages": [{"role": "user", "content": text}], "seed": seed, **self.options}
        return {name: value for name, value in {**body, **self.extra}.items() if value is not None}

    def ask(self, bodies: Sequence[Mapping[str, Any]], advance: Callable[[int], None]) -> list[dict[str, Any]]:
        """One answer for each request, in their order. Whatever arrives is kept, also when another request fails. Raises FigmentError
        for a server that cannot be used."""
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

    def instead(self, useless: Sequence[Mapping[str, Any]], n: int) -> str:
        """What came where captions should have, in ``n`` answers; nothing where they came."""
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
            if self.extra.get(name) is not None:
                return f"prompts.extra.{name}: {self.extra[name]}"
        own = None if "max_tokens" in self.extra else self.options.get("max_tokens")
        return (
            "the server's limit of tokens (prompts.max_tokens is null)" if own is None else f"prompts.max_tokens: {own}"
        )

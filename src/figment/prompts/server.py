"""One request to an OpenAI-compatible server, asked again as long as that may help."""

from __future__ import annotations

import http.client
import io
import json
import os
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from figment.errors import FigmentError, nearest
from figment.guard import MOST, parse_json
from figment.words import one_line, without_secret

AGAIN = "The answers so far are kept; run the same command again and it goes on from there."
LONGEST_WAIT = 120.0  # seconds between two tries
ANSWER = "answer of a server"
TRANSIENT = (408, 409, 425, 429)  # and 5xx: the same request may succeed later


class Stopped(Exception):
    """Another request failed for good, so this one was not sent, or not again."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the key to a server that nobody named."""

    def redirect_request(self, *args: Any, **options: Any) -> None:
        return None


class _Timed(io.RawIOBase):
    """The bytes of one answer until a time: a server that sends one now and then is not waited for for ever."""

    def __init__(self, sock: socket.socket, until: float):
        self.sock, self.until = sock, until
        self.raw = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self.until - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer did not end in time")
        self.sock.settimeout(min(left, self.sock.gettimeout() or left))
        return self.raw.readinto(buffer)

    def close(self) -> None:
        self.raw.close()
        super().close()


class _WholeInTime(urllib.request.AbstractHTTPHandler):
    """Before the handlers of urllib: a request with ``until`` has its answer, headers too, by then or not at all."""

    def do_open(self, http_class: Any, req: Any, **options: Any) -> Any:
        def response(sock: socket.socket, *args: Any, **more: Any) -> http.client.HTTPResponse:
            made = http.client.HTTPResponse(sock, *args, **more)
            made.fp.close()
            made.fp = io.BufferedReader(_Timed(sock, req.until))
            return made

        def connection(*args: Any, **more: Any) -> Any:
            made = http_class(*args, **more)
            made.response_class = response
            return made

        return super().do_open(connection, req, **options)


class _Http(_WholeInTime, urllib.request.HTTPHandler):
    pass


class _Https(_WholeInTime, urllib.request.HTTPSHandler):
    pass


@dataclass
class ChatServer:
    """``base_url`` as the server's manual gives it, such as ``http://localhost:8000/v1`` (vLLM), with or without the ``/v1``.

    The key is read from the environment variable ``api_key_env`` when it is needed, and appears in no message. A failed
    request is sent again up to ``retries`` times, after 0.5, 1, 2, 4... seconds or what the server asks for, when the
    reason is a lost connection, ``timeout`` seconds without a byte, an answer that is not whole after ``deadline``
    seconds, HTTP 429 or 5xx. ``stop`` ends the waiting of all threads, with :class:`Stopped`.
    """

    base_url: str
    api_key_env: str | None = None
    timeout: float = 120.0
    deadline: float = 600.0
    retries: int = 6
    wait: float = 0.5  # seconds before the first new try
    stop: threading.Event = field(default_factory=threading.Event, repr=False)

    def __post_init__(self) -> None:
        url = self.base_url.rstrip("/").removesuffix("/chat/completions")
        self.url = url if urlsplit(url).path.strip("/") else f"{url.rstrip('/')}/v1"
        self._opener = urllib.request.build_opener(_NoRedirects, _Http, _Https)

    def complete(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The server's answer to a chat request, as JSON. Raises FigmentError."""
        reason = ""
        for attempt in range(self.retries + 1):
            if self.stop.is_set():
                raise Stopped
            try:
                return self._post("chat/completions", body)
            except urllib.error.HTTPError as error:
                reason, asked = self._said(error), _retry_after(error)
                if error.code not in TRANSIENT and error.code < 500:
                    raise self._refused(error.code, reason, body) from error
            except (OSError, http.client.HTTPException, ValueError) as error:
                cause = getattr(error, "reason", None)
                if isinstance(cause, socket.gaierror) and cause.errno == socket.EAI_NONAME:
                    raise FigmentError(
                        f"There is no server at {self.url}: {cause.strerror}. Check prompts.base_url."
                    ) from error
                reason, asked = self._hide(f"{type(error).__name__}: {error}"), None
                if isinstance(error, TimeoutError) or isinstance(cause, TimeoutError):
                    reason = (
                        f"no answer in time (prompts.timeout: {self.timeout:g} s without a byte,"
                        f" prompts.deadline: {self.deadline:g} s for the whole)"
                    )
            if attempt < self.retries:
                self.stop.wait(min(LONGEST_WAIT, self.wait * 2**attempt if asked is None else asked))
        raise FigmentError(
            f"The server {self.url} gave no answer in {self.retries + 1} tries; the last one ended with {reason}."
            f" Is it running, and is prompts.base_url right? {AGAIN}"
        )

    def _post(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The answer without the key; ``body`` None is a GET. Raises ValueError for an answer that is no JSON object."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", "User-Agent": "figment", **self._authorization()}
        request = urllib.request.Request(f"{self.url}/{path}", data, headers)
        request.until = time.monotonic() + self.deadline  # type: ignore[attr-defined]
        with self._opener.open(request, timeout=self.timeout) as response:
            raw = response.read(MOST[ANSWER] + 1)
        try:
            answer = self._without_key(parse_json(raw, "the answer", ANSWER))
        except FigmentError as error:  # too long, or nested too deeply: perhaps the next one is not
            raise ValueError(str(error)) from error
        if not isinstance(answer, dict):
            raise ValueError("the answer is no JSON object")
        return answer

    # ---- the key -----------------------------------------------------------------------------------------------------

    def _key(self) -> str:
        if self.api_key_env is None:
            return ""
        key = os.environ.get(self.api_key_env, "").strip()
        if not key:
            raise FigmentError(
                f"prompts.api_key_env names the environment variable {self.api_key_env}, which is not set."
                f" Run: export {self.api_key_env}=... with the key of {self.url}."
            )
        if not (key.isascii() and key.isprintable()):
            raise FigmentError(f"The environment variable {self.api_key_env} holds signs that no key has.")
        return key

    def _authorization(self) -> dict[str, str]:
        key = self._key()
        return {"Authorization": f"Bearer {key}"} if key else {}

    def _hide(self, text: str) -> str:
        return without_secret(text, self._key())

    def _without_key(self, value: Any) -> Any:
        """JSON that will be stored. Some servers, and proxies before them, send back what they were sent."""
        if isinstance(value, dict):
            return {self._hide(name): self._without_key(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [self._without_key(inner) for inner in value]
        return self._hide(value) if isinstance(value, str) else value

    # ---- what went wrong ---------------------------------------------------------------------------------------------

    def _said(self, error: urllib.error.HTTPError) -> str:
        """The status and the server's own words, in one line."""
        try:
            text = error.read(100_000).decode("utf-8", "replace")
        except (OSError, http.client.HTTPException):
            text = ""
        try:
            told = parse_json(text, self.url, ANSWER)
            told = told.get("error", told.get("detail", told.get("message", told)))
            text = str(told.get("message", told)) if isinstance(told, dict) else str(told)
        except (FigmentError, ValueError, AttributeError):
            pass
        said = one_line(self._hide(text))[:300] or self._hide(str(error.reason))
        return f"HTTP {error.code} ({said})"

    def _refused(self, status: int, reason: str, body: Mapping[str, Any]) -> FigmentError:
        """A request that would be refused again."""
        if status in (401, 403):
            how = (
                f"Check the key in the environment variable {self.api_key_env}."
                if self.api_key_env
                else "It wants a key: put it into an environment variable and name that in prompts.api_key_env."
            )
            return FigmentError(f"The server {self.url} did not let us in: {reason}. {how}")
        if status == 404:
            models = self._models()
            known = f"{nearest(str(body.get('model')), models)} It offers: {', '.join(models[:20])}." if models else ""
            return FigmentError(
                f"The server {self.url} does not know the model {body.get('model')!r}, or nothing answers chat requests"
                f" there: {reason}.{known} Check prompts.model and prompts.base_url."
            )
        if 300 <= status < 400:
            return FigmentError(
                f"The server {self.url} sends us elsewhere ({reason}). Set prompts.base_url to the address it moved to."
            )
        return FigmentError(
            f"The server {self.url} refused a request: {reason}. Where it names a field it does not take, set that"
            " field to null in prompts.extra, or put there what it wants instead."
        )

    def _models(self) -> list[str]:
        """What the server says it serves; empty where it does not say."""
        try:
            return [str(m["id"]) for m in self._post("models")["data"]]
        except (FigmentError, OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
            return []


def _retry_after(error: urllib.error.HTTPError) -> float | None:
    """Seconds that the server asks us to wait: a number, or a date."""
    text = error.headers.get("Retry-After", "").strip()
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError):
        return None

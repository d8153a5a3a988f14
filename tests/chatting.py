"""A real HTTP server on loopback that answers chat requests, stumbles and lies on purpose."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
import zlib
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Server(ThreadingHTTPServer):
    """Answers chat requests. ``stumbles`` are done first, one a request; ``answer`` makes the text of a good answer."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock = threading.Lock()
        self.asked: list[dict[str, Any]] = []  # requests, as they came
        self.headers: list[dict[str, str]] = []
        self.answered = 0
        self.stumbles: list[Callable[[BaseHTTPRequestHandler], bool]] = []
        self.answer: Callable[[str, int, int], str] = captions
        self.finish_reason = "stop"
        self.models = ["tiny", "large"]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that was killed is part of the test


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.reply(200, {"data": [{"id": name} for name in self.server.models]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.asked.append(body)
            self.server.headers.append(dict(self.headers))
            stumble = self.server.stumbles.pop(0) if self.server.stumbles else None
        if self.path != "/v1/chat/completions":
            return self.reply(404, {"error": {"message": f"no route {self.path}"}})
        if stumble is not None and stumble(self):
            return None
        text = body["messages"][0]["content"]
        words = (r'contains the words "(.+?)"', r"photograph this: (.+)\.", r"is for: (.+)")
        name, k = (
            next(found[1] for w in words if (found := re.search(w, text))),
            int(re.match(r"(?:Write|Name) (\d+)", text)[1]),
        )
        self.reply(
            200,
            completion(self.server.answer(name, k, zlib.crc32(json.dumps(body).encode())), self.server.finish_reason),
        )
        with self.server.lock:
            self.server.answered += 1
        return None

    def reply(self, status: int, value: Any, **headers: str) -> None:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in headers.items():
            self.send_header(name.replace("_", "-"), text)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


def completion(text: str | None, finish_reason: str = "stop") -> dict[str, Any]:
    return {"choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}]}


def captions(name: str, k: int, seed: int) -> str:
    return json.dumps([f"A {name} on the shelf number {seed + i}." for i in range(k)])


def fails(status: int, message: str = "overloaded", **headers: str) -> Callable[[Handler], bool]:
    return lambda handler: handler.reply(status, {"error": {"message": message}}, **headers) or True


def hangs_up(handler: Handler) -> bool:
    """The connection is reset instead of answered."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    handler.connection.close()
    return True


def breaks_off(handler: Handler) -> bool:
    """Half an answer."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [')
    handler.close_connection = True
    return True


def drips(*parts: bytes) -> Callable[[Handler], bool]:
    """A whole answer, of which a byte comes now and then: each in time, all of it never. ``parts`` come at once before."""

    def drip(handler: Handler) -> bool:
        handler.close_connection = True
        try:
            handler.wfile.write(b"".join(parts))
            for byte in b"X-Slow: 1\r\n" * 20:
                handler.wfile.write(bytes([byte]))
                time.sleep(0.02)
        except OSError:
            pass  # the client has gone, which is the point
        return True

    return drip


def is_slow(handler: Handler) -> bool:
    time.sleep(0.5)
    return False


def says(text: str | None) -> Callable[[Handler], bool]:
    return lambda handler: handler.reply(200, completion(text)) or True

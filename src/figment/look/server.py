"""The curation page on loopback, for one person: who does not know the token in its address gets nothing.

Other pages in the same browser can send requests to loopback too. Reading is kept from them by the token; a name of theirs that they
let point to 127.0.0.1 (DNS rebinding) by the exact ``Host``; changing anything also by the exact ``Origin`` and by a header of its own,
which a browser sends to another origin only after asking (CORS), and here nobody says yes.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import sys
from functools import cached_property
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from figment.errors import FigmentError
from figment.guard import parse_json
from figment.images_in.by_hand import WORDS, Change
from figment.look.album import Album

LOOPBACK = "127.0.0.1"
HEADER = "X-Figment-Look"  # of every request that changes something
PAGES = {
    "": ("page.html", "text/html"),
    "look.css": ("look.css", "text/css"),
    "look.js": ("look.js", "text/javascript"),
}
MOST_BYTES = 2**20  # of a request
MOST_CHANGES = 1_000  # the page sends fewer at a time
FIRST_PORT, PORTS = 49_152, 16_384  # those that nobody owns (RFC 6335)
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'none'"
)


class LookServer(ThreadingHTTPServer):
    """Serves one album until it is shut down.

    ``port`` None: the run's own, where a browser finds what it kept for the page, or any other if that is taken. Raises FigmentError
    where one that is given is taken.
    """

    def __init__(self, album: Album, port: int | None = None):
        self.album, self.token = album, secrets.token_urlsafe(24)
        try:
            super().__init__((LOOPBACK, usual_port(album.run.folder) if port is None else port), Handler)
        except OSError as error:
            if port is not None:
                raise FigmentError(
                    f"Port {port} of {LOOPBACK} cannot be had: {error.strerror}. Choose another with --port, or leave it out."
                ) from error
            super().__init__((LOOPBACK, 0), Handler)

    @property
    def hosts(self) -> set[str]:
        port = "" if self.server_port == 80 else f":{self.server_port}"  # browsers leave out that of http
        return {f"{name}{port}" for name in (LOOPBACK, "localhost")}

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.server_port}/{self.token}/"

    @cached_property
    def columns(self) -> bytes:
        return json.dumps(self.album.columns()).encode()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A page that is closed, or goes on to others before it has all its images, is no error."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


def usual_port(folder: Path) -> int:
    """Another one for each run, and always the same: what a browser keeps for a page is kept by its port too."""
    return FIRST_PORT + int(hashlib.sha256(str(folder.absolute()).encode()).hexdigest(), 16) % PORTS


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # one connection for many thumbnails
    timeout = 60  # seconds that a connection may be idle
    server: LookServer

    def log_message(self, format: str, *args: Any) -> None:
        """The token is in every line."""

    def do_GET(self) -> None:
        self._answer(changes=False)

    def do_POST(self) -> None:
        self._answer(changes=True)

    # ---- who asks? ---------------------------------------------------------------------------------------------------

    def _answer(self, changes: bool) -> None:
        try:
            body = self._body() if changes else b""
            way = self._allowed(changes)
            if changes:
                self._say(way, body)
            else:
                self._show(way)
        except _Refused as error:
            self._send_json({"error": str(error)}, error.status)
        except LookupError:
            self._send_json({"error": "There is no such page."}, HTTPStatus.NOT_FOUND)
        except FigmentError as error:
            self._send_json({"error": str(error)}, HTTPStatus.CONFLICT)

    def _allowed(self, changes: bool) -> str:
        """What is asked for, below the token. Raises for anybody whose business it is not."""
        hosts, origins = self.headers.get_all("Host") or [], self.headers.get_all("Origin") or []
        if len(hosts) != 1 or hosts[0] not in self.server.hosts:
            raise _Refused(HTTPStatus.FORBIDDEN, "This is not the address of this page.")
        if origins != [f"http://{hosts[0]}"] and (changes or origins):
            raise _Refused(HTTPStatus.FORBIDDEN, "Another page may not ask.")
        try:
            _, token, way = (*urlsplit(self.path).path.split("/", 2), "", "")[:3]
        except ValueError as error:
            raise _Refused(HTTPStatus.BAD_REQUEST, "This is no address.") from error
        if not hmac.compare_digest(token.encode("utf-8", "replace"), self.server.token.encode()):
            raise _Refused(HTTPStatus.FORBIDDEN, "figment look was started again. Open the address that it prints.")
        if changes and (self.headers.get(HEADER) != "1" or self.headers.get("Content-Type") != "application/json"):
            raise _Refused(HTTPStatus.FORBIDDEN, f"Only the page itself changes anything: {HEADER} is missing.")
        return way

    def _body(self) -> bytes:
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdecimal() and len(length) < 12) or int(length) > MOST_BYTES:
            self.close_connection = True  # what follows was not read
            raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"A request has at most {MOST_BYTES:,} bytes.")
        return self.rfile.read(int(length))

    # ---- what is answered --------------------------------------------------------------------------------------------

    def _show(self, way: str) -> None:
        """Raises LookupError for what there is not."""
        album = self.server.album
        if way in PAGES:
            name, kind = PAGES[way]
            return self._send((resources.files("figment.look") / name).read_bytes(), f"{kind}; charset=utf-8")
        if way == "images.json":
            return self._send(self.server.columns, "application/json")
        if way == "verdicts.json":
            return self._send_json(album.said())
        what, *at = way.split("/")
        if what in ("image", "thumbnail", "neighbours") and len(at) == 1:
            place = _number(at[0], len(album))
            if what == "neighbours":
                return self._send_json(album.neighbours(place))
            file = album.image(place) if what == "image" else album.thumbnail(place)
        elif what == "real" and len(at) == 2:
            file = album.real(at[0], _number(at[1], None))
        else:
            raise LookupError(way)
        return self._send(file.data, file.type, keep=True)

    def _say(self, way: str, body: bytes) -> None:
        if way != "verdicts.json":
            raise LookupError(way)
        self._send_json(self.server.album.say(_changes(body)))

    def _send_json(self, value: Any, status: HTTPStatus = HTTPStatus.OK) -> None:
        self._send(json.dumps(value).encode(), "application/json", status)

    def _send(self, data: bytes, kind: str, status: HTTPStatus = HTTPStatus.OK, keep: bool = False) -> None:
        headers = {
            "Content-Type": kind,
            "Content-Length": str(len(data)),
            "Cache-Control": "private, max-age=600" if keep else "no-store",
            "Content-Security-Policy": POLICY,
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


class _Refused(Exception):
    def __init__(self, status: HTTPStatus, text: str):
        super().__init__(text)
        self.status = status


def _number(text: str, end: int | None) -> int:
    """Raises LookupError for what is none, or not below the end."""
    if not (text.isascii() and text.isdecimal() and len(text) < 12) or (end is not None and int(text) >= end):
        raise LookupError(text)
    return int(text)


def _changes(body: bytes) -> list[Change]:
    """Raises for what the page would not send."""
    try:
        told = parse_json(body, "the request", "annotation")["changes"]
        changes = [Change(str(c["id"]), str(c["digest"]), c["was"], c["now"]) for c in told]
    except (ValueError, KeyError, TypeError) as error:
        raise _Refused(HTTPStatus.BAD_REQUEST, "This is no list of changes.") from error
    if len(changes) > MOST_CHANGES or any(word not in WORDS for c in changes for word in (c.was, c.now)):
        raise _Refused(
            HTTPStatus.BAD_REQUEST, f"At most {MOST_CHANGES:,} changes, from and to one of {', '.join(WORDS[1:])}."
        )
    return changes

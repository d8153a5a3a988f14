"""A Hub of one's own: folders served over HTTP as the Hugging Face Hub serves repositories, to the Hub's own client; and one to upload to."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """``root/owner/name`` is a model, ``root/datasets/owner/name`` a data set. What is in ``gated`` may be looked at and not fetched.

    ``fetched`` holds the files whose bytes were asked for; ``cards`` what the Hub read from a card: repository -> fields.
    """

    def __init__(self, root: Path):
        super().__init__(("127.0.0.1", 0), _Answer)
        self.root, self.gated, self.cards, self.fetched = root, set[str](), dict[str, dict[str, Any]](), list[str]()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def files(self, repo: str) -> list[Path]:
        return sorted(p for p in (self.root / repo).rglob("*") if p.is_file())


class _Answer(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        path = unquote(self.path.partition("?")[0]).strip("/")
        if path.startswith("api/"):
            kind, owner, name, *rest = [*path.removeprefix("api/").split("/"), "", ""]
            repo = f"{owner}/{name}" if kind == "models" else f"datasets/{owner}/{name}"
            self.tell(repo, [part for part in rest if part])
            return
        repo, _, file = path.partition("/resolve/")
        target = self.server.root / repo / file.partition("/")[2]
        if repo in self.server.gated:
            self.refuse(403, "GatedRepo")
        elif not target.is_file():
            self.refuse(404, "EntryNotFound" if (self.server.root / repo).is_dir() else "RepoNotFound")
        else:
            if self.command == "GET":
                self.server.fetched.append(file.partition("/")[2])
            self.send(target.read_bytes(), {"ETag": f'"{target.stat().st_size}-{target.stat().st_mtime_ns}"'})

    def tell(self, repo: str, rest: list[str]) -> None:
        if not (self.server.root / repo).is_dir():
            self.refuse(404, "RepoNotFound")
        elif rest[:1] == ["auth-check"]:
            self.refuse(403, "GatedRepo") if repo in self.server.gated else self.send(b"{}")
        elif rest[:1] == ["revision"] and rest[1] not in ("main", COMMIT):
            self.refuse(404, "RevisionNotFound")
        else:
            files = {
                p.relative_to(self.server.root / repo).as_posix(): p.stat().st_size for p in self.server.files(repo)
            }
            if rest[:1] == ["tree"]:
                told: Any = [{"type": "file", "path": n, "size": s, "oid": "0" * 40} for n, s in files.items()]
            else:
                siblings = [{"rfilename": name, "size": size, "blobId": "0" * 40} for name, size in files.items()]
                gated = "manual" if repo in self.server.gated else False
                card = self.server.cards.get(repo, {})
                own = {
                    "id": repo.removeprefix("datasets/"),
                    "sha": COMMIT,
                    "private": False,
                    "downloads": 0,
                    "likes": 0,
                    "tags": [],
                }
                told = {**own, "siblings": siblings, "gated": gated, "cardData": card}
            self.send(json.dumps(told).encode(), {"Content-Type": "application/json"})

    def refuse(self, status: int, code: str) -> None:
        self.send(b"", {"X-Error-Code": code, "X-Error-Message": code}, status)

    def send(self, data: bytes, headers: dict[str, str] | None = None, status: int = 200) -> None:
        self.send_response(status)
        for name, value in {"X-Repo-Commit": COMMIT, "Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def standing_in(folder: Path, monkeypatch: Any) -> Iterator[Hub]:
    """A Hub in ``folder/hub`` in the place of the real one, and an empty cache in ``folder/cache``."""
    (folder / "hub").mkdir()
    server = Hub(folder / "hub")
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    constants = "huggingface_hub.constants"
    monkeypatch.setattr(f"{constants}.ENDPOINT", server.address)
    monkeypatch.setattr(
        f"{constants}.HUGGINGFACE_CO_URL_TEMPLATE", server.address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(f"{constants}.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(f"{constants}.HF_HUB_CACHE", str(folder / "cache"))
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


class Taker(ThreadingHTTPServer):
    """As much of the Hub as an upload needs. ``holds``: the names of the files in the repository that is asked for.

    ``created``: what was asked for, and with which token; ``commits``: file -> bytes, one each.
    """

    def __init__(self, holds: list[str], private: bool = True):
        super().__init__(("127.0.0.1", 0), _Taken)
        self.holds, self.private = holds, private
        self.commits, self.created = list[dict[str, bytes]](), list[tuple[dict[str, Any], str]]()


class _Taken(BaseHTTPRequestHandler):
    server: Taker

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        siblings = [{"rfilename": name} for name in self.server.holds]
        repo = "/".join(self.path.split("/")[3:5])
        told = {"_id": "1", "id": repo, "private": self.server.private, "sha": "0" * 40, "tags": []}
        self.answer({**told, "siblings": siblings})

    def do_POST(self) -> None:
        body = self.body()
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            self.server.created.append((asked, self.headers["Authorization"]))
            place = "datasets/" if asked.get("type") == "dataset" else ""
            self.answer({"url": f"{self.address}/{place}{asked['organization']}/{asked['name']}"})
        elif "/preupload/" in self.path:
            paths = [f["path"] for f in json.loads(body)["files"]]
            self.answer({"files": [{"path": p, "uploadMode": "regular", "shouldIgnore": False} for p in paths]})
        elif "/commit/" in self.path:
            lines = [json.loads(line) for line in body.splitlines()]
            files = {x["value"]["path"]: base64.b64decode(x["value"]["content"]) for x in lines if x["key"] == "file"}
            self.server.commits.append(files)
            place = self.path.removeprefix("/api/").removeprefix("models/").partition("/commit/")[0]
            url = f"{self.address}/{place}/commit/1"
            self.answer({"commitUrl": url, "commitOid": "1" * 40, "success": True})
        else:
            self.answer({"errors": [], "warnings": []})

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def body(self) -> bytes:
        if "Content-Length" in self.headers:
            return self.rfile.read(int(self.headers["Content-Length"]))
        data = b""
        while size := int(self.rfile.readline(), 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def answer(self, value: Any) -> None:
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def taking(monkeypatch: Any, holds: list[str], private: bool = True) -> Iterator[Taker]:
    """A Hub to upload to, in the place of the real one, by whoever has the token ``hf_secret``."""
    server = Taker(holds, private)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def is_private(asked: dict[str, Any]) -> bool:
    """Whether a repository was created so: older and newer clients say it in different words."""
    return asked.get("visibility", "private" if asked.get("private") else "public") == "private"

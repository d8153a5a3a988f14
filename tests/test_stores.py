"""Object stores that are away, too busy, or refuse us: every verb says so, and none takes what is there for missing."""

from __future__ import annotations

import itertools
import pickle
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from figment import records, stores
from figment.errors import FigmentError
from figment.files import as_path, is_remote, read_bytes, write_atomic
from figment.layout import Run

RUN = "s3://bucket/run"


class Refusing(BaseHTTPRequestHandler):
    """Answers every request with the server's status."""

    def refuse(self) -> None:
        status = self.server.status  # type: ignore[attr-defined]
        code = {503: "SlowDown", 429: "TooManyRequests", 403: "AccessDenied", 404: "NoSuchKey"}.get(
            status, "InternalError"
        )
        body = b"" if self.command == "HEAD" else b"<Error><Code>%s</Code><Message>no</Message></Error>" % code.encode()
        self.send_response(status)
        self.send_header("Retry-After", "1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = refuse

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def store(monkeypatch) -> Iterator[Callable[[int | None], None]]:
    """``store(503)`` answers every request so; ``store(None)`` is away."""
    s3fs = pytest.importorskip("s3fs")
    servers: list[ThreadingHTTPServer] = []
    settings = {
        "ACCESS_KEY_ID": "test",
        "SECRET_ACCESS_KEY": "test",
        "DEFAULT_REGION": "us-east-1",
        "MAX_ATTEMPTS": "1",
    }
    for name, value in settings.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)  # who waits learns nothing here
    monkeypatch.setattr(stores, "PATIENCE", 0.0)
    s3fs.S3FileSystem.clear_instance_cache()

    def start(status: int | None) -> None:
        server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        if status is None:
            server.server_close()
            return
        server.status = status  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
    s3fs.S3FileSystem.clear_instance_cache()


def status() -> None:
    from figment.status import status

    status(as_path(RUN))


def verify() -> None:
    from figment.verify import verify

    verify(RUN)


def repair() -> None:
    from figment.repair import repair

    repair(RUN)


def report() -> None:
    from figment.report.folder import report_of

    report_of(as_path(RUN))


def export() -> None:
    from figment.exports.export import export

    export(RUN, "csv", "/nowhere")


def load() -> None:
    from figment.recipe import load_recipe

    load_recipe(RUN)


def run() -> None:
    from figment.recipe import validate
    from figment.run import run_recipe

    run_recipe(validate({"task": {"class_names": ["a", "b"]}, "generate": {"kind": "procedural"}}, "it"), RUN)


def write() -> None:
    write_atomic(as_path(RUN) / "file", b"")


VERBS = [status, verify, repair, report, export, load, run, write]


@pytest.mark.parametrize("answer", [None, 503])
@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_says_that_a_store_cannot_be_reached(store, verb, answer):
    store(answer)
    with pytest.raises(
        FigmentError, match=rf"({RUN}\S* cannot be reached|Cannot write to {RUN}) \(.+bucket.+goes on from there"
    ):
        verb()


@pytest.mark.parametrize("answer", [None, 503, 429, 403, 500])
def test_what_a_store_holds_is_not_taken_for_missing(store, answer):
    store(answer)
    path = as_path(RUN) / "stage.json"
    asks: list[Callable[[], Any]] = [
        path.is_file,
        path.exists,
        path.is_dir,
        path.stat,
        path.read_text,
        path.unlink,
        path.open,
        lambda: list(path.glob("*")),
        lambda: list(path.rglob("*")),
        lambda: list(path.iterdir()),
        lambda: read_bytes(path),
        lambda: records.read(path.parent),
        lambda: records.read_answer(path),
        lambda: records.beside(path),
        lambda: Run(path.parent).made,
    ]
    for ask in asks:
        with pytest.raises(FigmentError, match="cannot be reached"):
            ask()


def test_what_a_store_does_not_hold_is_missing(store):
    store(404)
    path = as_path(RUN) / "stage.json"
    assert not path.is_file() and not path.exists() and records.read(path.parent).state == "none"
    assert records.read_answer(path) is None
    with pytest.raises(FileNotFoundError):
        read_bytes(path)


@pytest.mark.parametrize(
    "text",
    [
        "s3://",
        "s3:///",
        "s3:///run",
        "s3:/bucket/run",
        "s3:bucket",
        "gs://",
        "gs:/bucket",
        "hf:/datasets",
        "az://",
        "https:/x",
    ],
)
def test_half_an_address_is_refused_and_makes_no_folder(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FigmentError, match=r"is half an address.*://bucket/run"):
        as_path(text)
    assert not list(tmp_path.iterdir())
    assert as_path(f"./{text}") == Path(f"./{text}")


def test_a_remote_path_is_a_path_like_any_other():
    folder = as_path("memory://bucket/run")
    write_atomic(folder / "a" / "x.json", b"{}")
    write_atomic(folder / "y.json", b"{}")
    assert is_remote(folder) and pickle.loads(pickle.dumps(folder)) == folder and {folder: 1}[as_path(str(folder))] == 1
    assert (folder / "a").is_dir() and (folder / "y.json").is_file() and not (folder / "a").is_file()
    assert sorted(p.name for p in folder.iterdir()) == ["a", "y.json"] and folder.exists()
    assert [p.relative_to(folder).as_posix() for p in sorted(folder.rglob("*.json"))] == ["a/x.json", "y.json"]
    assert (folder / "y.json").read_bytes() == b"{}" and (folder / "y.json").parent == folder
    (folder / "y.json").unlink()
    assert not (folder / "y.json").exists() and (folder / "a" / ".." / "a").name == "a"


@pytest.mark.parametrize("after", [6, 20, 45, 75])
def test_a_run_whose_store_goes_away_loses_nothing(after, monkeypatch):
    """At whatever request that is: one paragraph, and the same command makes what an undisturbed one makes."""
    from fsspec.implementations.memory import MemoryFileSystem

    from figment import files
    from figment.recipe import validate
    from figment.run import make_images

    monkeypatch.setattr(files, "LEASE_BEAT", 0.01)  # a lease of the dead is taken over after three
    generate = {"kind": "procedural", "images_per_class": 4}
    recipe = validate(
        {"task": {"class_names": ["a", "b"]}, "prompts": {"kind": "templates"}, "generate": generate}, "it"
    )
    requests = itertools.count(1)

    def answers(ask: Callable[..., Any]) -> Callable[..., Any]:
        def asked(*args: Any, **options: Any) -> Any:
            if next(requests) >= after:
                raise ConnectionError("the store is away")
            return ask(*args, **options)

        return asked

    with monkeypatch.context() as patch:
        for name in ("info", "cat_file", "pipe_file"):
            patch.setattr(MemoryFileSystem, name, answers(getattr(MemoryFileSystem, name)))
        with pytest.raises(FigmentError, match="goes on from there"):
            make_images(recipe, f"memory://away-{after}/run")
    made, whole = (make_images(recipe, f"memory://{name}-{after}/run") for name in ("away", "whole"))
    shards = [
        {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.parquet")}
        for folder in (made, whole)
    ]
    assert shards[0] == shards[1] and shards[0]

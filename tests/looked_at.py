"""A run to look at by hand, made in milliseconds, and the curation page served from this process."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

import folders
from figment import claims, files, shards
from figment.layout import Run
from figment.look.album import Album
from figment.look.server import HEADER, LookServer
from figment.recipe.recipe import as_yaml, validate
from figment.types import Sample, Verdict

NAMES = ["red thing", "green thing", "blue thing"]
COLOURS = [(220, 30, 30), (30, 200, 40), (40, 40, 230)]


def make_run(
    folder: Path,
    n: int = 12,
    names: Sequence[str] = NAMES,
    prompt: str = "a photo of a {}",
    side: int = 8,
    **recipe: Any,
) -> Path:
    """n images of ``side`` pixels, each other than the others; the filter ``blank`` threw out every fourth."""
    each = -(-n // len(names))
    data = {
        "task": {"class_names": list(names)},
        "prompts": {"kind": "templates"},
        "generate": {"kind": "procedural", "images_per_class": each, "height": side, "width": side},
        "filters": [{"kind": "blank"}],
        **recipe,
    }
    files.write_atomic(folder / claims.MARK, claims.RUN.mark)
    files.write_atomic(Run(folder).resolved, as_yaml(validate(data, "test").model_dump(mode="json")).encode())
    made = []
    for i in range(n):
        image = np.full((side, side, 3), COLOURS[i % 3], np.uint8)
        image[0] = i >> 8, i & 255, 0
        made.append(
            Sample(
                f"p{i:05d}/0", f"p{i:05d}", prompt.replace("{}", names[i % len(names)]), i % len(names), i, "g", image
            )
        )
    images = folders.write_images(folder / "images", [made], names)
    verdicts = [Verdict(i % 4 != 3, "" if i % 4 != 3 else "too plain", {"std": (i * 7 % n) / n}) for i in range(n)]
    table = shards.score_table([s.id for s in made], [s.label for s in made], verdicts, names)
    folders.write_scores(folder / "scores" / "0-blank", images, table, counts={"seen": n, "kept": n - n // 4})
    folders.write_selection(folder, ["0-blank"])
    return folder


@dataclass(frozen=True)
class Served:
    server: LookServer

    def ask(
        self, way: str, body: Any = None, *, method: str = "", token: str | None = None, **headers: str
    ) -> tuple[int, bytes]:
        """Status and body of one request, by default as the page sends it; ``headers`` with _ for -, "" leaves one out."""
        url = urlsplit(self.server.url)
        own = {"Host": url.netloc}
        if body is not None:
            own |= {"Origin": f"http://{url.netloc}", HEADER: "1", "Content-Type": "application/json"}
        own |= {name.replace("_", "-"): value for name, value in headers.items()}
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=60)
        try:
            place = f"/{self.server.token if token is None else token}/{way}"
            connection.putrequest(method or ("GET" if body is None else "POST"), place, skip_host=True)
            for name, value in {**({} if data is None else {"Content-Length": str(len(data))}), **own}.items():
                if value:
                    connection.putheader(name, value)
            connection.endheaders(data)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def json(self, way: str, body: Any = None) -> Any:
        status, data = self.ask(way, body)
        assert status == 200, data
        return json.loads(data)

    def change(self, at: int, was: str, now: str) -> dict[str, str]:
        images = self.server.album.images
        return {"id": images.ids[at], "digest": images.digests[at], "was": was, "now": now}

    def say(self, *changes: tuple[int, str, str]) -> Any:
        return self.json("verdicts.json", {"changes": [self.change(*one) for one in changes]})


class Killable(LookServer):
    """One whose connections end with it, as those of a process do."""

    def __init__(self, *arguments: Any, **options: Any):
        self.wires: list[socket.socket] = []
        super().__init__(*arguments, **options)

    def get_request(self) -> tuple[socket.socket, Any]:
        wire, address = super().get_request()
        self.wires.append(wire)
        return wire, address

    def server_close(self) -> None:
        super().server_close()
        for wire in self.wires:
            with suppress(OSError):
                wire.shutdown(socket.SHUT_RDWR)


@contextmanager
def served(folder: Path, **options: Any) -> Iterator[Served]:
    server = Killable(Album(folder), **options)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield Served(server)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

"""A folder as an S3 of one bucket, read only, which lets every request wait as a real store does: for benchmarks of reading.

    python benchmarks/object_store.py FOLDER --latency 30      prints its address, and serves until its input ends

Files go from the disk's cache to the socket, so what it takes itself is little. (moto, the S3 of the tests, copies the whole object
for each range of it.) Objects are ``s3://bucket/<path below the folder>``, and ``http://.../bucket/<path>``.
"""

from __future__ import annotations

import argparse
import os
import re
import socket
import sys
import threading
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

LISTING = '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{}</ListBucketResult>'
OBJECT = '<Contents><Key>{}</Key><Size>{}</Size><ETag>"0"</ETag><LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>'


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections stay open
    disable_nagle_algorithm = True
    root: Path
    latency: float

    def do_GET(self) -> None:
        time.sleep(self.latency)
        url = urlsplit(self.path)
        _, _, key = unquote(url.path).lstrip("/").partition("/")
        if not key:
            self.answer(200, self.listing(parse_qs(url.query)).encode(), "application/xml")
        elif (self.root / key).is_file():
            self.send(self.root / key)
        else:
            self.answer(404, b"<Error><Code>NoSuchKey</Code><Message>no such key</Message></Error>", "application/xml")

    do_HEAD = do_GET

    def listing(self, query: dict[str, list[str]]) -> str:
        prefix, delimiter = query.get("prefix", [""])[0], query.get("delimiter", [""])[0]
        found, folders = [], set()
        for path in sorted(path for path in self.root.rglob("*") if path.is_file()):
            key = str(path.relative_to(self.root))
            if not key.startswith(prefix):
                continue
            rest, slash, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
            if slash:
                folders.add(prefix + rest + slash)
            else:
                found.append(OBJECT.format(escape(key), path.stat().st_size))
        common = [f"<CommonPrefixes><Prefix>{escape(f)}</Prefix></CommonPrefixes>" for f in sorted(folders)]
        told = f"<Name>bucket</Name><Prefix>{escape(prefix)}</Prefix><KeyCount>{len(found) + len(common)}</KeyCount><IsTruncated>false</IsTruncated>"
        return LISTING.format(told + "".join(found + common))

    def send(self, path: Path) -> None:
        size = path.stat().st_size
        start, end = 0, size - 1
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if asked and asked[1]:
            start, end = int(asked[1]), min(int(asked[2] or end), end)
        elif asked:
            start = max(0, size - int(asked[2]))
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{end}/{size}")
        self.send_header("Content-Length", str(end - start + 1))
        self.send_header("ETag", '"0"')
        self.send_header("Last-Modified", formatdate(path.stat().st_mtime, usegmt=True))
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        if self.command == "GET":
            with path.open("rb") as file:
                while start <= end:
                    start += os.sendfile(self.connection.fileno(), file.fileno(), start, end - start + 1)

    def answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 128

    def handle_error(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
        if not isinstance(sys.exception(), ConnectionError):  # readers hang up when they have enough
            super().handle_error(request, client_address)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--latency", type=float, default=30, help="milliseconds before each answer; default 30")
    args = parser.parse_args()
    Handler.root, Handler.latency = args.folder, args.latency / 1000
    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()

"""A chat server for all writers that ask one."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from chatting import Server


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()

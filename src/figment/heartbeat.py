"""A sign of life: a running job touches a file, so that others can tell a job that works from one that died."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from figment.errors import FigmentError
from figment.files import load_json, write_atomic

BEAT = 20.0  # seconds
DEAD = 4 * BEAT  # without a beat
CHECK = "check"  # the stage before anything is made


@dataclass
class Heartbeat:
    """What a running job says of itself."""

    path: Path
    started: float
    stage: str = ""

    def at(self, stage: str) -> None:
        """Say where the job is, at once."""
        self.stage = stage
        self.write()

    def write(self) -> None:
        told = {
            "stage": self.stage,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": self.started,
            "beat": time.time(),
        }
        with suppress(Exception):  # the next beat may get through; the job itself says what is wrong with the disk
            write_atomic(self.path, json.dumps(told).encode())


@contextmanager
def heartbeat(path: Path) -> Iterator[Heartbeat]:
    """Beat until the block ends. One that ends with an error stays, and tells when that was; one that was refused does not."""
    own, ended = Heartbeat(path, time.time()), threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT):
            own.write()

    own.write()
    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield own
        ended.set()
        thread.join()
        _remove(path)
    except FigmentError:
        if own.stage == CHECK:  # nothing was begun, so the folder is left as it was
            ended.set()
            thread.join()
            _remove(path)
        raise
    finally:
        ended.set()


def _remove(path: Path) -> None:
    with suppress(Exception):
        path.unlink(missing_ok=True)


def told(path: Path) -> str:
    """In words: ``running: images, for 3 minutes``, ``stopped 2 hours ago, at images``; empty where nobody runs or ran into trouble."""
    try:
        own = load_json(path, "record")
        silent, since = time.time() - own["beat"], own["beat"] - own["started"]
        if silent < DEAD and not _is_gone(own):
            return f"running: {own['stage']}, for {_span(since + silent)}"
        return f"stopped {_span(silent)} ago, at {own['stage'] or 'its start'}"
    except Exception:  # no such file, or one cut short
        return ""


def _is_gone(own: dict) -> bool:
    """Whether the process was here and is not any more."""
    if own["host"] != socket.gethostname():
        return False
    try:
        os.kill(own["pid"], 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{max(0, seconds):.0f} seconds"
    if seconds < 7200:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.0f} hours" if seconds < 48 * 3600 else f"{seconds / 86400:.0f} days"

"""A cluster that is not there, on a clock of its own: workers that die, machines that leave, stores that want fewer requests, nodes on which
nothing works. The loop that hands out work is the real one (:func:`figment.engines.crew.work_on`)."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from figment.engines.crew import Event
from figment.errors import Unreachable
from figment.stores import PATIENCE, PAUSES


@dataclass(frozen=True)
class Weather:
    """What goes wrong, as shares of pieces unless it says otherwise."""

    deaths: float = 0.0  # the worker dies
    gone: float = 0.0  # its machine leaves
    errors: float = 0.0  # an exception that does not come again
    slow: float = 0.0  # of places, where all takes ten times as long
    broken: frozenset[int] = frozenset()  # machines on which whatever is tried fails within seconds
    spoilt: frozenset[int] = frozenset()  # pieces that fail wherever they are tried
    requests: float = float("inf")  # writes a second that the store takes before it says SlowDown


class Cluster:
    """``n`` workers, eight a machine. ``job`` is called when a piece is done; what it raises counts as an error of the worker."""

    spread = True
    seconds = 600.0  # for a piece, give or take a half
    start = 60.0  # for a worker: a place, and the model

    def __init__(self, n: int, weather: Weather, job: Callable[[Any], Any], seed: int = 0):
        self.n, self.weather, self.job, self.random = n, weather, job, random.Random(seed)
        self.now, self.counts = 0.0, Counter[str]()
        self.heap: list[tuple[float, int, int, str, Any]] = []  # when, in which order, worker, what, piece
        self.order = self.hired = 0
        self.machine: dict[int, int] = {}  # worker -> the machine that it is on
        self.free = list(range(n))  # places; eight of them are a machine
        self.slow = {place for place in range(n) if self.random.random() < weather.slow}
        self.room, self.room_at = 0.0, 0.0  # requests that the store takes at this time

    def clock(self) -> float:
        return self.now

    def places(self) -> int:
        return self.n

    def hire(self) -> int:
        self.hired += 1
        self.counts["hired"] += 1
        place = self.free.pop()
        self.machine[self.hired] = place
        self._at(self.start, self.hired, "ready", None)
        return self.hired

    def give(self, worker: int, piece: Any, advance: Callable[[int], Any]) -> None:
        weather, drawn = self.weather, self.random.random()
        slow = self.machine[worker] in self.slow
        seconds = self.seconds * self.random.uniform(0.5, 1.5) * (10 if slow else 1)
        self.counts["given"] += 1
        if self.machine[worker] // 8 in weather.broken:
            return self._at(5.0, worker, "failed", OSError("No such device"))
        if int(piece.shard) in weather.spoilt:
            return self._at(seconds, worker, "failed", ValueError("spoilt"))
        for kind, share in (("lost", weather.deaths), ("gone", weather.gone), ("failed", weather.errors)):
            if drawn < share:
                at = self.random.random() * seconds
                return self._at(at, worker, kind, RuntimeError("a passing error") if kind == "failed" else "killed")
            drawn -= share
        return self._at(seconds, worker, "done", piece)

    def dismiss(self, worker: int) -> None:
        self.free.insert(0, self.machine.pop(worker))  # who comes next gets another place, if there is one

    def event(self, timeout: float | None) -> Event | None:
        until = None if timeout is None else self.now + timeout
        if not self.heap or (until is not None and self.heap[0][0] > until):
            self.now = until if until is not None else self.now
            return None
        self.now, _, worker, kind, value = heapq.heappop(self.heap)
        if worker not in self.machine:  # dismissed meanwhile
            return None
        self.counts[kind] += 1
        if kind in ("lost", "gone"):
            self.dismiss(worker)
            return Event(worker, kind, value)  # type: ignore[arg-type]
        return self._done(worker, value) if kind == "done" else Event(worker, kind, value)  # type: ignore[arg-type]

    def _done(self, worker: int, piece: Any, waited: float = 0.0, pause: float = PAUSES[0]) -> Event | None:
        """The end of a piece: it is written, or the store wants fewer requests and the worker waits as a real one does."""
        if isinstance(piece, tuple):
            piece, waited, pause = piece
        if self.weather.requests < float("inf"):
            self.room = min(
                max(1.0, self.weather.requests), self.room + (self.now - self.room_at) * self.weather.requests
            )
            self.room_at = self.now
        if self.room < 1 and self.weather.requests < float("inf"):
            self.counts["done"] -= 1
            self.counts["throttled"] += 1
            if waited + pause > PATIENCE:
                return Event(worker, "failed", Unreachable("the store wants fewer requests"))
            self._at(
                self.random.uniform(pause / 2, pause),
                worker,
                "done",
                (piece, waited + pause, min(2 * pause, PAUSES[1])),
            )
            return None
        self.room = max(0.0, self.room - 1)
        try:
            return Event(worker, "done", self.job(piece))
        except Exception as error:
            return Event(worker, "failed", error)

    def _at(self, seconds: float, worker: int, kind: str, value: Any) -> None:
        self.order += 1
        heapq.heappush(self.heap, (self.now + seconds, self.order, worker, kind, value))

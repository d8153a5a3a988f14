"""Workers, wherever they are, and the one loop that hands pieces of work to them."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from figment.engines.todo import Todo
from figment.words import one_line


@dataclass(frozen=True)
class Event:
    """What a worker says, or what is said of it: it asks for its first piece (ready), it made one (done, with what came of it), an
    error came of it (failed), it died (lost, with how), or the machine that it was on went away (gone)."""

    worker: Hashable
    kind: Literal["ready", "done", "failed", "lost", "gone"]
    value: Any = None


class Crew(Protocol):
    """Who does the work. Everything that may differ between one process, several, and a cluster of machines that come and go."""

    spread: bool  # over machines, which may differ

    def places(self) -> int:
        """How many workers there may be at this time."""
        ...

    def hire(self) -> Hashable:
        """Start one worker more. What it says first is that it is ready, whenever that is."""
        ...

    def give(self, worker: Hashable, piece: Any, advance: Callable[[int], Any]) -> None:
        """A piece for a worker that has none. ``advance`` is told the units of progress it reports."""
        ...

    def dismiss(self, worker: Hashable) -> None:
        """A worker has nothing more to do, or is given up."""
        ...

    def event(self, timeout: float | None) -> Event | None:
        """The next event, or None after ``timeout`` seconds, or earlier."""
        ...


@dataclass
class _Hand:
    """What a worker is at."""

    piece: int | None = None
    advanced: int = 0  # units of progress of the piece


def work_on(
    crew: Crew, work: Sequence[Any], advance: Callable[[int], Any], clock: Callable[[], float] = time.monotonic
) -> Iterator[tuple[Any, Any]]:
    """Each piece with what came of it, as they end. Raises FigmentError: see :class:`figment.engines.Engine`."""
    shift = _Shift(crew, Todo(work, clock, crew.spread), advance)
    while shift.todo.left:
        shift.fill_places()
        event = crew.event(shift.patience())
        done = None if event is None else shift.hear(event)
        shift.wake()
        if event is not None and done is not None:
            yield work[done], event.value
    shift.todo.end()


class _Shift:
    """Who is at what. As many workers as there are places, and never more than pieces that are left."""

    def __init__(self, crew: Crew, todo: Todo, advance: Callable[[int], Any]):
        self.crew, self.todo, self.advance = crew, todo, advance
        self.hands: dict[Hashable, _Hand] = {}
        self.starting: dict[Hashable, None] = {}  # in the order in which they were hired
        self.idle: dict[Hashable, float] = {}  # until when each of them rests

    def fill_places(self) -> None:
        wanted = min(self.crew.places(), self.todo.left)
        while len(self.hands) < wanted:
            worker = self.crew.hire()
            self.hands[worker], self.starting[worker] = _Hand(), None
        while self.starting and len(self.hands) > self.todo.left:  # a cluster need not find them a place any more
            self.leave(next(reversed(self.starting)))

    def patience(self) -> float | None:
        """Seconds until somebody who rests can go on; None where nobody does."""
        if not self.idle:
            return None
        ready = max(min(self.idle.values()), self.todo.ready)  # the first of them, and a piece for it
        return max(0.0, ready - self.todo.clock())

    def wake(self) -> None:
        """Work for those who have rested."""
        now = self.todo.clock() if self.idle else 0.0
        for worker in [worker for worker, until in self.idle.items() if until <= now]:
            self.give(worker)

    def hear(self, event: Event) -> int | None:
        """What follows from an event; the piece that was made, if one was. :meth:`wake` gives the next."""
        hand = self.hands.get(event.worker)
        if hand is None:  # it was dismissed in the same moment
            return None
        piece, hand.piece = hand.piece, None
        self.starting.pop(event.worker, None)
        if event.kind in ("lost", "gone"):
            self.lose(event, hand, piece)
            return None
        self.idle[event.worker] = 0.0
        if event.kind == "failed":
            self.fail(event, hand, piece)
            return None
        if piece is not None:
            self.todo.done(piece, event.worker)
        return piece

    def fail(self, event: Event, hand: _Hand, piece: int | None) -> None:
        if piece is None:  # it could not even load the job
            if not self.todo.may_differ:
                raise event.value
            self.leave(event.worker)
            self.todo.lost(None, one_line(str(event.value))[:300], len(self.hands))
            return
        self.advance(-hand.advanced)
        until = self.todo.failed(piece, event.value, event.worker, len(self.hands))
        if until is None:
            self.leave(event.worker)
        else:
            self.idle[event.worker] = until

    def lose(self, event: Event, hand: _Hand, piece: int | None) -> None:
        self.advance(-hand.advanced)
        self.forget(event.worker)
        self.todo.lost(piece, event.value, len(self.hands), node=event.kind == "gone")

    def give(self, worker: Hashable) -> None:
        """The next piece; where there is none, leave to go, unless one that rests will need somebody."""
        hand, piece = self.hands[worker], self.todo.take()
        if piece is not None:
            del self.idle[worker]
            hand.piece, hand.advanced = piece, 0
            self.crew.give(worker, self.todo.work[piece], lambda n: self.progress(hand, n))
        elif len(self.hands) > self.todo.left:
            self.leave(worker)

    def progress(self, hand: _Hand, n: int) -> None:
        hand.advanced += n
        self.advance(n)

    def leave(self, worker: Hashable) -> None:
        self.forget(worker)
        self.crew.dismiss(worker)

    def forget(self, worker: Hashable) -> None:
        for known in (self.hands, self.starting, self.idle):
            known.pop(worker, None)

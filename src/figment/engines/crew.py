"""Workers, wherever they are, and the one loop that hands pieces of work to them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from figment.engines.todo import Todo
from figment.words import one_line


@dataclass(frozen=True)
class Event:
    """What a worker says, or what is said of it: it asks for its first piece (ready), it made one (done, with what came of it), an
    error came of it (failed), it died (lost, with how), or the machine that it was on went away (gone). A worker that is needed no
    more for a piece, while something is left to do of it, asks for the next one (made); what it says after that is of the earlier one,
    until that is done or has failed."""

    worker: Hashable
    kind: Literal["ready", "made", "done", "failed", "lost", "gone"]
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
        """A piece for a worker that is at none. ``advance`` is told the units of progress it reports."""
        ...

    def dismiss(self, worker: Hashable) -> None:
        """A worker has nothing more to do, or is given up."""
        ...

    def event(self, timeout: float | None) -> Event | None:
        """The next event, or None after ``timeout`` seconds, or earlier."""
        ...


@dataclass
class _Taken:
    """A piece that a worker has."""

    piece: int
    advanced: int = 0  # units of progress


@dataclass
class _Hand:
    """What a worker is at, in the order in which it was given: behind the first, which comes to its end, there may be one more."""

    taken: deque[_Taken] = field(default_factory=deque)
    rests: float = 0.0  # until when, by the clock


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
        """Seconds until somebody who rests can go on; None where nobody does, or all pieces are taken."""
        if not self.idle or not self.todo.waits:
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
        self.starting.pop(event.worker, None)
        if event.kind in ("lost", "gone"):
            self.lose(event, hand)
            return None
        own = hand.taken.popleft() if hand.taken and event.kind != "made" else None
        if event.kind == "failed":
            self.fail(event, hand, own)
        elif own is not None:
            self.todo.done(own.piece, event.worker)
        if event.worker in self.hands and (not hand.taken or event.kind == "made"):
            self.idle[event.worker] = hand.rests
        return own.piece if own is not None and event.kind == "done" else None

    def fail(self, event: Event, hand: _Hand, own: _Taken | None) -> None:
        if own is None:  # it could not even load the job
            if not self.todo.may_differ:
                raise event.value
            self.leave(event.worker)
            self.todo.lost(None, one_line(str(event.value))[:300], len(self.hands))
            return
        self.advance(-own.advanced)
        until = self.todo.failed(own.piece, event.value, event.worker, len(self.hands))
        if until is not None:
            hand.rests = until
        elif not hand.taken:  # else what it has made meanwhile would go with it
            self.leave(event.worker)

    def lose(self, event: Event, hand: _Hand) -> None:
        """What it was at comes next, and before that what it was ending, which hardly ever is what killed it."""
        self.forget(event.worker)
        at = hand.taken.pop() if hand.taken else None
        self.todo.lost(None if at is None else at.piece, event.value, len(self.hands), node=event.kind == "gone")
        for ending in hand.taken:
            self.todo.back(ending.piece)
        for own in (*hand.taken, *([at] if at else [])):
            self.advance(-own.advanced)

    def give(self, worker: Hashable) -> None:
        """The next piece; where there is none, leave to go, unless one that rests will need somebody, or it still ends one."""
        hand, piece = self.hands[worker], self.todo.take()
        if piece is not None:
            del self.idle[worker]
            own = _Taken(piece)
            hand.taken.append(own)
            self.crew.give(worker, self.todo.work[piece], lambda n: self.progress(own, n))
        elif not hand.taken and len(self.hands) > self.todo.left:
            self.leave(worker)

    def progress(self, own: _Taken, n: int) -> None:
        own.advanced += n
        self.advance(n)

    def leave(self, worker: Hashable) -> None:
        self.forget(worker)
        self.crew.dismiss(worker)

    def forget(self, worker: Hashable) -> None:
        for known in (self.hands, self.starting, self.idle):
            known.pop(worker, None)

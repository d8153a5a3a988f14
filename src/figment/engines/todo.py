"""What is still to do, how often each piece of it went wrong, and whose fault that was."""

from __future__ import annotations

import heapq
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from figment.errors import FigmentError, NothingMade, Unreachable
from figment.files import AGAIN
from figment.words import one_line

log = logging.getLogger(__name__)

FAULTS = 3  # errors of a piece before it is given up, and of a worker in a row before another takes its place
DEATHS = 3  # workers that one piece may cost
NODES = (
    10  # machines that may go away under one piece, or fail at whatever they are given, which is hardly ever its fault
)
REST = (
    1.0  # seconds after a first error, twice as many after each more: what is wrong with a store or a network may pass
)
LONGEST = 300.0  # seconds that anything rests
SHOWN = 5  # pieces in a message
KILLED = (
    "Where the system kills workers, memory has most often run out: take fewer --workers, a smaller generate.batch_size or a"
    " smaller model."
)


class Todo:
    """Pieces of work, known by their positions. One that was lost with its worker comes next; one that failed rests, as does whoever
    it failed with, since a worker that fails at whatever it is given would otherwise take all there is.

    A piece that goes wrong too often is given up, and the others go on; :meth:`end` says which. Whose fault an error was shows later:
    the piece's, if its worker then makes another; the worker's, if it fails at several in a row, and is replaced.
    """

    def __init__(self, work: Sequence[Any], clock: Callable[[], float] = time.monotonic, spread: bool = False):
        self.work, self.clock, self.spread = work, clock, spread
        self.left = len(work)  # pieces that are neither done nor given up
        self._open, self._resting = deque(range(len(work))), list[tuple[float, int]]()  # a heap: until when, which
        self._faults, self._deaths, self._nodes = Counter[int](), Counter[int](), Counter[int]()
        self._rows: dict[Hashable, list[int]] = {}  # worker -> the pieces that it failed at since it last made one
        self._given_up = dict[int, tuple[str, BaseException | None]]()
        self._stillborn = 0  # workers in a row that died while they started
        self._proven = set[Hashable]()  # workers that made something
        self._taken = dict[int, float]()  # piece at work -> since when
        self._vain, self._vain_since = 0, 0.0  # errors since anything was made, and when the first of them was
        self._untried = 0  # pieces, where nothing is made any more
        self._made = False  # anything at all

    def take(self) -> int | None:
        """The next piece, or None where all are taken or at rest."""
        self._stillborn = 0  # whoever asks for work has started
        now, piece = self.clock(), None
        if self._resting and self._resting[0][0] <= now:
            piece = heapq.heappop(self._resting)[1]
        elif self._open:
            piece = self._open.popleft()
        if piece is not None:
            self._taken[piece] = now
        return piece

    @property
    def ready(self) -> float:
        """From when on there is a piece to take, by the clock; 0 where there is one now, or none that rests."""
        return 0.0 if self._open or not self._resting else self._resting[0][0]

    @property
    def waits(self) -> bool:
        """Whether there is a piece that nobody has."""
        return bool(self._open or self._resting)

    @property
    def may_differ(self) -> bool:
        """Whether one machine may lack what another has: they are several, and something was made."""
        return self.spread and self._made

    def done(self, piece: int, worker: Hashable) -> None:
        self.left -= 1
        del self._taken[piece]
        self._made, self._vain = True, 0
        self._proven.add(worker)
        self._faults.update(self._rows.pop(worker, ()))  # now that it is known that the worker can do something

    # ---- what goes wrong ---------------------------------------------------------------------------------------------

    def failed(self, piece: int, error: BaseException, worker: Hashable, workers: int) -> float | None:
        """An error came of a piece: until when its worker, one of so many, is to rest; None: another is to take its place.

        Raises the error where it is no affair of this piece: the first ones where nothing was made, and one that the user can mend, but
        for machines of a cluster (``spread``) of which others made something: there it is this one that lacks a package or a model.
        """
        of_all = isinstance(error, FigmentError) and not isinstance(error, Unreachable | NothingMade)
        of_all = of_all and not self.may_differ
        hopeless = self._in_vain(piece, workers)
        if of_all or (not self._made and (isinstance(error, NothingMade) or hopeless)):
            raise error
        row = self._rows.setdefault(worker, [])
        row.append(piece)
        proven = worker in self._proven
        times = self._faults[piece] + (row.count(piece) if proven else 1)
        if replace := len(row) >= FAULTS and (len(set(row)) > 1 or not proven):
            del self._rows[worker]
        rest = min(LONGEST, REST * 2.0 ** min(max(times, len(row)) - 1, 20))
        said = one_line(str(error) if isinstance(error, FigmentError) else f"{type(error).__name__}: {error}")
        said = said.removesuffix(AGAIN).strip()[:300].rstrip(".")  # which is said once, at the end
        if hopeless or (times >= FAULTS and not isinstance(error, Unreachable)):  # which is the store's fault
            self._give_up(piece, f"{said}, {times} times" if times > 1 else said, error)
        else:
            log.warning(f"{self.work[piece]} failed and is tried again ({said})")
            # The worker comes back first, and takes another piece if there is one.
            heapq.heappush(self._resting, (self.clock() + 2 * rest, piece))
        if hopeless:
            self._give_up_all()
        return None if replace else self.clock() + rest

    def _in_vain(self, piece: int, workers: int) -> bool:
        """Count an error; whether nothing but errors is to come: there were many, and whatever was at work at the first of them has
        ended in one too. A few machines that fail at once must not end what takes the others hours."""
        del self._taken[piece]
        if not self._vain:
            self._vain_since = self.clock()
        self._vain += 1
        if self._vain < FAULTS * (workers + 1 if self._made or self.spread else 1):
            return False
        return min(self._taken.values(), default=self._vain_since) >= self._vain_since

    def lost(self, piece: int | None, how: str, workers: int, node: bool = False) -> None:
        """A worker died at this piece, or (None) before it had one; ``node``: with its machine, which is not held against the piece.

        Raises FigmentError where no worker can start.
        """
        at = "while starting" if piece is None else f"at {self.work[piece]}"
        log.warning(f"a worker died {at} ({how}); another one takes over")
        if piece is None:
            self._stillborn += not node
            if self._stillborn >= max(DEATHS, workers):
                raise FigmentError(
                    f"{self._stillborn} workers, one after another, died {at}; the last one: {how}. {KILLED} {AGAIN}"
                )
            return
        del self._taken[piece]
        counted, most, what = (self._nodes, NODES, "machines") if node else (self._deaths, DEATHS, "workers")
        counted[piece] += 1
        if counted[piece] < most:
            self._open.appendleft(piece)
        else:
            self._give_up(piece, f"{most} {what}, one after another, died {at}; the last one: {how}")

    def back(self, piece: int) -> None:
        """A piece comes next, since its worker died of another."""
        del self._taken[piece]
        self._open.appendleft(piece)

    def _give_up(self, piece: int, why: str, error: BaseException | None = None) -> None:
        log.warning(f"{self.work[piece]} is given up, and the others go on ({why})")
        self._given_up[piece] = why, error
        self.left -= 1

    def _give_up_all(self) -> None:
        """Nothing has been made for so long that nothing will be: whatever is at work comes to its end, and no more is taken."""
        untried = len(self._open) + len(self._resting)
        self._untried += untried
        self.left -= untried
        self._open.clear()
        self._resting.clear()

    def end(self) -> None:
        """Raise FigmentError for what was not made."""
        if not self._given_up:
            return
        shown = "; ".join(f"{self.work[i]}: {why}" for i, (why, _) in list(self._given_up.items())[:SHOWN])
        n = len(self._given_up)
        more = f"; and {n - SHOWN:,} more" if n > SHOWN else ""
        advice = f" {KILLED}" if any(self._deaths[i] >= DEATHS for i in self._given_up) else ""
        if self._untried:
            more += f". Nothing was made at the last {self._vain:,} attempts, so {self._untried:,} more were not tried"
        raise FigmentError(
            f"{n:,} of {len(self.work):,} pieces of work were given up: {shown}{more}.{advice} {AGAIN}"
        ) from next((error for _, error in self._given_up.values() if error is not None), None)

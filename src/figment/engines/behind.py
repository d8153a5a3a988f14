"""What is left of a piece of work when its worker is needed no more: done in a thread, while the worker is at its next piece."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import Thread
from typing import Any, Generic, Literal, TypeVar

Kind = Literal["made", "done", "failed"]
R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True)
class Later(Generic[R_co]):
    """What a job may hand back instead of a result: what is left to do, such as writing what was made, and gives the result."""

    end: Callable[[], R_co]


def ended(result: Any) -> Any:
    """The result of a job, whatever is left of it done now."""
    return result.end() if isinstance(result, Later) else result


class Bench:
    """Where one worker does its pieces. ``say(kind, value)`` is told what came of them, in the order in which they were given.

    Of a piece of which something is left it is first told that it was ``made``, and that it is ``done`` (or ``failed``) when that is
    true. One piece at a time is ended so: memory is that of two, and whoever dies loses two at the most.
    """

    def __init__(self, job: Callable[[Any, Callable[[int], None]], Any], say: Callable[[Kind, Any], None]):
        self.job, self.say = job, say
        self.behind: Thread | None = None

    def do(self, piece: Any, advance: Callable[[int], None]) -> None:
        """Raises what is no Exception, such as a Control-C; those are told."""
        kind: Kind = "done"
        try:
            value = self.job(piece, advance)
        except Exception as error:
            kind, value = "failed", error
        self.wait()
        if not isinstance(value, Later):
            self.say(kind, value)
            return
        self.say("made", None)
        # A second Control-C does not wait for a store that does not answer: what is written is whole or not there.
        self.behind = Thread(target=self._end, args=(value,), daemon=True)
        self.behind.start()

    def _end(self, later: Later[Any]) -> None:
        kind: Kind = "done"
        try:
            value = later.end()
        except BaseException as error:  # in a thread it would stop nothing, and the piece would be waited for for ever
            kind, value = "failed", error
        self.say(kind, value)

    def wait(self) -> None:
        """Until nothing is left of what was made."""
        if self.behind is not None:
            self.behind.join()

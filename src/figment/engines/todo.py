"""What every engine with workers keeps: what is still to do, and how often a piece of it took a worker with it."""

from __future__ import annotations

import logging
import pickle
import traceback
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any

from figment.errors import FigmentError
from figment.files import AGAIN

log = logging.getLogger(__name__)

DEATHS = 3  # workers that one piece may cost


class Todo:
    """Pieces of work, known by their positions. One that was lost with its worker comes next."""

    def __init__(self, work: Sequence[Any]):
        self.work, self._open = work, deque(range(len(work)))
        self._deaths: Counter[int | None] = Counter()  # None: while it started

    def take(self) -> int | None:
        """The next piece, or None where all are taken."""
        self._deaths.pop(None, None)  # whoever asks for work has started
        return self._open.popleft() if self._open else None

    def lost(self, piece: int | None, how: str) -> None:
        """A worker died at this piece, or (None) before it had one. Raises FigmentError where that is no accident any more."""
        at = "while starting" if piece is None else f"at {self.work[piece]}"
        self._deaths[piece] += 1
        if self._deaths[piece] == DEATHS:
            raise FigmentError(
                f"{DEATHS} workers, one after another, died {at}; the last one: {how}. Where the system kills workers, memory has"
                f" most often run out: take fewer --workers, a smaller generate.batch_size or a smaller model. {AGAIN}"
            )
        log.warning(f"a worker died {at} ({how}); another one takes over")
        if piece is not None:
            self._open.appendleft(piece)


def portable(error: BaseException) -> BaseException:
    """The error as it can be sent to another process, with its traceback as a note unless it is one for the user."""
    text = "".join(traceback.format_exception(error))
    try:
        copy = pickle.loads(pickle.dumps(error))
    except Exception:
        copy = RuntimeError(f"{type(error).__name__}: {error}")
    if not isinstance(error, FigmentError):
        copy.add_note(f"It happened in a worker:\n{text}")
    return copy


def pickled(job: Any, dumps: Callable[[Any], bytes] = pickle.dumps) -> bytes:
    """Raises FigmentError for a job that cannot be sent to another process."""
    try:
        return dumps(job)
    except Exception as error:
        raise FigmentError(
            f"This cannot be sent to another process: {str(error).rstrip('.')}. A generator of your own must survive pickle:"
            " define its class in a module, and open models and files when they are first used, not in __init__. Or leave out"
            " --engine and --workers, and all is done in this process."
        ) from error

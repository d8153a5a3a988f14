"""The one exception a user is meant to read."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class FigmentError(Exception):
    """Something the user can mend. The message is one paragraph: what is wrong, what is allowed, what to do.

    The command line prints it without a traceback and exits with status 2.
    """


class DeviceFailed(FigmentError):
    """The device answers nothing any more in this process: whatever is asked of it next fails too.

    A worker that meets it ends, and another one takes over; without workers it ends the run.
    """


class Unreachable(FigmentError):
    """A store that does not answer now, or refuses: it may answer later, or whoever asks from another machine."""


class NothingMade(FigmentError):
    """Nothing came of one piece of work. Of others something may come all the same."""


def missing_extra(package: str, extra: str) -> FigmentError:
    """The error for an optional dependency that is not installed."""
    return FigmentError(
        f"This needs the package {package!r}, which is not installed. Run: pip install 'figment-vision[{extra}]'"
    )


WEIGHTS = "some of its weights were NaN or infinite"  # as diverged has it, where the loss still was a number


def diverged(what: str, found: str, step: int, epoch: int | None, learning_rate: float, mend: str) -> FigmentError:
    """The error for a training whose loss or weights are not finite any more; ``step`` and ``epoch`` (None: there are none) count from 1."""
    of_epoch = "" if epoch is None else f"epoch {epoch:,}, "
    return FigmentError(
        f"{what} diverged: {found} at step {step:,} ({of_epoch}learning rate {learning_rate:.3g}), so there is nothing to learn"
        f" from any more. Nothing of it is kept, and the same settings would diverge again. {mend}"
    )


def nearest(word: str, allowed: Iterable[str]) -> str:
    """``" Did you mean 'x'?"``, or nothing when no allowed word is near."""
    close = difflib.get_close_matches(word, list(allowed), n=1, cutoff=0.6)
    return f" Did you mean {close[0]!r}?" if close else ""

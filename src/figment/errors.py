"""The one exception a user is meant to read."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class FigmentError(Exception):
    """Something the user can mend. The message is one paragraph: what is wrong, what is allowed, what to do.

    The command line prints it without a traceback and exits with status 2.
    """


def missing_extra(package: str, extra: str) -> FigmentError:
    """The error for an optional dependency that is not installed."""
    return FigmentError(
        f"This needs the package {package!r}, which is not installed. Run: pip install 'figment-vision[{extra}]'"
    )


def nearest(word: str, allowed: Iterable[str]) -> str:
    """``" Did you mean 'x'?"``, or nothing when no allowed word is near."""
    close = difflib.get_close_matches(word, list(allowed), n=1, cutoff=0.6)
    return f" Did you mean {close[0]!r}?" if close else ""

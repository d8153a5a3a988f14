"""What passes between processes: jobs, and the errors that come of them."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable
from typing import Any

from figment.errors import FigmentError


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

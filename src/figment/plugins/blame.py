"""Who did it: what a plug-in raised or returned, in words, with its own file and line."""

from __future__ import annotations

import inspect
import sys
import traceback
from typing import Any

import numpy as np

from figment.plugins.permission import modules


def failure(kind: str, error: BaseException, when: str, made: Any = None) -> str:
    """What a plug-in raised, where in its own file, in one paragraph."""
    text = " ".join(str(error).split())[:200]
    said = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return f"The plug-in {kind} failed when it was {when}: {said.rstrip('.')}. It is at {_place(kind, error, made)}."


def _place(kind: str, error: BaseException, made: Any) -> str:
    """``file, line n``: the last line of the plug-in's own file that ran, or where it is defined."""
    own = file_of(kind)
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    lines = [f for f in traceback.extract_tb(error.__traceback__) if own and f.filename == own]
    if lines:
        return f"{own}, line {lines[-1].lineno}"
    try:  # it was called in a way that it cannot be
        kind_of_it = made if inspect.isroutine(made) or inspect.isclass(made) else type(made)
        return f"{inspect.getsourcefile(kind_of_it)}, line {inspect.getsourcelines(kind_of_it)[1]}"
    except (TypeError, OSError):
        return own or kind


def file_of(kind: str) -> str | None:
    """The file of a plug-in's module. It need not be imported, and is not."""
    name = kind.partition(":")[0]
    module = sys.modules.get(name)
    if module is not None:
        return getattr(module, "__file__", None)
    files = modules(name)
    return files[-1] if files else None


def shown(value: Any) -> str:
    """A value as a message names it: its type and, for arrays, their dtype and shape."""
    if isinstance(value, np.ndarray):
        return f"{'an' if value.dtype.kind in 'iO' else 'a'} {value.dtype} array of shape {value.shape}"
    if value is None or isinstance(value, bool | int | float | str):
        return f"{value!r:.80} ({type(value).__name__})" if value is not None else "None"
    if isinstance(value, tuple) and len(value) < 4:
        return f"{value!r:.80}"
    module = type(value).__module__.partition(".")[0]
    name = type(value).__qualname__
    return f"an object of type {name if module == 'builtins' else f'{module}.{name}'}"

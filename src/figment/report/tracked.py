"""What came of a run, sent to a tracker: its numbers with their intervals, and the verdict."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path

from figment.files import is_remote
from figment.records import fingerprint
from figment.tracking import Tracker, curves
from figment.types import Result

log = logging.getLogger(__name__)


def send(tracker: Tracker | None, name: str, folder: Path, results: Mapping[str, Result], verdict: str) -> None:
    """One run of the tracker's for the run in ``folder``, which the same command again goes on with.

    ``top1/synthetic`` has ``top1/synthetic_low`` and ``_high`` beside it, the ends of its 95 % interval; ``verdict`` is a word. A
    tracker that does not take them costs no run: they are on disk, and a warning says so.
    """
    if tracker is None:
        return
    numbers = {
        f"{metric}{end}": value
        for metric, one in results.items()
        for end, value in (("", one.value), ("_low", one.ci[0]), ("_high", one.ci[1]))
        if math.isfinite(value)
    }
    where = str(folder if is_remote(folder) else folder.absolute())
    try:
        with curves(tracker, _plain(name), fingerprint(["results", where]), folder)(0) as say:
            say(None, {**numbers, "verdict": verdict})
    except Exception as error:  # each tracker has its own, and speaks to servers
        said = " ".join(str(error).split())[:300].rstrip(".")
        log.warning("The results of %s did not reach %s: %s. The same command again sends them.", name, tracker, said)


def _plain(name: str) -> str:
    """A recipe's name, which may be any text, as that of a folder."""
    return "".join(c if c.isalnum() or c in " -_" else "_" for c in name)[:100]

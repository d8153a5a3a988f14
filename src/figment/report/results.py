"""The measured numbers of a run folder, also of an older version."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from figment import files, records
from figment.errors import FigmentError
from figment.guard import parse_json
from figment.layout import Run
from figment.measures.measure import OLD_METRICS
from figment.types import Result

#: What version 0.1 called details. Read for one version.
OLD_DETAILS = {"pictures": "images"}


def read_results(folder: Path) -> list[Result]:
    """All lines of ``results.jsonl``, oldest first; none where there is no such file."""
    path = Run(folder).results
    if not path.is_file():
        return []
    text = records.vouched(folder, path.name).decode()
    with files.legible(path):  # not splitlines: a string in JSON may hold other line ends
        rows = [parse_json(line, path, "record") for line in text.split("\n") if line.strip()]
    return [_result(row) for row in rows]


def latest_results(folder: Path) -> dict[str, Result]:
    """Metric -> result, of the run that ended last in this folder."""
    run = Run(folder)
    found = records.read(run.model)
    own = (found if found.state == "old" else records.read(folder)).data.get("fingerprint")
    return {r.metric: r for r in read_results(folder) if r.fingerprint == own}


def _result(row: dict[str, Any]) -> Result:
    details = {OLD_DETAILS.get(name, name): value for name, value in row.get("details", {}).items()}
    metric = OLD_METRICS.get(row["metric"], row["metric"])
    changed = {"metric": metric, "ci": tuple(row["ci"]), "seeds": tuple(row["seeds"]), "details": details}
    return Result(**{**row, **changed})


def result_lines(folder: Path) -> list[str]:
    path = Run(folder).results
    return [] if not path.is_file() else files.read_bytes(path, "record").decode(errors="replace").split("\n")


def is_result(line: str) -> bool:
    """Whether a line of results.jsonl is one, or empty."""
    try:
        return not line.strip() or isinstance(_result(parse_json(line, "the line", "record")), Result)
    except (FigmentError, ValueError, TypeError, KeyError, AttributeError):
        return False


@dataclass(frozen=True)
class Answers:
    """Which test images one run got right, float (n,) over its training seeds, and their groups, int (n,); None: not known, or none.
    ``labels`` int (n,); ``images``, str (n,): the content hash of each, which older runs do not keep."""

    right: np.ndarray | None = None
    groups: np.ndarray | None = None
    labels: np.ndarray | None = None
    images: np.ndarray | None = None


def answers_of(folder: Path, metric: str) -> Answers:
    """Of what is no accuracy there are none."""
    if not metric.startswith(("top1/", "top5/")):
        return Answers()
    path = Run(folder).predictions
    try:
        predictions = files.open_parquet(path).read()  # local or remote
    except (OSError, ValueError) as error:  # pyarrow's are among them
        raise FigmentError(
            f"{path} cannot be read: {' '.join(str(error).split())[:200].rstrip('.')}. Run the whole again:"
            " that one run is measured anew, from the same images."
        ) from error
    groups = predictions["group"].to_numpy() if "group" in predictions.column_names else None
    own = [c for c in predictions.column_names if c.rpartition("/")[0] == metric]
    if not own:  # of the curve of real images, which keeps no predictions
        return Answers(None, groups)
    labels, images = predictions["label"].to_numpy(), None
    if "digest" in predictions.column_names:
        images = np.array(predictions["digest"].to_pylist())
    return Answers(np.mean([predictions[name].to_numpy() == labels for name in own], axis=0), groups, labels, images)

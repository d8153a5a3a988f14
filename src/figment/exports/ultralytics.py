"""Class folders below ``train/``, as Ultralytics' classifiers take them.

There is no ``val/`` and no ``test/``: what is exported was generated, and images of that kind say nothing of real ones. Whoever trains
puts photographs there, under the same names of folders.
"""

from __future__ import annotations

from pathlib import Path

from figment.exports.imagefolder import write_folder
from figment.exports.source import Source

MORE = (
    " Ultralytics also wants `val/` or `test/`: photographs of yours, in folders called as those of `train/`. It numbers the classes by"
    " the names of the folders, in alphabetical order."
)


def write(out: Path, source: Source, resuming: bool) -> None:
    for _ in write_folder(out, "train/", source, resuming, MORE):
        pass

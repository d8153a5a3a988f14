"""Runs that figment 0.1 wrote, to open with today's: how they were made is said in ``fixtures/v0_1/make.py``."""

from __future__ import annotations

import tarfile
from pathlib import Path

FIXTURES = Path(__file__).parent / "fixtures" / "v0_1"
KINDS = ("plain", "few_shot", "finetuned", "table")


def unpack(kind: str, folder: Path) -> Path:
    """The folder of the run ``kind`` of :data:`KINDS`, and ``photos`` beside it, in ``folder``, with paths that hold there."""
    folder = folder.resolve()
    for name in ("photos", kind):
        with tarfile.open(FIXTURES / f"{name}.tar.gz") as tar:
            tar.extractall(folder, filter="data")
    for file in folder.rglob("*"):
        if file.suffix in (".yaml", ".json", ".html", ".md"):
            file.write_bytes(file.read_bytes().replace(b"@ROOT@", str(folder).encode()))
    return folder / "run"

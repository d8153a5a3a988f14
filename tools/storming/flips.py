"""One bit of one file changed, in every kind of file: whether it is seen, by whom, and whether a number that is shown changed unseen."""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from damage import flip
from made import Made, held, kind_of, mended
from test_cli import figment

Row = dict[str, Any]
MEND_EVERY = 10  # flips; mending takes ten times as long as looking


def shown(folder: Path) -> tuple[str, int, bool]:
    """What status and report print and the page says, without pictures; the worst exit status; whether there was a traceback."""
    said, worst = [], 0
    for verb in ("status", "report"):
        done = figment(verb, folder)
        said += [done.stdout, done.stderr]
        worst = max(worst, done.returncode)
    page = (folder / "report.html").read_text(encoding="utf-8", errors="replace")
    text = "\n".join([*said, re.sub(r"data:[^\"')]+", "", page)])
    return text, worst, "Traceback" in text


def is_told(before: str, after: str) -> bool:
    """Whether what is shown says that something is wrong, beside being other than it was."""
    new = set(after.splitlines()) - set(before.splitlines())
    return any("damaged" in line or "figment verify" in line for line in new)


def files_by_kind(folder: Path) -> dict[str, list[str]]:
    """Kind of file -> its files, without those that are no part of a run."""
    kinds: dict[str, list[str]] = {}
    for name, path in held(folder).items():
        if path.stat().st_size:
            kinds.setdefault(kind_of(name), []).append(name)
    return kinds


def flips(made: Made, n: int, seed: int) -> Iterator[Row]:
    """``n`` single-bit flips, the kinds of files in turn; each starts from the finished folder."""
    rng, folder = random.Random(seed), made.folder.with_name("flipped")
    restore(made.folder, folder)
    before = shown(folder)[0]
    kinds = list(files_by_kind(made.folder).items())
    rng.shuffle(kinds)
    for i in range(n):
        kind, names = kinds[i % len(kinds)]
        name = rng.choice(names)
        restore(made.folder, folder)
        position, bit = rng.randrange((folder / name).stat().st_size), 1 << rng.randrange(8)
        flip(folder / name, position, bit)
        looked = figment("verify", folder)
        after, worst, traceback = shown(folder)
        row = {
            "kind": kind,
            "file": name,
            "byte": position,
            "bit": bit,
            "verify": looked.returncode == 1,
            "read": "refused"
            if worst
            else "the same"
            if after == before
            else "told"
            if is_told(before, after)
            else "another",
            "traceback": traceback or "Traceback" in looked.stdout + looked.stderr,
        }
        if i % MEND_EVERY == 0:
            restore(made.folder, folder)
            flip(folder / name, position, bit)
            try:
                row["mended"] = mended(made, folder, name)
            except Exception as error:  # whatever it is, it is no way out
                row["mended"] = f"NOTHING: {type(error).__name__}: {error}"
        yield row


def restore(pristine: Path, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(pristine, folder)

"""``kill -9`` at moments spread over whole runs: what is there in the end is what an undisturbed run makes."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from figment.verify import verify
from killing import REPO, Storm, Subject
from made import content, held

Row = dict[str, Any]
TOO_LONG = 600.0  # seconds; a tiny run takes a tenth of that, also on a busy machine


class DeadEnd(AssertionError):
    """The same command did not finish what had been interrupted."""


class Anytime(Storm):
    """Kills whoever makes something, whatever it is at: the run itself, or now and then one of its workers."""

    def __init__(self, root: Path, engine: str, subject: Subject, seed: int, seconds: float):
        super().__init__(root, engine, subject, seed)
        self.seconds, self.started = seconds, time.monotonic()  # of an undisturbed run; when the present one began

    def look(self) -> None:
        if self.process is None:
            self.started = time.monotonic()
        if time.monotonic() - self.started > TOO_LONG:
            raise DeadEnd(f"nothing came of {self.folder} in {TOO_LONG:.0f} s")
        try:
            super().look()
        except AssertionError as error:
            raise DeadEnd(str(error)[-2_000:]) from error

    def strike(self) -> Row:
        """Wait for a moment within the time of a run, and kill. Runs that come to their end meanwhile are checked."""
        self.look()
        began, after = None, 0.0
        while time.monotonic() - self.started < after or self.process is None or began != self.started:
            if began != self.started:  # another moment for each run: a machine may be faster than it was in the calm
                began, after = self.started, self.random.uniform(0, 1.1 * self.seconds)
            time.sleep(0.01)
            self.look()
        workers, process = self.workers(), self.process
        there = self.progress()[1]
        victim = "worker" if workers and self.random.random() < 0.5 else "driver"
        if victim == "worker":
            self.random.choice(workers).kill()
            self.counts["workers killed"] += 1
        else:
            self.kill_driver(process, workers)
        return {"killed": victim, "after seconds": round(time.monotonic() - self.started, 1), "files": there}


def calm(folder: Path, engine: str, arguments: tuple[str, ...]) -> float:
    """An undisturbed one; returns its seconds."""
    started = time.monotonic()
    command = [sys.executable, REPO / "tests" / "storm.py", folder, engine, *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - started


def rows_of(folder: Path) -> Counter[str]:
    """The rows of all images, by file, id and bytes."""
    shards = ((name, path) for name, path in held(folder).items() if re.search(r"images/\d+/[^/]+\.parquet$", name))
    return Counter(
        f"{Path(name).parent.parent} {row['id']} {hash(row['image']['bytes'] or b'')}"
        for name, path in shards
        for row in pq.read_table(path, columns=["id", "image"]).to_pylist()
    )


def compared(undisturbed: Path, folder: Path) -> Row:
    """What is other than in a calm: rows lost, rows doubled, files of other bytes, and what verify finds."""
    ours, theirs = rows_of(folder), rows_of(undisturbed)
    before, after = content(undisturbed), content(folder)
    other = sorted(name for name in before | after if before.get(name) != after.get(name))
    found = [f.text for f in verify(folder).findings if f.severity != "note"]
    return {
        "rows": sum(theirs.values()),
        "lost": sum((theirs - ours).values()),
        "doubled": sum((ours - theirs).values()),
        "files": len(before),
        "other": other,
        "found": found,
    }


def kills(root: Path, models: Path, engine: str, kind: str, n: int, seed: int) -> Iterator[Row]:
    """``n`` kills of runs of one kind, and a row for each run that was finished, the last one after all kills."""
    arguments = kind, str(models)
    seconds = calm(models / f"calm {kind} {engine}", engine, arguments)
    finished: list[Row] = []
    reference = models / f"calm {kind} local"  # of both engines: the same images whoever makes them
    if not reference.is_dir():
        calm(reference, "local", arguments)
    subject = Subject(
        lambda folder: finished.append(compared(reference, folder)),
        lambda folder: len(held(folder)),
        len(held(reference)),
        arguments,
    )
    storm = Anytime(root, engine, subject, seed, seconds)
    try:
        for _ in range(n):
            yield storm.strike()
        last = len(finished)
        while len(finished) == last:
            time.sleep(0.02)
            storm.look()
    except DeadEnd as error:
        yield {"dead end": str(error)}
    yield from ({"finished": True, **row} for row in finished)
    yield {
        "starts": storm.counts["starts"],
        "gave up": storm.counts["gave up"],
        "undisturbed seconds": round(seconds, 1),
    }

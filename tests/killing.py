"""``kill -9`` of runs and of their workers at random moments, until so many were killed and the last run has finished."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

REPO = Path(__file__).parents[1]
ENVIRONMENT = {
    "PYTHONPATH": str(REPO / "src"),
    "PYTHONUNBUFFERED": "1",  # what a killed run said must not be lost
    "RAY_ADDRESS": "",
    "RAY_worker_niceness": "0",  # Ray's 15 starves its workers on a busy machine
}
WORKER = {"local": "spawn_main", "ray": "ray::_Worker"}  # by which a worker's command line is known


@dataclass(frozen=True)
class Subject:
    """What is made while there is a storm: the arguments of ``storm.py`` behind the folder and the engine, and how it is looked at."""

    check: Callable[
        [Path], None
    ]  # raises AssertionError where a folder that is finished is not as it would be in a calm
    progress: Callable[[Path], int]
    whole: int  # progress of a finished one
    arguments: tuple[str, ...] = ()


class Storm:
    """Keeps a run going and kills it or its workers. Data sets that are finished on the way are checked; the next follows."""

    def __init__(self, root: Path, engine: str, subject: Subject, seed: int):
        self.root, self.engine, self.subject, self.random = root, engine, subject, random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.process: subprocess.Popen | None = None
        self.seen: set[psutil.Process] = set()

    @property
    def folder(self) -> Path:
        return self.root / f"made-{self.counts['data sets']}"

    def rage(self, drivers: int, workers: int) -> None:
        """Kill this many, in random order, at random moments; then let the last data set be finished."""
        victims = ["driver"] * drivers + ["worker"] * workers
        self.random.shuffle(victims)
        for victim in victims:
            self.wait_for_a_moment()
            while not self.kill(victim):
                self.wait_for_a_moment()
        last = self.counts["data sets"]
        while self.counts["data sets"] == last:
            self.look()
            time.sleep(0.02)
        left = psutil.wait_procs(self.seen, timeout=60)[1]  # Ray's own services take their time
        assert not left, left

    def wait_for_a_moment(self) -> None:
        """Soon after a worker is there, as it starts perhaps; more often when the next shard is there and work goes on."""
        before, deadline = self.progress(), time.monotonic() + 60
        awaited = self.random.random() < 0.75
        while not self.workers() or (awaited and self.progress() == before):
            assert time.monotonic() < deadline, "nothing happens"
            self.look()
            time.sleep(0.01)
        time.sleep(self.random.uniform(0, 0.3))

    def progress(self) -> tuple[Path, int]:
        return self.folder, self.subject.progress(self.folder)

    def look(self) -> None:
        """Start what does not run; check what came to its end."""
        if self.process is None:
            with open(self.root / "out", "a") as out:
                self.process = subprocess.Popen(
                    [sys.executable, REPO / "tests" / "storm.py", self.folder, self.engine, *self.subject.arguments],
                    env={**os.environ, **ENVIRONMENT},
                    stdout=out,
                    stderr=out,
                )
            self.counts["starts"] += 1
        elif self.process.poll() is not None:
            said = (self.root / "out").read_text()
            assert "Another figment is working" not in said, said
            if self.process.returncode == 0:
                self.subject.check(self.folder)
                self.counts["data sets"] += 1
            else:  # three kills in a row at one shard, or of starting workers: it says so, and is started again
                assert "3 workers, one after another, died" in said, said
                self.counts["gave up"] += 1
            self.process = None

    def workers(self) -> list[psutil.Process]:
        try:
            children = psutil.Process(self.process.pid).children(recursive=True) if self.process else []
            self.seen |= set(children)
            return [p for p in children if WORKER[self.engine] in " ".join(p.cmdline())]
        except psutil.NoSuchProcess:
            return []

    def kill(self, victim: str) -> bool:
        """Whether there was somebody to kill."""
        workers = self.workers()
        if not workers or self.process is None or self.process.poll() is not None:
            return False
        if victim == "worker":
            self.random.choice(workers).kill()
            self.counts["workers killed"] += 1
        else:
            self.kill_driver(self.process, workers)
        return True

    def kill_driver(self, process: subprocess.Popen, workers: list[psutil.Process]) -> None:
        _, there = self.progress()
        process.kill()
        process.wait()
        self.process = None
        self.counts["drivers killed in the middle"] += 0 < there < self.subject.whole
        if self.engine == "local":  # Ray ends its own in its own time
            assert not psutil.wait_procs(workers, timeout=10)[1], "a worker outlived its parent"
        self.counts["temporary files left"] += len(list(self.folder.rglob(".*.tmp")))
        self.counts["drivers killed"] += 1

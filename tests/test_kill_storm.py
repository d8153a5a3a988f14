"""Twenty-four ``kill -9`` at random moments (a hundred with STORM=full), and the data set is the one that an undisturbed run makes, row for row."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from figment import records
from figment.generate.procedural import ProceduralGenerator
from figment.shards import ShardFolder, shards_told
from folders import rows, shard_files
from storm import ROWS, SHARDS, make

pytestmark = pytest.mark.slow

REPO = Path(__file__).parents[1]
ENVIRONMENT = {
    "PYTHONPATH": str(REPO / "src"),
    "PYTHONUNBUFFERED": "1",  # what a killed run said must not be lost
    "RAY_ADDRESS": "",
    "RAY_worker_niceness": "0",  # Ray's 15 starves its workers on a busy machine
}
WORKER = {"local": "spawn_main", "ray": "ray::_Worker"}  # by which a worker's command line is known


class Storm:
    """Keeps a run going and kills it or its workers. Data sets that are finished on the way are checked; the next follows."""

    def __init__(self, root: Path, engine: str, expected: list[dict], seed: int):
        self.root, self.engine, self.expected, self.random = root, engine, expected, random.Random(seed)
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
        before, deadline = self.shards(), time.monotonic() + 60
        progress = self.random.random() < 0.75
        while not self.workers() or (progress and self.shards() == before):
            assert time.monotonic() < deadline, "nothing happens"
            self.look()
            time.sleep(0.01)
        time.sleep(self.random.uniform(0, 0.3))

    def shards(self) -> tuple[Path, int]:
        return self.folder, len(shard_files(self.folder))

    def look(self) -> None:
        """Start what does not run; check what came to its end."""
        if self.process is None:
            with open(self.root / "out", "a") as out:
                self.process = subprocess.Popen(
                    [sys.executable, REPO / "tests" / "storm.py", self.folder, self.engine],
                    env={**os.environ, **ENVIRONMENT},
                    stdout=out,
                    stderr=out,
                )
            self.counts["starts"] += 1
        elif self.process.poll() is not None:
            said = (self.root / "out").read_text()
            assert "Another figment is working" not in said, said
            if self.process.returncode == 0:
                check(self.folder, self.expected)
                self.counts["data sets"] += 1
            else:  # three kills in a row at one shard, or of starting workers: it says so, and is started again
                assert "FigmentError: 3 workers, one after another, died" in said, said
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
        workers, (_, whole) = self.workers(), self.shards()
        if not workers or self.process is None or self.process.poll() is not None:
            return False
        if victim == "worker":
            self.random.choice(workers).kill()
        else:
            self.process.kill()
            self.process.wait()
            self.process = None
            self.counts["drivers killed between the first and the last shard"] += 0 < whole < SHARDS
            if self.engine == "local":  # Ray ends its own in its own time
                assert not psutil.wait_procs(workers, timeout=10)[1], "a worker outlived its parent"
            self.counts["temporary files left"] += len(list(self.folder.rglob(".*.tmp")))
        self.counts[f"{victim}s killed"] += 1
        return True


def check(folder: Path, expected: list[dict]) -> None:
    """Row for row as expected, every file as its sidecar and the record have it, and nothing else there."""
    assert rows(folder) == expected
    found = records.read(folder)
    images = ShardFolder(found.record, ROWS)
    sidecars = [images.read_sidecar(i) for i in range(SHARDS)]
    told = {images.shard(i): sidecar.written for i, sidecar in enumerate(sidecars)}
    assert all(written.is_of(path.read_bytes()) for path, written in told.items())
    ours = {*told, *(images.sidecar(i) for i in range(SHARDS)), folder / "stage.json", folder / ".lock"}
    assert {path for path in folder.rglob("*") if path.is_file()} == ours
    assert found.data["shards"] == shards_told(sidecars)
    assert found.data["counts"] == {"attempted": len(expected), "made": len(expected), "failed": {}}


@pytest.fixture(scope="module")
def expected(tmp_path_factory) -> list[dict]:
    folder = tmp_path_factory.mktemp("calm")
    make(folder, generator=ProceduralGenerator())
    found = rows(folder)
    assert len({row["id"] for row in found}) == len(found) == SHARDS * ROWS
    return found


def rage(root: Path, expected: list[dict], engine: str, drivers: int, workers: int) -> Counter[str]:
    (root / engine).mkdir()
    storm, started = Storm(root / engine, engine, expected, seed=1), time.monotonic()
    storm.rage(drivers, workers)
    said = (root / engine / "out").read_text()
    storm.counts["workers killed at a shard"] = said.count("a worker died at shard")
    print(f"\n{engine}: {dict(storm.counts)} in {time.monotonic() - started:.0f} s")
    return storm.counts


FULL = os.environ.get("STORM") == "full"
STORMS = [("local", 22, 58), ("ray", 2, 18)] if FULL else [("local", 6, 13), ("ray", 1, 4)]  # drivers, workers


def test_kills_lose_nothing_and_double_nothing(tmp_path, expected):
    with ThreadPoolExecutor() as pool:  # both storms mostly wait
        local, ray = (f.result() for f in [pool.submit(rage, tmp_path, expected, *storm) for storm in STORMS])
    both = local + ray
    assert both["drivers killed"] + both["workers killed"] >= sum(drivers + workers for _, drivers, workers in STORMS)
    assert both["drivers killed between the first and the last shard"] >= (10 if FULL else 2)
    assert local["workers killed at a shard"] >= (20 if FULL else 4) and ray["workers killed at a shard"] >= (
        5 if FULL else 1
    )

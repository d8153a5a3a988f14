"""A dozen ``kill -9`` at random moments (a hundred with STORM=full), and the data set is the one that an undisturbed run makes, row for row."""

from __future__ import annotations

import os
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from figment import records
from figment.generate.procedural import ProceduralGenerator
from figment.shards import ShardFolder, shards_told
from folders import rows, shard_files
from killing import Storm, Subject
from storm import ROWS, SHARDS, make

pytestmark = pytest.mark.slow


def check(expected: list[dict], folder: Path) -> None:
    """Row for row as expected, every file as its sidecar and the record have it, and nothing else there."""
    assert rows(folder) == expected
    found = records.read(folder)
    images = ShardFolder(found.record, ROWS)
    sidecars = [images.read_sidecar(i) for i in range(SHARDS)]
    told = {images.shard(i): sidecar.written for i, sidecar in enumerate(sidecars)}
    assert all(written.is_of(path.read_bytes()) for path, written in told.items())
    ours = {
        *told,
        *(images.sidecar(i) for i in range(SHARDS)),
        *(folder / n for n in ("stage.json", ".lock", ".figment")),
    }
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
    subject = Subject(partial(check, expected), lambda folder: len(shard_files(folder)), SHARDS)
    storm, started = Storm(root / engine, engine, subject, seed=1), time.monotonic()
    storm.rage(drivers, workers)
    said = (root / engine / "out").read_text()
    storm.counts["workers killed at a shard"] = said.count("a worker died at shard")
    print(f"\n{engine}: {dict(storm.counts)} in {time.monotonic() - started:.0f} s")
    return storm.counts


FULL = os.environ.get("STORM") == "full"
STORMS = [("local", 22, 58), ("ray", 2, 18)] if FULL else [("local", 3, 6), ("ray", 1, 2)]  # drivers, workers


def test_kills_lose_nothing_and_double_nothing(tmp_path, expected):
    with ThreadPoolExecutor() as pool:  # both storms mostly wait
        local, ray = (f.result() for f in [pool.submit(rage, tmp_path, expected, *storm) for storm in STORMS])
    both = local + ray
    assert both["drivers killed"] + both["workers killed"] >= sum(drivers + workers for _, drivers, workers in STORMS)
    assert both["drivers killed in the middle"] >= (10 if FULL else 1)
    assert local["workers killed at a shard"] >= (20 if FULL else 2) and ray["workers killed at a shard"] >= (
        5 if FULL else 1
    )

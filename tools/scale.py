"""What a run of hundreds of thousands of shards asks of its store, and what a thousand workers in bad weather make of it. With raw rows.

    python tools/scale.py --out docs/results/scale.jsonl --page docs/results/scale.md

The store has names and hardly a byte, and counts what it is asked (``tests/names_store.py``); the cluster is simulated, on a clock of its own
(``tests/simulated.py``). What looks at folders and what hands out work is figment's own. Rows that are there are left out; ``--shards 2000 --workers 50`` looks
whether it runs. A few minutes of one core.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from calibration.rows import Rows
from figment.engines.crew import work_on
from figment.errors import FigmentError
from figment.files import as_path
from figment.generate.fill import look, read_sidecars
from figment.generate.plan import Plan
from figment.records import Record, Written
from figment.shards import ShardFolder, Sidecar, sample_row, sample_table
from figment.types import Prompt
from names_store import Shelf, shelf
from simulated import Cluster, Weather

Row = dict[str, Any]
ROWS = 256  # images a shard, as many as before a run of this size took more
REQUEST = 0.03  # seconds for a request, as stores in the same region take
FOLDER = "images"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=1_000_000, help="of the simulated run")
    parser.add_argument("--workers", type=int, default=1_000)
    parser.add_argument("--starts", type=int, nargs="*", default=[4_000, 40_000, 400_000], help="shards that are there")
    parser.add_argument("--out", type=Path, default=Path("scale.jsonl"), help="rows; those there are left out")
    parser.add_argument("--page", type=Path, help="write the page of all rows here")
    args = parser.parse_args()
    logging.disable(logging.CRITICAL)  # of tens of thousands of deaths each is a line
    rows = Rows(args.out)
    for n in args.starts:
        rows.measure("start", f"{n}", start(n))
    for name, weather in WEATHERS.items() if args.shards else ():
        rows.measure("cluster", name, cluster(args.shards, args.workers, weather))
    if args.page:
        from scaling.page import page

        args.page.write_text(page(rows.rows), encoding="utf-8")


def images_of(name: str) -> ShardFolder:
    return ShardFolder(Record(as_path(f"names://{name}/{FOLDER}"), "images", {"made": "by nobody"}, {}), ROWS)


def plan_of(n: int) -> Plan:
    """``n`` whole shards."""
    prompts = [Prompt(f"{y:03d}/0", f"class {y}", y, f"g{y}") for y in range(ROWS)]
    return Plan(prompts, n, 0, ROWS)


def planted(name: str, n: int) -> tuple[Shelf, ShardFolder]:
    """A folder of ``n`` shards by name, each vouched for; the first is a file."""
    own, images = shelf(name), images_of(name)
    images.write(0, sample_table([sample_row(plan_of(n)[0])], ["x"]))
    images.sidecar(0, partial=True).unlink()
    plant(own, images, range(n))
    own.counts.clear()
    return own, images


def plant(own: Shelf, images: ShardFolder, there: Collection[int]) -> None:
    sidecar = Sidecar(Written(50_000, "0" * 64, ROWS), {}, images.fingerprint)
    own.plant(str(images.folder).removeprefix("names://"), there, sidecar.dumped())


# ---- a start ---------------------------------------------------------------------------------------------------------


def start(n: int) -> Iterator[Row]:
    """What the start of a run asks that finds all but its last shards there, and what closing it asks."""
    own, images = planted(f"start-{n}", n - 10)
    plan, began, cpu = plan_of(n), time.monotonic(), time.process_time()
    images.check_not_stale()
    known, work = look(images, plan, there := images.listing())
    yield {
        "what": "start",
        "shards": n,
        "to make": len(work),
        "opened sidecars": len(known),
        **asked(own),
        "processor seconds": round(time.process_time() - cpu, 2),
        "here seconds": round(time.monotonic() - began, 1),
    }
    if n > 50_000:
        return  # one request a sidecar, as fewer show
    own.counts.clear()
    cpu = time.process_time()
    read_sidecars(images, sorted(there.shards), {})
    yield {"what": "close", "shards": n, **asked(own), "processor seconds": round(time.process_time() - cpu, 2)}


def asked(own: Shelf) -> Row:
    counts = {what: own.counts[what] for what in ("lists", "reads", "looks", "writes")}
    return {**counts, "at 30 ms each": round(sum(counts.values()) * REQUEST)}


# ---- a cluster -------------------------------------------------------------------------------------------------------

WEATHERS = {
    "everything at once": Weather(
        deaths=0.01,
        gone=0.02,
        errors=0.005,
        slow=0.02,
        broken=frozenset({3}),
        spoilt=frozenset({5, 1_234}),
        requests=1.6,
    ),
    "calm": Weather(),
}


def cluster(n: int, workers: int, weather: Weather) -> Iterator[Row]:
    """A run from nothing, stopped half way and started again; its shards are counted one by one."""
    own, images = shelf("cluster"), images_of("cluster")
    made, left, total = bytearray(n), n, 0.0
    for half in (True, False):
        began, cpu = time.monotonic(), time.process_time()
        plant(own, images, {i for i in range(n) if made[i]})
        own.counts.clear()
        _, work = look(images, plan_of(n), images.listing())
        started = {"start: lists": own.counts["lists"], "start: reads": own.counts["reads"]}
        started["start: processor seconds"] = round(time.process_time() - cpu, 2)
        crew, said = Cluster(workers, weather, lambda piece: piece.shard, seed=1), ""
        left = n
        try:
            for _, shard in work_on(crew, work, lambda units: None, crew.clock):
                made[shard] += 1
                left -= 1
                if half and left <= n // 2:
                    break
        except FigmentError as error:
            said = str(error)
        total += crew.now
        ideal = crew.seconds * (n // 2) / workers
        yield {
            "what": "half" if half else "rest",
            "shards": n,
            "workers": workers,
            **started,
            **{kind: crew.counts[kind] for kind in ("given", "hired", "lost", "gone", "failed", "throttled")},
            "simulated hours": round(crew.now / 3600, 1),
            "times the ideal": round(crew.now / ideal, 3),
            "here seconds": round(time.monotonic() - began, 1),
            "said": said,
        }
    yield {
        "what": "sum",
        "shards": n,
        "made once": made.count(1),
        "lost": made.count(0),
        "doubled": n - made.count(0) - made.count(1),
        "simulated hours": round(total / 3600, 1),
    }


if __name__ == "__main__":
    main()

"""Makes the lost rows of a shard again and keeps the others: the function that engines map over a damaged folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from figment import records, shards
from figment.files import read_bytes
from figment.generate.fill import Work, make_rows
from figment.generate.plan import Plan
from figment.integrity import salvage
from figment.saving import suffix
from figment.shards import ShardFolder, Sidecar
from figment.types import Generator, Images, Sample


@dataclass(frozen=True)
class Mended:
    """What a worker reports of a shard: its file, and how many of the images made again are those of before."""

    sidecar: Sidecar
    same: int
    known: int  # of how many of them it is known what they were


@dataclass(frozen=True)
class Mend:
    """Makes the lost rows of a shard and writes it with the others: what engines map over the work."""

    images: ShardFolder
    plan: Plan
    generator: Generator | None  # none is needed where no row is lost
    class_names: tuple[str, ...]
    shots: Images | None = None  # that the plan names, if it names any

    def __call__(self, work: Work, advance: Callable[[int], None] = lambda n: None) -> Mended:
        samples, path = self.plan.shard(work.shard), self.images.shard(work.shard)
        rows: dict[int, dict[str, Any]] = {}
        saved = salvage(read_bytes(path) if path.is_file() else b"")
        lost = work.rows
        if lost:
            assert self.generator is not None
            made = make_rows(samples, self.generator, lost, advance, self.shots, self.images.saving)
            rows = dict(zip(lost, made, strict=True))
        told = [(saved.digests.get(samples[i].id), rows[i]["digest"]) for i in lost]
        whole = [rows.get(i) or _kept(sample, saved.images[sample.id]) for i, sample in enumerate(samples)]
        sidecar = self.images.write(work.shard, shards.sample_table(whole, self.class_names))
        return Mended(sidecar, sum(a == b for a, b in told), sum(a is not None for a, _ in told))


def _kept(sample: Sample, image: bytes) -> dict[str, Any]:
    """The row of an image that is right; everything else in it follows from the plan."""
    row = shards.sample_row(sample)
    one = {"bytes": image, "path": f"{sample.id}{suffix(image)}"}
    return {**row, "image": one, "digest": records.digest(image), "error": ""}

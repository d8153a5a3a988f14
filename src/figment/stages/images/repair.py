"""Makes again exactly the rows of images that are lost; every image that its digest proves to be right is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from figment import records
from figment.errors import FigmentError
from figment.files import is_remote, read_bytes, write_atomic
from figment.generate.card import dataset_card
from figment.generate.fill import Work, close
from figment.generate.mend import Mend, Mended
from figment.generate.plan import Plan
from figment.generate.said import described
from figment.integrity import is_as_we_write, record_of, salvage
from figment.progress import progress
from figment.records import Record
from figment.shards import ShardFolder, Sidecar, shards_told
from figment.stages.images.verify import check_shard, grown, is_of, strangers
from figment.stages.plans import images_record, plan, shard_folder
from figment.stages.stage import Look, Verification

if TYPE_CHECKING:
    from figment.context import Context


def repair_images(ctx: Context) -> Iterator[str]:
    """What was done, a line each. Raises FigmentError where images are lost that cannot be made as they were."""
    folder = ctx.run.images
    found = records.read(folder)
    record = record_of(folder, found) or images_record(ctx)  # nothing may be left that says what it was
    _check_same_recipe(ctx, record)
    own = grown(plan(ctx, ctx.prompts), found)
    g = ctx.recipe.generate
    scan = Scan(ShardFolder(record, g.shard_size, g.saving), own, ctx.task.class_names)
    yield from _set_aside(scan, ctx.run.set_aside / "images")
    yield from _mend(ctx, scan)
    for index in scan.unvouched:
        scan.vouch(index)
        yield f"images: wrote the sidecar of {scan.images.shard(index).name} anew"
    before = records.read(folder)
    description = before.data.get("generator") or described(ctx.generator)
    facts = {k: v for k, v in before.data.items() if k not in (*records.OWN, "shards", "counts", "generator")}
    close(
        scan.images,
        scan.images.listing(),
        scan.right,
        description,
        lambda facts: dataset_card(ctx.recipe, facts),
        **facts,
    )
    if records.read(folder).data != before.data:
        yield f"images: wrote {records.NAME} anew"


def _check_same_recipe(ctx: Context, record: Record) -> None:
    look = Look(ctx.run, ctx.recipe, Verification(ctx.run.folder))
    if not is_of(look, record):
        text = look.found.findings[0].text
        raise FigmentError(f"{record.folder}: {text}. Put the right {ctx.run.recipe.name} or prompts back first.")


class Scan:
    """What is right and what is lost in a folder of images."""

    def __init__(self, images: ShardFolder, plan: Plan, class_names: list[str]):
        self.images, self.plan, self.class_names = images, plan, class_names
        self.right: dict[int, Sidecar] = {}
        self.unvouched: list[int] = []  # right, and nothing says so
        self.lost: dict[int, tuple[int, ...]] = {}  # shards to write, and their rows to make
        self.foreign: list[int] = []
        self.sums: dict[Path, str] = {}  # of the files that are not right
        self.vouched = self._sidecars_are_right()
        for index in range(plan.n_shards):
            self.look(index)

    def _sidecars_are_right(self) -> bool:
        """Whether the record has the checksum of the sidecars that are there: then what differs from one is damaged."""
        there = [self.images.read_sidecar(i) for i in sorted(self.images.listing().vouched)]
        told = records.read(self.images.folder).data.get("shards")
        return None not in there and shards_told([s for s in there if s]) == told

    def look(self, index: int) -> None:
        path, samples = self.images.shard(index), self.plan.shard(index)
        if not path.is_file():
            self.lost[index] = tuple(range(len(samples)))
            return
        data, sidecar = read_bytes(path), self.images.read_sidecar(index)
        file = check_shard(data, self.images, sidecar, index, self.plan, self.class_names)
        if file.problems and sidecar is not None and not self.vouched:  # perhaps it is the sidecar that is wrong
            again = check_shard(data, self.images, None, index, self.plan, self.class_names)
            file, sidecar = (again, None) if not again.problems else (file, sidecar)
        if not file.problems and sidecar is None and not is_as_we_write(file, data):
            file.problems.append("holds the right rows, but not in the bytes that would be written here")
        if not file.problems:
            if sidecar is None:
                self.unvouched.append(index)
            else:
                self.right[index] = sidecar
            return
        if file.foreign:
            self.foreign.append(index)
        self.sums[path] = hashlib.sha256(data).hexdigest()
        kept = {} if file.foreign else salvage(data).images
        self.lost[index] = tuple(i for i, s in enumerate(samples) if s.id not in kept)

    def vouch(self, index: int) -> None:
        sidecar = self.images.adopt(index)
        assert sidecar is not None
        self.right[index] = sidecar

    def misplaced(self) -> dict[Path, Path]:
        """File -> the shard that it is, for those under another name; their checksums tell."""
        wanted = {i: self.images.read_sidecar(i) for i in self.lost}
        targets = {s.written.sha256: self.images.shard(i) for i, s in wanted.items() if s is not None}
        for path in strangers(self.images):
            self.sums[path] = hashlib.sha256(read_bytes(path)).hexdigest()
        moves = {targets[own]: path for path, own in self.sums.items() if own in targets}
        return {path: target for target, path in moves.items() if path != target}

    def again(self, indices: list[int]) -> None:
        """Look at shards once more, which were put in place."""
        for index in indices:
            del self.lost[index]
            self.foreign = [i for i in self.foreign if i != index]
            self.look(index)


def _set_aside(scan: Scan, aside: Path) -> Iterator[str]:
    """Put shards that lie in another's place back into their own; move away what is of another run and in the place of a shard.

    Files under names of their own stay: they are nobody's but the user's.
    """
    moves = scan.misplaced()
    _put_back(dict(moves))
    for source, target in moves.items():
        yield f"images: put {target.name} back, which lay in {source.name}"
    for path in [scan.images.shard(i) for i in scan.foreign if scan.images.shard(i) not in moves.values()]:
        yield f"images: {path.name} is not of these images; moved it to {move(path, aside)}"
    scan.again([int(p.name[6:-8]) for p in moves.values()])


def _mend(ctx: Context, scan: Scan) -> Iterator[str]:
    work = [Work(i, lost) for i, lost in sorted(scan.lost.items())]
    if not work:
        return
    generator = None
    if any(w.rows for w in work):
        _check_same(scan.images.record, shard_folder(ctx).record)
        generator = ctx.generator
    before = {w.shard: scan.images.read_sidecar(w.shard) for w in work}
    job = Mend(scan.images, scan.plan, generator, tuple(ctx.task.class_names), ctx.starts)
    with progress("repair", sum(len(w.rows) for w in work)) as advance:
        for w, done in ctx.engine(job, work, advance):
            scan.right[w.shard] = done.sidecar
            yield f"images: {_said(scan, w, done, before[w.shard])}"


def _said(scan: Scan, work: Work, done: Mended, before: Sidecar | None) -> str:
    path, lost = scan.images.shard(work.shard), len(work.rows)
    what = (
        f"re-made {lost:,} of {done.sidecar.rows:,} rows in {path.name}"
        if lost
        else f"wrote {path.name} anew, no image had to be made again"
    )
    if before is not None and before.written == done.sidecar.written:
        return f"{what}; the file is the same as before, byte for byte"
    if done.sidecar.failed:
        return (
            f"{what}; {sum(done.sidecar.failed.values()):,} of its rows failed, and will be tried again by the next run"
        )
    if lost and done.known:
        if done.same == done.known:
            return f"{what}; as far as the old file tells ({done.known:,} rows), the images are the same as before, byte for byte"
        return f"{what}; {done.known - done.same:,} images are not the same as before in every bit: the generator on this machine rounds differently"
    if before and lost:
        return f"{what}; the file is not the same as before in every byte: this machine's generator rounds differently, or the shard was edited"
    return what


def _check_same(old: Record, now: Record) -> None:
    """Raise FigmentError where what would be made now is not what is there."""
    if old.fingerprint != now.fingerprint:
        changes = records.what_changed(old.identity(), now.identity())
        raise FigmentError(
            f"{old.folder} cannot be made again from its recipe: {changes}. Put back what it was made with: the recipe, the model's files."
        )


def _put_back(moves: dict[Path, Path]) -> None:
    """Copy files over one another, each to its target, also in circles; two of them are in memory at a time."""
    while moves:
        source = next(iter(moves))
        data, target = read_bytes(source), moves.pop(source)
        while target in moves:
            following, then = read_bytes(target), moves.pop(target)
            write_atomic(target, data)
            data, target = following, then
        write_atomic(target, data)


def move(path: Path, folder: Path) -> Path:
    """Move a file away, to a name that is free."""
    target, n = folder / path.name, 1
    while target.exists():
        target, n = folder / f"{path.name}.{n}", n + 1
    if is_remote(path):
        cast(Any, path).fs.mv(cast(Any, path).path, cast(Any, target).path)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    return target

"""Makes again exactly what is missing or broken in a run's folder; everything that is right stays as it is."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pyarrow as pa

from figment import machine, store
from figment.engines import Engine, Local
from figment.errors import FigmentError
from figment.files import as_path, is_remote, leftovers, lock, read_bytes, write_atomic
from figment.generate.card import dataset_card
from figment.generate.mend import Mend, Mended
from figment.generate.plan import Plan
from figment.generate.stage import Work
from figment.integrity import Marker, check_file, check_plan, is_as_we_write, read_marker, salvage, stage_of
from figment.progress import progress
from figment.run import Walk
from figment.store import Stage, Written
from figment.types import Generator, Prompt
from figment.verify import (
    Verification,
    cached,
    check_cached,
    check_shard,
    is_images_folder,
    is_of,
    is_result,
    model_problems,
    recipe_of,
    result_lines,
    runs_of,
    strangers,
)

REPEATABLE = ("templates", "attributes")  # writers of prompts that write the same twice


def repair(folder: Path | str, *, generator: Generator | None = None, engine: Engine | None = None) -> list[str]:
    """Mend a run and its arms; what was done, a line each, and nothing where everything was right.

    Images that their digests prove to be right are kept, whatever happened to the file around them. The others, and missing
    shards, are made again, by the recipe's generator (or ``generator``) on ``engine``, in the batches in which they were made
    the first time. Rows that failed are left to the next run. Files that are not of the run are moved to ``set-aside``;
    verdicts, features and the classifier are left to the next run too. Raises FigmentError where the folder has no recipe.
    """
    folder = as_path(folder)
    if is_images_folder(folder):
        raise FigmentError(
            f"{folder} holds images without the recipe they were made with, so they cannot be made again. Give the folder of the run,"
            " which has a recipe.yaml; for images made from Python, call figment.generate_images again after moving away"
            " the shards that figment verify names."
        )
    said = []
    for run in runs_of(folder):
        with lock(run):
            own = "" if run == folder else f"{run.relative_to(folder)}: "
            said += [
                own + line for line in _Repair(Walk(recipe_of(run), run, generator, folder / "features"), engine)()
            ]
    return said


class _Repair:
    """One run's."""

    def __init__(self, walk: Walk, engine: Engine | None):
        self.walk, self.run, self.engine = walk, walk.out, engine or Local()

    def __call__(self) -> Iterator[str]:
        yield from self._leftovers()
        if (self.run / "images").is_dir() or (self.run / "prompts").is_dir():
            yield from self._prompts()
        if (self.run / "images").is_dir():
            yield from self._images()
        yield from self._features()
        yield from self._model()

    def _leftovers(self) -> Iterator[str]:
        folders = [self.run / part for part in ("", "prompts", "images", "model")]
        folders += [*(self.run / "scores").glob("*"), *(self.run / "features").glob("*")]
        old = [path for folder in folders for path in leftovers(folder)]
        for path in old:
            path.unlink(missing_ok=True)
        if old:
            yield f"removed {len(old)} files that killed writers left behind"

    # ---- prompts -----------------------------------------------------------------------------------------------------

    def _prompts(self) -> Iterator[str]:
        folder = self.run / "prompts"
        marker = read_marker(folder)
        stage, version = stage_of(folder, marker)
        _check_format(folder, marker, version)
        stage = stage or self.walk.prompts_stage()  # nothing is left that says what it was
        path = stage.shard(0)
        recorded = marker.recorded(path)
        problems = ["is not there"]
        if path.is_file():
            problems = check_file(read_bytes(path), stage.fingerprint, store.PROMPT_COLUMNS, recorded).problems
        if problems:
            _same(stage, self.walk.prompts_stage())
            yield f"prompts: {self._write_prompts(stage, recorded)}"
        elif recorded is None or marker.problem:
            _finish(stage, marker, {"prompts": len(store.read_shard(path))}, {0: store.checksum(path)})
            yield "prompts: wrote stage.json anew"

    def _write_prompts(self, stage: Stage, recorded: Written | None) -> str:
        kind = self.walk.recipe.prompts.kind
        prompts = None if kind in REPEATABLE else self._prompts_of_images()
        if prompts is not None:
            how = f"took them from the images, since {kind} may not write the same twice"
            stage.write(0, store.prompt_table(prompts, self.walk.task.class_names))
            stage.finish({0: store.checksum(stage.shard(0))}, counts={"prompts": len(prompts)})
        else:
            how = "wrote them anew"
            stage.marker.unlink(missing_ok=True)
            self.walk.write_prompts(stage)
            if not self._fit_the_images(store.read_prompts(stage.read())):
                stage.marker.unlink()
                stage.shard(0).unlink()
                raise FigmentError(
                    f"The prompts in {stage.folder} are damaged and cannot be made again: {kind} now writes others, and the images do not hold"
                    " all of them. Put the folder back from a copy of yours, or run the recipe in another folder."
                    " The images that are there can still be read."
                )
        return how + (
            "; they are the same as before, byte for byte" if store.checksum(stage.shard(0)) == recorded else ""
        )

    def _prompts_of_images(self) -> list[Prompt] | None:
        """The prompts that the images were made from; None where these do not hold all that were drawn."""
        prompts: dict[str, Prompt] = {}
        for _, table in self._sound_images():
            for row in table.select(["prompt_id", "prompt", "label", "group"]).to_pylist():
                own = Prompt(row["prompt_id"], row["prompt"], row["label"], row["group"])
                prompts.setdefault(own.id, own)
        plan = self.walk.plan(list(prompts.values()))
        ordered = [prompt for own in plan.classes for prompt in own]
        complete = len(plan.classes) == len(self.walk.task.class_names)
        return ordered if complete and self._fit_the_images(ordered) else None

    def _fit_the_images(self, prompts: list[Prompt]) -> bool:
        """Whether every shard of images that can be read is what these prompts lead to."""
        plan = self.walk.plan(prompts)
        return all(i < plan.n_shards and not check_plan(table, plan.shard(i)) for i, table in self._sound_images())

    def _sound_images(self) -> Iterator[tuple[int, pa.Table]]:
        """The shards that are as they were written, without the images."""
        folder = self.run / "images"
        marker = read_marker(folder)
        stage, _ = stage_of(folder, marker)
        for i in range(stage.n_shards if stage else 0):
            assert stage is not None
            path = stage.shard(i)
            if path.is_file():
                file = check_shard(read_bytes(path), stage, marker, i)
                if file.table is not None and not file.problems:
                    yield i, file.table.drop(["image"])

    # ---- images ------------------------------------------------------------------------------------------------------

    def _images(self) -> Iterator[str]:
        folder = self.run / "images"
        marker = read_marker(folder)
        stage, version = stage_of(folder, marker)
        _check_format(folder, marker, version)
        prompts = store.read_prompts(store.read_shard(self.run / "prompts" / "train-00000-of-00001.parquet"))
        plan = self.walk.plan(prompts)
        if stage is None:
            stage, plan = self.walk.images_stage(prompts)  # nothing left that says what it was
        wrong = Verification(self.run)
        if not is_of(wrong, stage, self.walk.recipe, folder, "images"):
            raise FigmentError(f"{folder}: {wrong.findings[0].text}. Put the right recipe.yaml or prompts back first.")
        scan = _Scan(stage, marker, plan, self.walk.task.class_names)
        yield from self._set_aside(scan)
        yield from self._mend(scan, prompts)
        failed = sum(scan.failed.values(), Counter[str]())
        attempted = sum(w.rows for w in scan.written.values())
        counts = {"attempted": attempted, "made": attempted - failed.total(), "failed": dict(failed)}
        recorded = {i: marker.recorded(stage.shard(i)) for i in range(stage.n_shards)}
        if marker.problem or marker.record.get("counts") != counts or recorded != scan.written:
            _finish(stage, marker, counts, scan.written, self._description(marker))
            yield "images: wrote stage.json anew"
        card = folder / "README.md"
        if scan.changed or not card.is_file():
            write_atomic(card, dataset_card(self.walk.recipe, folder).encode())

    def _set_aside(self, scan: _Scan) -> Iterator[str]:
        """Put shards that lie in another's place back into their own; move away what is of another run."""
        moves = scan.misplaced()
        _put_back(dict(moves))
        for source, target in moves.items():
            yield f"images: put {target.name} back, which lay in {source.name}"
        foreign = [scan.stage.shard(i) for i in scan.foreign if scan.stage.shard(i) not in moves.values()]
        for path in [p for p in strangers(scan.stage) if p not in moves] + foreign:
            yield f"images: {path.name} is not of these images; moved it to {_move(path, self.run / 'set-aside' / 'images')}"
        for path in strangers(scan.stage):
            path.unlink()  # a copy of a shard that is in its place now
        scan.again([int(p.name.split("-")[1]) for p in moves.values()])

    def _mend(self, scan: _Scan, prompts: list[Prompt]) -> Iterator[str]:
        work = [Work(i, lost) for i, lost in sorted(scan.lost.items())]
        if not work:
            return
        generator = None
        if any(w.rows for w in work):
            _same(scan.stage, self.walk.images_stage(prompts)[0])
            generator = self.walk.generator
        job = Mend(scan.stage, scan.plan, generator, tuple(self.walk.task.class_names), self.walk.starts)
        with progress("repair", sum(len(w.rows or ()) for w in work)) as advance:
            for w, done in self.engine(job, work, advance):
                scan.written[w.shard], scan.failed[w.shard] = done.written, done.failed
                yield f"images: {_said(scan, w, done)}"

    def _description(self, marker: Marker) -> Mapping[str, Any]:
        """How the generator describes itself, where the marker does not know it any more."""
        if marker.record:
            return {}
        describe: Callable[[], dict[str, Any]] = getattr(self.walk.generator, "describe", dict)
        return {"generator": describe(), **machine.Meter().record()}

    # ---- what is made of the images ----------------------------------------------------------------------------------

    def _features(self) -> Iterator[str]:
        for path in cached(self.run / "features"):
            if check_cached(path):
                path.unlink()
                yield f"features: removed the damaged {path.name}; it is a cache, and the next run fills it"

    def _model(self) -> Iterator[str]:
        marker = self.run / "model" / "stage.json"
        if not marker.is_file() or not list(model_problems(self.run)):
            return
        lines = result_lines(self.run)
        if not all(is_result(line) for line in lines):
            old = _move(self.run / "results.jsonl", self.run / "set-aside")
            good = "".join(f"{line}\n" for line in lines if line.strip() and is_result(line))
            write_atomic(self.run / "results.jsonl", good.encode())
            yield f"results.jsonl: took out the lines that cannot be read; the old file is {old}"
        marker.unlink()
        yield f"model: the classifier or its numbers are damaged; the next run makes them again: figment run {self.run}"


# ---- shards ----------------------------------------------------------------------------------------------------------


class _Scan:
    """What is right and what is lost in a folder of images."""

    def __init__(self, stage: Stage, marker: Marker, plan: Plan, class_names: list[str]):
        self.stage, self.marker, self.plan, self.class_names = stage, marker, plan, class_names
        self.written: dict[int, Written] = {}  # shards that are right
        self.failed: dict[int, Counter[str]] = {}
        self.lost: dict[int, tuple[int, ...]] = {}  # shards to write, and their rows to make
        self.foreign: list[int] = []
        self.sums: dict[Path, str] = {}  # of the files that are not right
        for index in range(stage.n_shards):
            self._look(index)
        self.changed = bool(self.lost)

    def _look(self, index: int) -> None:
        path, samples = self.stage.shard(index), self.plan.shard(index)
        if not path.is_file():
            self.lost[index] = tuple(range(len(samples)))
            return
        data = read_bytes(path)
        file = check_shard(data, self.stage, self.marker, index, self.plan, self.class_names)
        if not file.problems and (self.marker.record or is_as_we_write(file, data)):
            assert file.table is not None and file.written is not None
            self.written[index] = file.written
            self.failed[index] = Counter(e for e in file.table["error"].to_pylist() if e)
            return
        if file.foreign:
            self.foreign.append(index)
        self.sums[path] = hashlib.sha256(data).hexdigest()
        kept = {} if file.foreign else salvage(data).images
        self.lost[index] = tuple(i for i, s in enumerate(samples) if s.id not in kept)

    def misplaced(self) -> dict[Path, Path]:
        """File -> the shard that it is, for those under another name; their checksums tell."""
        wanted = {self.marker.recorded(self.stage.shard(i)): self.stage.shard(i) for i in self.lost}
        targets = {recorded.sha256: path for recorded, path in wanted.items() if recorded is not None}
        for path in strangers(self.stage):
            self.sums[path] = hashlib.sha256(read_bytes(path)).hexdigest()
        moves = {targets[own]: path for path, own in self.sums.items() if own in targets}
        return {path: target for target, path in moves.items() if path != target}

    def again(self, indices: list[int]) -> None:
        """Look at shards once more, which were put in place."""
        for index in indices:
            del self.lost[index]
            self.foreign = [i for i in self.foreign if i != index]
            self._look(index)


def _said(scan: _Scan, work: Work, done: Mended) -> str:
    path, lost = scan.stage.shard(work.shard), len(work.rows or ())
    recorded = scan.marker.recorded(path)
    what = (
        f"re-made {lost:,} of {done.written.rows:,} rows in {path.name}"
        if lost
        else f"wrote {path.name} anew, no image had to be made again"
    )
    if recorded == done.written:
        return f"{what}; the file is the same as before, byte for byte"
    if done.failed:
        return f"{what}; {done.failed.total():,} of its rows failed, and will be tried again by the next run"
    if lost and done.known:
        if done.same == done.known:
            return f"{what}; as far as the old file tells ({done.known:,} rows), the images are the same as before, byte for byte"
        return f"{what}; {done.known - done.same:,} images are not the same as before in every bit: the generator on this machine rounds differently"
    if recorded and lost:
        return f"{what}; the file is not the same as before in every byte: this machine's generator rounds differently, or the shard was edited"
    return what


# ---- files -----------------------------------------------------------------------------------------------------------


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


def _move(path: Path, folder: Path) -> Path:
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


def _finish(
    stage: Stage,
    marker: Marker,
    counts: Mapping[str, Any],
    written: Mapping[int, Written],
    more: Mapping[str, Any] = {},
) -> None:
    """Write stage.json with what an old one that can be trusted knew besides."""
    own = ("format", "fingerprint", "settings", "inputs", "shards", "counts", "files", "finished")
    known = {key: value for key, value in marker.record.items() if key not in own}
    stage.marker.unlink(missing_ok=True)
    stage.finish(written, counts=counts, **known, **more)


def _same(old: Stage, now: Stage) -> None:
    """Raise FigmentError where what would be made now is not what is there."""
    if old.fingerprint != now.fingerprint:
        changes = store.what_changed(old.identity(), now.identity())
        raise FigmentError(
            f"{old.folder} cannot be made again from its recipe.yaml: {changes}. Put back what it was made with: the recipe, the model's files."
        )


def _check_format(folder: Path, marker: Marker, version: int | None = None) -> None:
    version = version or marker.other_format
    if version is not None and version != store.FORMAT_VERSION:
        raise FigmentError(
            f"{folder} is in format version {version}; this figment knows version {store.FORMAT_VERSION} and leaves it as it is."
            " Mend it with the figment that wrote it, or run the recipe in another folder."
        )

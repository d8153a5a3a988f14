"""Prompts to a folder of labelled images, one shard after another, each from scratch if need be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from figment import machine
from figment.engines import Engine, Local
from figment.errors import FigmentError
from figment.files import as_path, leftovers, read_json
from figment.generate.plan import Plan, ids_by_class
from figment.generate.real_guidance import crop_to
from figment.images_in import ShardImages, open_shards
from figment.progress import progress
from figment.store import Stage, Written, fingerprint, read_shard, sample_rows, sample_table
from figment.types import Generator, Images, Prompt, Sample
from figment.words import printable

NOT_FINITE = "the model gave NaN or infinite pixels"
READERS = 8  # shards looked at together when a run is taken up: waiting, mostly, where they are remote
ENCODERS = 4  # threads that compress images while the next ones are made


def generate_images(
    prompts: Sequence[Prompt],
    generator: Generator,
    folder: Path | str,
    class_names: Sequence[str],
    *,
    images_per_class: int,
    seed: int = 0,
    shard_size: int = 256,
    engine: Engine | None = None,
    shots: Images | None = None,
) -> ShardImages:
    """Make every image that is not there yet and return them all; see :func:`fill`.

    ``shots`` are the real images that the images start from, each from one of its class, for a generator with real
    guidance. Raises FigmentError where ``folder`` holds images of other prompts, other shots, another generator or other
    numbers, and where a class has no shot.
    """
    plan = Plan(prompts, images_per_class, seed, shard_size, None if shots is None else ids_by_class(shots))
    settings = {"images_per_class": images_per_class, "shard_size": shard_size, "seed": seed}
    inputs = {"prompts": _prompts_fingerprint(prompts), "generator": generator.fingerprint}
    if shots is not None:
        inputs["shots"] = shots_fingerprint(shots)
    stage = images_stage(folder, plan, settings, inputs)
    fill(stage, plan, generator, class_names, engine=engine, shots=shots)
    return open_shards(stage.folder)[0]


def images_stage(folder: Path | str, plan: Plan, settings: Mapping[str, Any], inputs: Mapping[str, str]) -> Stage:
    """The stage that :func:`fill` fills, to look at before anything is made."""
    return Stage(as_path(folder), plan.n_shards, settings, inputs)


def fill(
    stage: Stage,
    plan: Plan,
    generator: Generator,
    class_names: Sequence[str],
    *,
    engine: Engine | None = None,
    part: tuple[int, int] | None = None,
    shots: Images | None = None,
) -> None:
    """Make what a stage lacks: shards that are not there, and rows that failed before. Finished shards are kept.

    ``engine`` says where shards are worked on, by default in this process; for other processes ``generator`` must survive
    pickling. ``part`` ``(i, n)`` makes every n-th shard from the i-th, counted from 0; whoever then finds nothing missing
    closes the stage. The rows are the same whatever engine makes them, in whatever parts. Memory is that of the shards
    being worked on. ``shots`` are the images whose ids the plan has, if it has any.

    Raises FigmentError where the folder holds images of another stage, and where nothing can be made at all.
    """
    if (plan.shots is None) != (shots is None):
        raise ValueError("a plan with shots is filled with their images, and one without is filled without")
    stage.check_not_stale()
    started = machine.Meter()
    tally = _Tally()
    description: Mapping[str, Any] = {}
    work = _missing_work(stage, part, tally)
    if work:
        n = sum(len(plan.positions(w.shard) if w.rows is None else w.rows) for w in work)
        with progress("generate", n) as advance:
            job = ShardJob(stage, plan, generator, tuple(class_names), shots)
            for w, done in (engine or Local())(job, work, advance):
                tally.add(w.shard, done)
                description = done.generator
    if stage.missing():
        return
    if part is None:
        for path in leftovers(stage.folder):
            path.unlink(missing_ok=True)
    else:
        tally = _Tally()  # of the other parts too
        _missing_work(stage, None, tally)
    if not work and stage.is_complete() and read_json(stage.marker).get("counts") == tally.counts():
        return
    description = description or _description(generator)
    stage.finish(tally.written, counts=tally.counts(), generator=description, **started.record())


# ---- what there is to do ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Work:
    """A shard to make, or (``rows``) some rows of one that is there to make again."""

    shard: int
    rows: tuple[int, ...] | None = None

    def __str__(self) -> str:
        return f"shard {self.shard}" + ("" if self.rows is None else f" ({len(self.rows)} rows of it)")


@dataclass(frozen=True)
class Done:
    """What a worker reports of a shard: its file, and how many rows failed, by reason."""

    written: Written
    failed: Mapping[str, int]
    generator: Mapping[str, Any]  # how it describes itself, where it was


class _Tally:
    """Counts of shards as they are found or made; their images are never in one memory."""

    def __init__(self) -> None:
        self.written: dict[int, Written] = {}  # by shard; those found on disk are not in it
        self.failed: dict[int, Mapping[str, int]] = {}
        self.rows: dict[int, int] = {}

    def add(self, shard: int, done: Done) -> None:
        self.written[shard] = done.written
        self.found(shard, done.written.rows, done.failed)

    def found(self, shard: int, rows: int, failed: Mapping[str, int]) -> None:
        self.rows[shard], self.failed[shard] = rows, failed

    def counts(self) -> dict[str, Any]:
        attempted, failed = sum(self.rows.values()), Counter[str]()
        for reasons in self.failed.values():
            failed.update(reasons)
        return {"attempted": attempted, "made": attempted - failed.total(), "failed": dict(failed)}


def _missing_work(stage: Stage, part: tuple[int, int] | None, tally: _Tally) -> list[Work]:
    """The shards that are not there and the rows that failed; what is there is counted."""
    first, step = part or (0, 1)
    missing, own = set(stage.missing()), range(first, stage.n_shards, step)
    there = [shard for shard in own if shard not in missing]
    work = [Work(shard) for shard in own if shard in missing]
    with ThreadPoolExecutor(READERS) as pool:
        for shard, errors in zip(there, pool.map(partial(_errors_of, stage), there), strict=True):
            tally.found(shard, len(errors), Counter(e for e in errors if e))
            if any(errors):
                work.append(Work(shard, tuple(i for i, error in enumerate(errors) if error)))
    return sorted(work, key=lambda w: w.shard)


def _errors_of(stage: Stage, shard: int) -> list[str]:
    return read_shard(stage.shard(shard), ["error"])["error"].to_pylist()


# ---- one shard -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ShardJob:
    """Makes a shard and writes it: the function that engines map over the work. Survives pickling if its parts do."""

    stage: Stage
    plan: Plan
    generator: Generator
    class_names: tuple[str, ...]
    shots: Images | None = None

    def __call__(self, work: Work, advance: Callable[[int], None] = lambda n: None) -> Done:
        samples = self.plan.shard(work.shard)
        rows = make_rows(samples, self.generator, work.rows, advance, self.shots)
        if work.rows is None:
            self._check_some_succeed(rows)
            table = sample_table(rows, self.class_names)
        else:
            before = read_shard(self.stage.shard(work.shard)).to_pylist()
            for row, new in zip(work.rows, rows, strict=True):
                before[row] = new
            table = sample_table(before, self.class_names)
        written = self.stage.write(work.shard, table)
        return Done(written, Counter(e for e in table["error"].to_pylist() if e), _description(self.generator))

    def _check_some_succeed(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Raise FigmentError where the first shard holds not a single image: then it is not the samples that are wrong."""
        errors = Counter(row["error"] for row in rows if row["error"])
        if errors.total() == len(rows) and not any(self.stage.folder.glob("train-*.parquet")):
            raise FigmentError(
                f"None of {len(rows)} images could be made: {errors.most_common(1)[0][0]}. "
                "With NaN pixels, generate.dtype: float32 often helps; otherwise check generate.model and its settings."
            )


def make_rows(
    samples: Sequence[Sample],
    generator: Generator,
    wanted: Sequence[int] | None = None,
    advance: Callable[[int], None] = lambda n: None,
    shots: Images | None = None,
) -> list[dict[str, Any]]:
    """The rows of a shard, or the ``wanted`` ones of them: each with its image, or with the reason there is none.

    A sample is always made in the batch in which the whole shard has it, so that a row made again is the row that would
    have been, to the last bit. A sample that fails does not take others with it. Raises FigmentError where one of the
    ``shots`` that samples start from is not there or cannot be read, and for what the generator cannot do at all.
    """
    maker = _Maker(generator, shots)
    chosen = range(len(samples)) if wanted is None else wanted
    futures: list[Future[list[dict[str, Any]]]] = []
    start = 0
    with ThreadPoolExecutor(ENCODERS) as pool:
        while start < len(samples):
            # 0: the generator has not chosen yet. It may also take less at a time from now on, if memory ran out.
            batch = samples[start : start + (getattr(generator, "batch_size", 0) or len(samples))]
            own = [i - start for i in chosen if start <= i < start + len(batch)]
            start += len(batch)
            if own:
                done = _attempt_batch(batch, own, maker)
                futures.append(pool.submit(sample_rows, done))
                advance(len(own))
                if len(futures) > ENCODERS:
                    futures[-ENCODERS - 1].result()  # pixels do not pile up where encoding is the slower part
        return [row for future in futures for row in future.result()]


class _Maker:
    """Calls the generator with what it wants to know of samples. Each start image is read and cut to size once."""

    def __init__(self, generator: Generator, shots: Images | None):
        self.generator, self.shots = generator, shots
        self.cut: dict[str, np.ndarray] = {}  # id -> uint8 (height, width, 3)

    def __call__(self, samples: Sequence[Sample]) -> list[np.ndarray | None]:
        ask: Callable[..., list[np.ndarray | None]] = self.generator
        more: dict[str, Any] = {}
        if getattr(self.generator, "wants_labels", False):
            more["labels"] = [s.label for s in samples]
        if self.shots is not None:
            more["init"] = np.stack([self._start(s.init) for s in samples])
        return ask([s.prompt for s in samples], [s.seed for s in samples], **more)

    def _start(self, id: str) -> np.ndarray:
        assert self.shots is not None
        if id not in self.cut:
            if id not in self._places:
                raise FigmentError(
                    f"The real image {id!r}, from which images start, is not among those that were given. Give the images that"
                    " the first images were made with."
                )
            self.cut[id] = crop_to(self.shots.load([self._places[id]])[0], *self._size)
        return self.cut[id]

    @cached_property
    def _places(self) -> dict[str, int]:
        assert self.shots is not None
        return {id: i for i, id in enumerate(self.shots.ids)}

    @cached_property
    def _size(self) -> tuple[int, int]:
        size: Callable[[], tuple[int, int]] | None = getattr(self.generator, "size", None)
        if size is None:
            raise FigmentError(
                f"The {type(self.generator).__name__} cannot start from real images: it takes no start images (init), or has no"
                " size() to cut them to. Leave real guidance out, or take a generator that can, such as kind: diffusers."
            )
        return size()


def _attempt_batch(batch: Sequence[Sample], wanted: Sequence[int], maker: _Maker) -> list[Sample]:
    try:
        images = maker(batch)
        made = [_finished(s, image) for s, image in zip(batch, images, strict=True)]
        return [made[i] for i in wanted]
    except FigmentError:
        raise
    except Exception:
        return [_attempt_one(batch[i], maker) for i in wanted]


def _attempt_one(sample: Sample, maker: _Maker) -> Sample:
    try:
        return _finished(sample, maker([sample])[0])
    except FigmentError:
        raise
    except Exception as error:
        return _finished(sample, None, printable(f"{type(error).__name__}: {error}"[:300]))


def _finished(sample: Sample, image: np.ndarray | None, error: str = NOT_FINITE) -> Sample:
    return replace(sample, image=image, error=None if image is not None else error)


def _description(generator: Generator) -> dict[str, Any]:
    describe: Callable[[], dict[str, Any]] = getattr(generator, "describe", dict)
    return describe()


def shots_fingerprint(shots: Images) -> str:
    """What the images' stage has as its input ``shots``: of what the rows name, and of what the images show."""
    return fingerprint([list(shots.ids), shots.labels.tolist(), list(shots.digests)])


def _prompts_fingerprint(prompts: Sequence[Prompt]) -> str:
    return fingerprint([(p.id, p.text, p.label, p.group) for p in prompts])

"""Prompts to a folder of labelled images, one shard after another, each from scratch if need be."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from figment import claims, machine, records
from figment.engines import Engine, Later, Local
from figment.errors import FigmentError, NothingMade
from figment.files import AGAIN, as_path, is_remote, leftovers, remove, write_atomic
from figment.generate.plan import Plan, ids_by_class
from figment.generate.said import described
from figment.images_in import ShardImages, open_shards
from figment.layout import image_folders
from figment.progress import progress
from figment.records import Record, Written, fingerprint
from figment.saving import PNG, Format, Saving
from figment.shards import Listing, ShardFolder, Sidecar, read_shard, sample_row, sample_table, shards_told
from figment.types import Generator, Images, Prompt, Sample
from figment.words import printable

log = logging.getLogger(__name__)

NOT_FINITE = "the model gave NaN or infinite pixels"
READERS = 32  # sidecars looked at together when a run is taken up: waiting, mostly, where they are remote
TELLING = 6  # rows of a shard that do not all fail by chance
CARD = "README.md"


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
    save_size: int | None = None,
    format: Format = "png",
) -> ShardImages:
    """Make every image that is not there yet and return them all; see :func:`fill`.

    A larger ``images_per_class`` than before adds to the images that are there; a smaller one takes the first of them.
    ``shots`` are the real images that the images start from, each from one of its class, for a generator with real
    guidance. ``save_size`` and ``format`` are those of :class:`figment.saving.Saving`. Raises FigmentError where ``folder`` holds images of other prompts, other shots or another generator, or
    files of somebody else under names that this writes to, and where a class has no shot.
    """
    plan = Plan(prompts, images_per_class, seed, shard_size, None if shots is None else ids_by_class(shots))
    settings = {"shard_size": shard_size, "seed": seed, "save_size": save_size, "format": format}
    inputs = {"prompts": _prompts_fingerprint(prompts), "generator": generator.fingerprint}
    if shots is not None:
        inputs["shots"] = shots_fingerprint(shots)
    images = ShardFolder(Record(as_path(folder), "images", settings, inputs), shard_size, Saving(format, save_size))
    images.check_not_stale()
    with claims.claimed(images.folder, claims.IMAGES):
        fill(images, plan, generator, class_names, engine=engine, shots=shots)
    return open_shards(images.folder, len(plan))[0]


def fill(
    images: ShardFolder,
    plan: Plan,
    generator: Generator,
    class_names: Sequence[str],
    *,
    engine: Engine | None = None,
    part: tuple[int, int] | None = None,
    shots: Images | None = None,
    card: Callable[[Mapping[str, Any]], str] | None = None,
    before: Callable[[], None] | None = None,
) -> None:
    """Make what a folder lacks of a plan: shards that are not there, rows that failed before, rows by which it has grown.

    What is there is kept, also where it is more than the plan asks for. ``engine`` says where shards are worked on, by
    default in this process; for other processes ``generator`` must survive pickling. ``part`` ``(i, n)`` makes every n-th
    shard from the i-th, counted from 0; whoever then finds nothing missing closes the set. The rows are the same whatever
    engine makes them, in whatever parts. A shard is written while its worker makes the next: memory is that of two a worker.
    ``shots`` are the images whose ids the plan has, if it has any. ``card`` writes the data set's README from what the record will say. ``before`` is called where
    there is something to make. The folder is listed once, and once more where something was made.

    Raises FigmentError where the folder holds images of another set, where nothing can be made at all, and at the end for shards that
    were given up.
    """
    if (plan.shots is None) != (shots is None):
        raise ValueError("a plan with shots is filled with their images, and one without is filled without")
    images.check_not_stale()
    if part is not None and part[0] >= plan.n_shards:
        log.warning(
            f"Part {part[0]}/{part[1]} has nothing to make: {len(plan):,} images are {plan.n_shards:,} file{'s' * (plan.n_shards != 1)} of up to"
            f" {plan.shard_size:,}, and a part takes one in {part[1]:,} of them. For so many parts begin with smaller files,"
            f" generate.shard_size: {-(-len(plan) // part[1])} at the most."
        )
    started = machine.Meter()
    there = images.listing()
    known, work = look(images, plan, there, part)
    description: Mapping[str, Any] = {}
    n = sum(len(w.rows) for w in work)
    if work:
        if before is not None:
            before()
        with progress("generate", n) as advance:
            job = ShardJob(images, plan, generator, tuple(class_names), shots)
            results: Iterator[tuple[Work, Done]] = (engine or Local())(job, work, advance)
            for w, done in results:
                known[w.shard] = done.sidecar
                description = done.generator
    elif not known and images.is_finished(there):
        return
    if work or known:
        there = images.listing()
    if not there.shards & there.vouched >= set(range(plan.n_shards)):
        return  # other parts of a job array are not done
    if part is None and not is_remote(images.folder):  # in an object store there are none
        for path in [path for place in image_folders(images.folder) for path in leftovers(place)]:
            remove(path)
    close(images, there, known, description or described(generator), card, rows_made=n, **started.record())


def close(
    images: ShardFolder,
    there: Listing,
    known: Mapping[int, Sidecar],
    generator: Mapping[str, Any],
    card: Callable[[Mapping[str, Any]], str] | None = None,
    **facts: Any,
) -> None:
    """Write the record of a folder whose shards are all there, unless it says the same already."""
    sidecars = list(read_sidecars(images, sorted(there.shards), known).values())
    failed = sum((Counter(s.failed) for s in sidecars), Counter[str]())
    attempted = sum(s.rows for s in sidecars)
    counts = {"attempted": attempted, "made": attempted - failed.total(), "failed": dict(failed)}
    before = records.read(images.folder)
    same = before.state == "finished" and before.data["fingerprint"] == images.fingerprint
    told = shards_told(sidecars)
    if same and before.data.get("shards") == told and not records.problems(before):
        return
    if same:  # what an earlier run knew of the generator
        generator = {**before.data.get("generator", {}), **generator}
    facts = {"counts": counts, "generator": dict(generator), **facts}
    images.record.forget()
    text = "" if card is None else card({**facts, "shards": told})
    files = {CARD: Written.of(text.encode())} if text else {}
    if text:
        write_atomic(images.folder / CARD, text.encode())
    images.finish(sidecars, files, **facts)


# ---- what there is to do ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Work:
    """Rows of a shard to make: all of them, those that failed before, those by which it grows."""

    shard: int
    rows: Sequence[int]  # a range where it is many: a hundred million numbers are no small list
    whole: bool = False  # nothing of the shard is there

    def __str__(self) -> str:
        return f"shard {self.shard}" + ("" if self.whole else f" ({len(self.rows)} rows of it)")


@dataclass(frozen=True)
class Done:
    """What a worker reports of a shard."""

    sidecar: Sidecar
    generator: Mapping[str, Any]  # how it describes itself, where it was


def look(
    images: ShardFolder, plan: Plan, there: Listing, part: tuple[int, int] | None = None
) -> tuple[dict[int, Sidecar], list[Work]]:
    """The sidecars that had to be opened, and what there is to do. Full shards without failures are told by their names."""
    first, step = part or (0, 1)
    own = range(first, plan.n_shards, step)
    known, work = {}, [_all_of(plan, i) for i in own if i not in there.shards]
    unvouched, partial = there.shards - there.vouched, there.shards & there.partial
    for i in (i for i in own if i in unvouched):
        adopted = images.adopt(i)
        if adopted is None:
            raise FigmentError(
                f"{images.shard(i)} is damaged, or of another set of images. Make it again, and nothing else: figment repair DIR,"
                " where DIR is the folder of the run."
            )
        known[i] = adopted
    opened = [i for i in own if i in partial]
    known |= read_sidecars(images, opened, known)
    for i, sidecar in known.items():
        rows = _rows_to_make(images, sidecar, i, len(plan.positions(i)))
        if rows:
            work.append(Work(i, rows))
    return known, sorted(work, key=lambda w: w.shard)


def _all_of(plan: Plan, shard: int) -> Work:
    return Work(shard, range(len(plan.positions(shard))), whole=True)


def _rows_to_make(images: ShardFolder, sidecar: Sidecar, shard: int, wanted: int) -> Sequence[int]:
    lacking = range(sidecar.rows, wanted)
    if not sidecar.failed:
        return lacking
    errors = read_shard(images.shard(shard), ["error"])["error"].to_pylist()
    return (*(i for i, error in enumerate(errors) if error and i < wanted), *lacking)


def read_sidecars(images: ShardFolder, indices: Sequence[int], known: Mapping[int, Sidecar]) -> dict[int, Sidecar]:
    """Those of ``indices``, in order; the known ones are not read. Raises FigmentError for one that cannot be read."""
    wanted = [i for i in indices if i not in known]
    with ThreadPoolExecutor(READERS) as pool:
        found = dict(zip(wanted, pool.map(images.read_sidecar, wanted), strict=True))
    lost = [i for i, sidecar in found.items() if sidecar is None]
    if lost:
        raise FigmentError(
            f"{images.sidecar(lost[0])} is damaged: it vouches for a shard. Write it again: figment repair DIR, where DIR is the"
            " folder of the run."
        )
    return {i: known.get(i) or found[i] for i in indices}  # type: ignore[misc]


# ---- one shard -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ShardJob:
    """Makes a shard, and leaves its writing for later: the function that engines map over the work. Survives pickling if its parts do."""

    images: ShardFolder
    plan: Plan
    generator: Generator
    class_names: tuple[str, ...]
    shots: Images | None = None
    made: list[int] = field(default_factory=list)  # shards that this process has made, written or not

    def __call__(self, work: Work, advance: Callable[[int], None] = lambda n: None) -> Later[Done]:
        samples = self.plan.shard(work.shard)
        made = attempt(samples, self.generator, work.rows, advance, self.shots, self.images.saving)
        if work.whole:
            self._check_some_succeed(work, made.errors)
        self.made.append(work.shard)
        # What the generator says of itself it says now: it is at the next shard while this one is written.
        return Later(partial(self._write, work, made, described(self.generator)))

    def _write(self, work: Work, made: Attempts, generator: Mapping[str, Any]) -> Done:
        rows = [] if work.whole else read_shard(self.images.shard(work.shard)).to_pylist()
        for place, row in zip(work.rows, made.encoded(), strict=True):
            rows[place : place + 1] = [row]  # in place of one that failed, or at the end
        self.images.record.forget()  # of a set that grows
        return Done(self.images.write(work.shard, sample_table(rows, self.class_names)), generator)

    def _check_some_succeed(self, work: Work, errors: Sequence[str]) -> None:
        """Raise FigmentError for a shard without a single image: then it is not the samples that are wrong.

        Once there are others, a shard of few rows may be refused for what they ask, and images that a model spoilt (NaN) are its answer.
        """
        n = len(work.rows)
        if len(errors) < n:
            return
        others = bool(self.made or self.images.listing().shards)
        if others and (n < TELLING or set(errors) == {NOT_FINITE}):
            return
        said = Counter(errors).most_common(1)[0][0]
        raise NothingMade(
            f"None of the {n} images of {work} could be made: {said.rstrip('.')}. {_advice(said, self.generator)}"
            + (f" {AGAIN}" if others else "")
        )


def _advice(said: str, generator: Generator) -> str:
    """What may help: another dtype only where the model computes in a short one."""
    dtype = str(described(generator).get("dtype", ""))
    if said != NOT_FINITE:
        return "Check generate.model and its settings."
    if "16" in dtype:
        return f"In {dtype} large numbers overflow: set generate.dtype: float32."
    return "Lower generate.guidance_scale, raise generate.num_inference_steps, or choose another generate.scheduler or generate.model."


@dataclass(frozen=True)
class Attempts:
    """Rows of a shard, each with its image, or with the reason there is none. Images may still be in the making into files."""

    errors: tuple[str, ...]  # of the rows without an image
    rows: tuple[Future[dict[str, Any]], ...]

    def encoded(self) -> list[dict[str, Any]]:
        """The rows, once their images are files. Raises what encoding raised."""
        return [row.result() for row in self.rows]


def make_rows(
    samples: Sequence[Sample],
    generator: Generator,
    wanted: Sequence[int] | None = None,
    advance: Callable[[int], None] = lambda n: None,
    shots: Images | None = None,
    saving: Saving = PNG,
) -> list[dict[str, Any]]:
    """As :func:`attempt`: the rows alone, all of them encoded."""
    return attempt(samples, generator, wanted, advance, shots, saving).encoded()


def attempt(
    samples: Sequence[Sample],
    generator: Generator,
    wanted: Sequence[int] | None = None,
    advance: Callable[[int], None] = lambda n: None,
    shots: Images | None = None,
    saving: Saving = PNG,
) -> Attempts:
    """The rows of a shard, or the ``wanted`` ones of them. The images of the last batch are encoded behind.

    A sample is always made in the batch in which the whole shard has it, so that a row made again is the row that would
    have been, to the last bit. A sample that fails does not take others with it. Raises FigmentError where one of the
    ``shots`` that samples start from is not there or cannot be read, and for what the generator cannot do at all.
    """
    maker = _Maker(generator, shots)
    maker.tell(samples)
    chosen = range(len(samples)) if wanted is None else wanted
    rows: list[Future[dict[str, Any]]] = []
    errors: list[str] = []
    start = 0
    pool = ThreadPoolExecutor(machine.cores())  # an image each, so that no core waits for the others at a shard's end
    try:
        while start < len(samples):
            # 0: the generator has not chosen yet. It may also take less at a time from now on, if memory ran out.
            batch = samples[start : start + (getattr(generator, "batch_size", 0) or len(samples))]
            own = [i - start for i in chosen if start <= i < start + len(batch)]
            start += len(batch)
            if own:
                before, done = len(rows), _attempt_batch(batch, own, maker)
                wait(rows[:before])  # pixels do not pile up where encoding is the slower part
                rows += [pool.submit(sample_row, sample, saving) for sample in done]
                errors += [sample.error for sample in done if sample.error]
                advance(len(own))
    finally:
        pool.shutdown(wait=False)  # whatever it was given it still does
    return Attempts(tuple(errors), tuple(rows))


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
        if getattr(self.generator, "wants_ids", False):
            more["ids"] = [s.prompt_id for s in samples]
        if self.shots is not None:
            more["init"] = np.stack([self._start(s.init) for s in samples])
        return ask([s.prompt for s in samples], [s.seed for s in samples], **more)

    def tell(self, samples: Sequence[Sample]) -> None:
        """Say what a shard will ask for, to a generator that wants to know. It opens its model now, outside of what is tried again."""
        read_ahead: Callable[..., None] | None = getattr(self.generator, "read_ahead", None)
        if read_ahead is not None:
            read_ahead([s.prompt for s in samples], [s.label for s in samples])

    def _start(self, id: str) -> np.ndarray:
        assert self.shots is not None
        from figment.generate.real_guidance import crop_to  # loads torch, which only looking at a folder does not need

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
    except Exception as error:
        _raise_if_lost(error)
        return [_attempt_one(batch[i], maker) for i in wanted]


def _attempt_one(sample: Sample, maker: _Maker) -> Sample:
    try:
        return _finished(sample, maker([sample])[0])
    except FigmentError:
        raise
    except Exception as error:
        _raise_if_lost(error, alone=True)
        return _finished(sample, None, printable(f"{type(error).__name__}: {error}"[:300]))


def _raise_if_lost(error: Exception, alone: bool = False) -> None:
    """Raise FigmentError for what is no fault of a sample, ``alone`` in its batch or not: the next one would fail too."""
    from figment.device import failure, is_out_of_memory  # loads torch, which a generator that fails so has loaded

    lost = failure(error)
    if lost is not None:
        raise lost from error
    if alone and is_out_of_memory(error):
        said = " ".join(str(error).split("\n")[0].split())[:200].rstrip(".") or type(error).__name__
        raise FigmentError(
            f"Out of memory for a single image: {said}. {AGAIN} Lower the size of the images, choose a smaller model, or end what else"
            " uses that memory."
        ) from error


def _finished(sample: Sample, image: np.ndarray | None, error: str = NOT_FINITE) -> Sample:
    return replace(sample, image=image, error=None if image is not None else error)


def shots_fingerprint(shots: Images) -> str:
    """What the images' stage has as its input ``shots``: of what the rows name, and of what the images show."""
    return fingerprint([list(shots.ids), shots.labels.tolist(), list(shots.digests)])


def _prompts_fingerprint(prompts: Sequence[Prompt]) -> str:
    return fingerprint([(p.id, p.text, p.label, p.group) for p in prompts])

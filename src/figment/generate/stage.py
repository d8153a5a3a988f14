"""Prompts to a folder of labelled images, one shard after another, each from scratch if need be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from figment import machine
from figment.errors import FigmentError
from figment.generate.seeds import sample_seed
from figment.pictures import ShardPictures, open_shards
from figment.progress import Advance, progress
from figment.store import Stage, fingerprint, sample_table
from figment.types import Generator, Prompt, Sample

NOT_FINITE = "the model gave NaN or infinite pixels"


def plan(prompts: Sequence[Prompt], images_per_class: int, seed: int) -> list[Sample]:
    """The attempts to make, in order: ``images_per_class`` for each class, spread evenly over its prompts.

    Classes take turns, so that a part of the data set is already a balanced one. Which prompts and seeds there are does
    not depend on ``images_per_class``: asking for more adds to the end.
    """
    by_class: dict[int, list[Prompt]] = {}
    for prompt in prompts:
        by_class.setdefault(prompt.label, []).append(prompt)
    samples = []
    for j in range(images_per_class):
        for own in by_class.values():
            prompt, k = own[j % len(own)], j // len(own)
            samples.append(
                Sample(
                    f"{prompt.id}/{k}",
                    prompt.id,
                    prompt.text,
                    prompt.label,
                    sample_seed(seed, prompt.id, k),
                    prompt.group,
                )
            )
    return samples


def generate_images(
    prompts: Sequence[Prompt],
    generator: Generator,
    folder: Path | str,
    class_names: Sequence[str],
    *,
    images_per_class: int,
    seed: int = 0,
    shard_size: int = 256,
    settings: Mapping[str, Any] | None = None,
    inputs: Mapping[str, str] | None = None,
) -> ShardPictures:
    """Make every image that is not there yet and return them all.

    Finished shards are kept; rows that failed before are tried again. ``settings`` and ``inputs`` identify the images (see
    :class:`figment.store.Stage`) and default to the prompts and the generator's fingerprint. Raises FigmentError where
    ``folder`` holds images made otherwise, and where nothing can be made at all.
    """
    samples = plan(prompts, images_per_class, seed)
    stage = images_stage(
        folder,
        prompts,
        images_per_class,
        shard_size,
        settings or {"images_per_class": images_per_class, "shard_size": shard_size, "seed": seed},
        inputs or {"prompts": _prompts_fingerprint(prompts), "generator": generator.fingerprint},
    )
    stage.check_not_stale()
    shards = [samples[i * shard_size : (i + 1) * shard_size] for i in range(stage.n_shards)]
    work = [i for i, shard in enumerate(shards) if not stage.shard(i).is_file()]
    retry = {i: rows for i in range(stage.n_shards) if i not in work and (rows := _failed_rows(stage.shard(i)))}
    if work or retry or not stage.is_complete():
        started = machine.Meter()
        with progress("generate", sum(len(shards[i]) for i in work) + sum(map(len, retry.values()))) as advance:
            hopeful = len(work) < stage.n_shards  # what was written before holds images
            for i in work:
                done = make_shard(shards[i], generator, advance)
                if not hopeful:
                    _check_some_succeed(done)
                    hopeful = True
                stage.write(i, sample_table(done, class_names))
            for i, rows in retry.items():
                _retry(stage, i, rows, shards[i], generator, class_names, advance)
        describe: Callable[[], dict[str, Any]] = getattr(generator, "describe", dict)
        stage.finish(counts=_counts(stage), generator=describe(), **started.record())
    return open_shards(stage.folder)[0]


def images_stage(
    folder: Path | str,
    prompts: Sequence[Prompt],
    images_per_class: int,
    shard_size: int,
    settings: Mapping[str, Any],
    inputs: Mapping[str, str],
) -> Stage:
    """The stage that :func:`generate_images` fills, to look at before anything is made."""
    attempts = images_per_class * len({p.label for p in prompts})
    return Stage(Path(folder), -(-attempts // shard_size), settings, inputs)


def make_shard(
    samples: Sequence[Sample], generator: Generator, advance: Callable[[int], None] | Advance = lambda n: None
) -> list[Sample]:
    """The same samples with their images, or with the reason there is none. One that fails does not take others with it."""
    done: list[Sample] = []
    batch = getattr(generator, "batch_size", 0) or len(samples)  # 0: the generator has not chosen yet
    for start in range(0, len(samples), batch):
        chunk = samples[start : start + batch]
        try:
            done += _attempt(chunk, generator)
        except FigmentError:
            raise
        except Exception:
            done += [_attempt_one(sample, generator) for sample in chunk]
        advance(len(chunk))
    return done


def _check_some_succeed(done: Sequence[Sample]) -> None:
    """Raise FigmentError where the first shard holds not a single image: then it is not the samples that are wrong."""
    errors = Counter(s.error for s in done if s.error)
    if errors.total() == len(done):
        raise FigmentError(
            f"None of {len(done)} images could be made: {errors.most_common(1)[0][0]}. "
            "With NaN pixels, generate.dtype: float32 often helps; otherwise check generate.model and its settings."
        )


def _attempt(samples: Sequence[Sample], generator: Generator) -> list[Sample]:
    images = generator([s.prompt for s in samples], [s.seed for s in samples])
    return [_finished(s, image) for s, image in zip(samples, images, strict=True)]


def _attempt_one(sample: Sample, generator: Generator) -> Sample:
    try:
        return _attempt([sample], generator)[0]
    except FigmentError:
        raise
    except Exception as error:
        return _finished(sample, None, f"{type(error).__name__}: {error}"[:300])


def _finished(s: Sample, image: np.ndarray | None, error: str = NOT_FINITE) -> Sample:
    return Sample(s.id, s.prompt_id, s.prompt, s.label, s.seed, s.group, image, None if image is not None else error)


def _failed_rows(shard: Path) -> list[int]:
    return [i for i, error in enumerate(pq.read_table(shard, columns=["error"])["error"].to_pylist()) if error]


def _retry(
    stage: Stage,
    index: int,
    rows: list[int],
    samples: list[Sample],
    generator: Generator,
    class_names: Sequence[str],
    advance: Advance,
) -> None:
    """Attempt a shard's failed rows again and put them in their places; the good ones stay as they are."""
    table = pq.read_table(stage.shard(index)).to_pylist()
    schema = pq.read_schema(stage.shard(index))
    new = sample_table([_attempt_one(samples[i], generator) for i in rows], class_names).to_pylist()
    for i, row in zip(rows, new, strict=True):
        table[i] = row
    stage.write(index, pa.Table.from_pylist(table, schema))
    advance(len(rows))


def _counts(stage: Stage) -> dict[str, Any]:
    errors = stage.read(["error"])["error"].to_pylist()
    return {"attempted": len(errors), "made": errors.count(""), "failed": dict(Counter(e for e in errors if e))}


def _prompts_fingerprint(prompts: Sequence[Prompt]) -> str:
    return fingerprint([(p.id, p.text, p.label, p.group) for p in prompts])

"""Is everything in a run's folder what was written, complete, and what the recipe asks for? Reads, and changes nothing."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import yaml

from figment import store
from figment.errors import FigmentError
from figment.files import as_path, leftovers, open_parquet, read_bytes, read_json
from figment.generate.plan import Plan
from figment.integrity import (
    File,
    Marker,
    check_file,
    check_images,
    check_plan,
    is_as_we_write,
    read_marker,
    salvage,
    stage_of,
)
from figment.recipe import Recipe, validate
from figment.recipe.unfingerprinted import identity
from figment.shots import read_ids
from figment.store import FORMAT_VERSION, Stage

Severity = Literal["broken", "missing", "note"]


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be (broken, missing), or that is worth knowing (note).

    ``stage`` is the place in the folder, such as ``images`` or ``arms/00-basic/scores/1-clip``; ``shard`` the number of the
    shard, where it is about one; ``remedy`` the command that mends it: "repair", "run", or nothing.
    """

    severity: Severity
    stage: str
    text: str
    shard: int | None = None
    remedy: Literal["repair", "run", ""] = ""


@dataclass
class Verification:
    """What was found, and for each stage in words what was looked at."""

    folder: Path
    findings: list[Finding] = field(default_factory=list)
    checked: dict[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Nothing is broken or missing. Notes do not count."""
        return all(f.severity == "note" for f in self.findings)

    @property
    def advice(self) -> str:
        """What to do, in a line."""
        remedies = {f.remedy for f in self.findings if f.severity != "note"}
        if "repair" in remedies:
            return f"Make again what is broken or missing, and nothing else: figment repair {self.folder}"
        if "run" in remedies and not any(f.severity == "broken" for f in self.findings):
            return f"Nothing is harmed. The next run makes what is missing: figment run {self.folder}"
        if "run" in remedies:
            return f"The next run makes this again: figment run {self.folder}"
        return "Everything is as it was written." if self.ok else "This cannot be mended by figment; see above."


@dataclass
class Seen:
    """What is remembered of the images while they are looked at, one shard after another: some 30 bytes a row."""

    fingerprint: str = ""
    whole: bool = True  # no shard is broken or missing
    class_names: list[str] = field(default_factory=list)
    attempted: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    ids: list[np.ndarray] = field(default_factory=list)  # uint64 (made,) a shard, all of these
    digests: list[np.ndarray] = field(default_factory=list)
    prompts: list[np.ndarray] = field(default_factory=list)
    labels: list[np.ndarray] = field(default_factory=list)
    places: list[tuple[int, np.ndarray]] = field(default_factory=list)  # a shard, and its rows that were made


def verify(folder: Path | str, *, fast: bool = False) -> Verification:
    """Check a run's folder with its arms, or a folder of images alone, local or remote.

    Every file is read whole and compared with its checksum, every row with the recipe's plan, every image is decoded;
    ``fast`` looks into the images only of files whose checksum is not known or not right. Memory is that of one shard.
    Raises FigmentError where the folder holds nothing of ours.
    """
    folder = as_path(folder)
    found = Verification(folder)
    if is_images_folder(folder):
        run = folder.parent
        known = folder.name == "images" and (run / "recipe.yaml").is_file()
        recipe = _recipe(found, run, "recipe.yaml") if known else None
        prompts = _prompts(Verification(run), run / "prompts", "prompts") if recipe else None
        _notes(found, "images", _images(found, folder, "images", _plan(run, recipe, prompts), recipe, fast), None)
        return found
    for run in runs_of(folder):
        _run(found, run, fast)
    return found


def is_images_folder(folder: Path) -> bool:
    """Whether these are images alone, such as :func:`figment.generate_images` makes them."""
    if (folder / "recipe.yaml").is_file() or (folder / "prompts").is_dir():
        return False
    return (folder / "stage.json").is_file() or any(folder.glob("*.parquet"))


def runs_of(folder: Path) -> list[Path]:
    """The folders of a run and its arms, the arms first; of a table, of its sets of images. Raises FigmentError where there is no run."""
    if (folder / "cells").is_dir():
        return sorted(p for p in (folder / "images").glob("*") if p.is_dir())
    runs = [*sorted(p for p in (folder / "arms").glob("*") if p.is_dir()), folder]
    if len(runs) == 1 and not (folder / "recipe.yaml").is_file() and not (folder / "prompts").is_dir():
        raise FigmentError(
            f"{folder} is neither the folder of a run nor of images: it has no recipe.yaml, no prompts and no shards."
            " Give the folder that figment run or figment generate wrote to."
        )
    return runs


def recipe_of(run: Path) -> Recipe:
    """The recipe of a run, local or remote. Raises FigmentError where it is missing or damaged."""
    path = run / "recipe.yaml"
    try:
        return validate(yaml.safe_load(path.read_text(encoding="utf-8")), str(path))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = "it is not there" if isinstance(error, FileNotFoundError) else " ".join(str(error).split())[:200]
        raise FigmentError(
            f"{path} cannot be read: {reason}. Without it nobody knows what the run should hold. Put it back: figment run with the first recipe"
            f" and --out {run} writes it again."
        ) from error


# ---- one run ---------------------------------------------------------------------------------------------------------


def _run(found: Verification, run: Path, fast: bool) -> None:
    def name(part: str) -> str:
        return str((run / part).relative_to(found.folder))

    recipe = _recipe(found, run, name("recipe.yaml"))
    prompts = _prompts(found, run / "prompts", name("prompts"))
    images = _images(found, run / "images", name("images"), _plan(run, recipe, prompts), recipe, fast)
    kept = _scores(found, run, name, images) if images else None
    _notes(found, name("images"), images, kept)
    _features(found, run / "features", name("features"))
    _model(found, run, name)


def _recipe(found: Verification, run: Path, name: str) -> Recipe | None:
    try:
        return recipe_of(run)
    except FigmentError as error:
        text = str(error).replace(f"{run / 'recipe.yaml'} ", "", 1)
        found.findings.append(Finding("broken" if (run / "recipe.yaml").is_file() else "missing", name, text))
        return None


def _plan(run: Path, recipe: Recipe | None, prompts: pa.Table | None) -> Plan | None:
    if recipe is None or prompts is None:
        return None
    generate = recipe.generate
    guided = getattr(generate, "real_guidance", None) is not None
    shots = None
    if guided:
        with suppress(FigmentError):  # without the file start images cannot be checked; the next run writes it again
            shots = read_ids(run / "shots.json")
    return Plan(store.read_prompts(prompts), generate.images_per_class, recipe.seed, generate.shard_size, shots)


# ---- prompts ---------------------------------------------------------------------------------------------------------


def _prompts(found: Verification, folder: Path, name: str) -> pa.Table | None:
    """The prompts, if they can be trusted."""
    stage, marker = _stage(found, folder, name)
    if stage is None:
        return None
    table = _small_table(found, stage, marker, name, store.PROMPT_COLUMNS)
    if table is None:
        return None
    ids = table["id"].to_pylist()
    if len(set(ids)) < len(ids):
        found.findings.append(Finding("broken", name, f"holds {len(ids) - len(set(ids))} ids twice", remedy="repair"))
    found.checked[name] = f"{len(table):,} prompts"
    return table


def _small_table(
    found: Verification,
    stage: Stage,
    marker: Marker,
    name: str,
    columns: pa.Schema,
    remedy: Literal["repair", "run"] = "repair",
) -> pa.Table | None:
    """The rows of a stage of one shard, if they are as they were written."""
    path = stage.shard(0)
    if not path.is_file():
        found.findings.append(Finding("missing", name, f"{path.name} is not there", 0, remedy))
        return None
    recorded = marker.recorded(path)
    file = check_file(
        read_bytes(path), stage.fingerprint, columns, recorded, extra_scores=columns is store.SCORE_COLUMNS
    )
    found.findings += [Finding("broken", name, f"{path.name} {text}", 0, remedy) for text in file.problems]
    if marker.record and recorded is None:
        found.findings.append(Finding("broken", name, f"stage.json has no checksum of {path.name}", 0, remedy))
    if not marker.record and not marker.problem:
        found.findings.append(Finding("missing", name, "stage.json is not there: this was not finished", remedy="run"))
    return None if file.problems else file.table


def _stage(found: Verification, folder: Path, name: str) -> tuple[Stage | None, Marker]:
    """A folder's stage and marker, with what is wrong with either; no stage where nothing is left or it is of another format."""
    marker = read_marker(folder)
    stage, version = stage_of(folder, marker)
    if marker.problem:
        found.findings.append(Finding("broken", name, marker.problem, remedy="repair"))
    if leftovers(folder):
        text = f"{len(leftovers(folder))} files of writers that were killed take up room"
        found.findings.append(Finding("note", name, text, remedy="repair"))
    if version is not None:
        whose = "an older" if version < FORMAT_VERSION else "a newer"
        text = (
            f"this was written by {whose} figment, in format version {version}; this figment knows version {FORMAT_VERSION}."
            " Check it with the figment that wrote it, or make it again in another folder"
        )
        found.findings.append(Finding("broken", name, text))
    elif stage is None:
        text = "nothing is there that can be read" if any(folder.glob("*.parquet")) else "nothing is there yet"
        found.findings.append(Finding("missing", name, text, remedy="repair" if marker.problem else "run"))
    return stage, marker


# ---- images ----------------------------------------------------------------------------------------------------------


def _images(
    found: Verification, folder: Path, name: str, plan: Plan | None, recipe: Recipe | None, fast: bool
) -> Seen | None:
    stage, marker = _stage(found, folder, name)
    if stage is None:
        return None
    if recipe is not None and not is_of(found, stage, recipe, folder, name):
        plan = None
    class_names = None if recipe is None else recipe.task.class_names
    images, size, absent = Seen(stage.fingerprint), 0, 0
    for path in strangers(stage):
        text = f"{path.name} is no shard of these images, and would be read as one"
        found.findings.append(Finding("broken", name, text, remedy="repair"))
    for index in range(stage.n_shards):
        path = stage.shard(index)
        if not path.is_file():
            absent += 1
            continue
        data = read_bytes(path)
        size += len(data)
        file = check_shard(data, stage, marker, index, plan, class_names, fast)
        if file.problems:
            text = "; ".join(file.problems) + _unharmed(data, file, plan, index)
            found.findings.append(Finding("broken", name, f"{path.name} {text}", index, "repair"))
        elif not marker.record and not is_as_we_write(file, data):
            text = f"{path.name} holds the right rows, but not in the bytes that would be written here: its footer may be damaged"
            found.findings.append(Finding("note", name, text, index, "repair"))
        if file.table is not None:
            _remember(images, index, file)
    if absent:
        text = f"{absent:,} of {stage.n_shards:,} shards are not there" + ("" if marker.record else " yet")
        found.findings.append(Finding("missing", name, text, remedy="repair" if marker.record else "run"))
    images.whole = not absent and not any(f.stage == name and f.severity == "broken" for f in found.findings)
    _check_marker(found, name, marker, images, complete=not absent)
    if marker.record and folder.name == "images" and recipe is not None and not (folder / "README.md").is_file():
        found.findings.append(Finding("missing", name, "README.md, the dataset card, is not there", remedy="repair"))
    found.checked[name] = f"{images.attempted:,} rows in {stage.n_shards - absent:,} shards, {size / 2**20:,.1f} MiB"
    return images


def check_shard(
    data: bytes,
    stage: Stage,
    marker: Marker,
    index: int,
    plan: Plan | None = None,
    class_names: Sequence[str] | None = None,
    fast: bool = False,
) -> File:
    """Everything about one shard of images. ``File.problems`` is empty where it is as it should be."""
    recorded = marker.recorded(stage.shard(index))
    file = check_file(data, stage.fingerprint, store.IMAGE_COLUMNS, recorded)
    if marker.record and recorded is None:
        file.problems.append("has no checksum in stage.json")
    if file.table is None:
        return file
    if class_names is not None and file.class_names != list(class_names):
        file.problems.append("names other classes than the recipe")
    if plan is not None:
        # Which start images there were is not in the folder; whoever knows them gives a plan that does.
        told = plan.shots is not None or "shots" not in stage.inputs
        file.problems += check_plan(file.table, plan.shard(index), init=told)
    if not fast or recorded is None or file.problems:
        file.problems += check_images(file.table, data, file.metadata)
    return file


def strangers(stage: Stage) -> list[Path]:
    """Parquet files in the folder of a stage that are none of its shards."""
    own = {stage.shard(i).name for i in range(stage.n_shards)}
    return [path for path in sorted(stage.folder.glob("*.parquet")) if path.name not in own]


def is_of(found: Verification, stage: Stage, recipe: Recipe, folder: Path, name: str) -> bool:
    """Whether images were made with this recipe, from these prompts."""
    now = {"generate": identity(recipe.generate), "seed": recipe.seed}
    if dict(stage.settings) != now:
        text = f"these images were not made with recipe.yaml: {store.what_changed({'settings': stage.settings}, {'settings': now})}"
        found.findings.append(Finding("broken", name, text))
        return False
    prompts = read_marker(folder.parent / "prompts").record.get("fingerprint")
    if prompts and prompts != stage.inputs.get("prompts"):
        text = "these images were made from other prompts than those in the folder prompts"
        found.findings.append(Finding("broken", name, text))
        return False
    return True


def _unharmed(data: bytes, file: File, plan: Plan | None, index: int) -> str:
    """How much of a damaged shard need not be made again."""
    if file.foreign:
        return ""
    images = salvage(data).images
    if plan is None:
        return f". {len(images):,} of its images are unharmed"
    wanted = [s.id for s in plan.shard(index)]
    return f". {sum(i in images for i in wanted):,} of its {len(wanted):,} images are unharmed"


def _remember(images: Seen, index: int, file: File) -> None:
    assert file.table is not None
    names = file.class_names or []
    images.class_names = images.class_names or names
    errors = file.table["error"].to_pylist()
    made = np.flatnonzero([not e for e in errors])
    images.attempted += len(errors)
    images.failed.update(e for e in errors if e)
    images.ids.append(_hashes(file.table["id"].to_pylist())[made])
    images.digests.append(_hashes(file.table["digest"].to_pylist())[made])
    images.prompts.append(_hashes(file.table["prompt_id"].to_pylist())[made])
    images.labels.append(file.table["label"].fill_null(-1).to_numpy()[made].astype(np.int32))
    images.places.append((index, made.astype(np.int32)))


def _hashes(texts: Sequence[str | None]) -> np.ndarray:
    """``uint64 (n,)``: 8 bytes for a text of any length."""
    return np.array(
        [int.from_bytes(hashlib.blake2b(str(t).encode(), digest_size=8).digest(), "little") for t in texts], np.uint64
    )


def _all(parts: list[np.ndarray], dtype: Any = np.uint64) -> np.ndarray:
    return np.concatenate(parts) if parts else np.zeros(0, dtype)


def _check_marker(found: Verification, name: str, marker: Marker, images: Seen, complete: bool) -> None:
    """What stage.json counted against what is there."""
    if not marker.record:
        if complete and not marker.problem:
            text = "stage.json is not there: the last run was interrupted just before its end"
            found.findings.append(Finding("missing", name, text, remedy="run"))
        return
    failed = images.failed
    now = {"attempted": images.attempted, "made": images.attempted - failed.total(), "failed": dict(failed)}
    if images.whole and marker.record.get("counts") != now:
        text = f"stage.json counts {marker.record.get('counts')}, and there are {now}"
        found.findings.append(Finding("broken", name, text, remedy="repair"))


# ---- what is worth knowing of images ---------------------------------------------------------------------------------


def _notes(found: Verification, name: str, images: Seen | None, kept: np.ndarray | None) -> None:
    if images is None:
        return
    if images.failed:
        reasons = "; ".join(f"{n:,} {reason[:80]}" for reason, n in images.failed.most_common(3))
        text = f"{images.failed.total():,} rows failed and will be tried again by the next run: {reasons}"
        found.findings.append(Finding("note", name, text, remedy="run"))
    ids, labels = _all(images.ids), _all(images.labels, np.int32)
    twice = len(ids) - len(np.unique(ids))
    if twice:
        found.findings.append(Finding("broken", name, f"{twice:,} ids are there more than once", remedy="repair"))
    _note_duplicates(found, name, images)
    if not images.whole:
        return  # what is missing would look like what is wrong with the rest
    _note_balance(found, name, "made", labels, images.class_names)
    if kept is not None:
        _note_balance(found, name, "kept by the filters", labels[np.isin(ids, kept)], images.class_names)


def _note_duplicates(found: Verification, name: str, images: Seen) -> None:
    digests, prompts = _all(images.digests), _all(images.prompts)
    order = np.argsort(digests, kind="stable")
    again = np.flatnonzero(digests[order][1:] == digests[order][:-1]) + 1  # positions in `order`
    if not len(again):
        return
    same_prompt = int((prompts[order][again] == prompts[order][again - 1]).sum())
    example = " and ".join(_place(images, int(order[again[0] + i])) for i in (-1, 0))
    text = f"{len(again):,} images are the same as another one, pixel for pixel, such as {example}"
    if same_prompt:
        text += f"; {same_prompt:,} of them have the same prompt and another seed, which looks like a generator that is stuck"
    found.findings.append(Finding("note", name, text))


def _place(images: Seen, position: int) -> str:
    """Shard and row of the n-th image."""
    for shard, rows in images.places:
        if position < len(rows):
            return f"row {rows[position]} of shard {shard}"
        position -= len(rows)
    raise IndexError(position)


def _note_balance(found: Verification, name: str, what: str, labels: np.ndarray, class_names: Sequence[str]) -> None:
    if not class_names:
        return
    counts = np.bincount(labels[labels >= 0], minlength=len(class_names)).tolist()
    found.checked[name] = found.checked.get(name, "") + f"; {what}: {_range(counts)} a class"
    median = float(np.median(counts))
    few = [f"{name[:40]} {n:,}" for name, n in zip(class_names, counts, strict=False) if n < max(median / 2, 1)]
    if few:
        more = f"; and {len(few) - 8:,} more classes" if len(few) > 8 else ""
        text = f"the classes are out of balance ({what}): the median is {median:,.0f}, and of these there are few: {'; '.join(few[:8])}{more}"
        found.findings.append(Finding("note", name, text))


def _range(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


# ---- what is made of the images --------------------------------------------------------------------------------------


def _scores(found: Verification, run: Path, name: Any, images: Seen) -> np.ndarray | None:
    """Verdicts against the images they are about; the ids that every filter kept, ``uint64 (n,)``, if all can be read."""
    reached = _all(images.ids)
    folders = [run / "scores" / step for step in _steps(run)]
    for folder in folders:
        own = name(f"scores/{folder.name}")
        stage, marker = _stage(found, folder, own)
        if stage is None:
            return None
        table = _small_table(found, stage, marker, own, store.SCORE_COLUMNS, "run")
        if table is None:
            return None
        if stage.inputs.get("images") != images.fingerprint:
            found.findings.append(Finding("broken", own, "these verdicts are on other images", remedy="run"))
            return None
        ids, keep = _hashes(table["id"].to_pylist()), np.asarray(table["keep"].to_pylist(), bool)
        if images.whole and not np.array_equal(ids, reached):
            text = (
                f"there are {len(ids):,} verdicts on {len(reached):,} images that reached this filter,"
                f" {int(np.isin(ids, reached).sum()):,} of them on one of these"
            )
            found.findings.append(Finding("broken", own, text, remedy="run"))
            return None
        reached = ids[keep]
        found.checked[own] = f"{len(ids):,} verdicts, {int(keep.sum()):,} kept"
    return reached if folders else None


def _steps(run: Path) -> list[str]:
    """The folders of verdicts of the run that ended last, in order; before there is one, all there are."""
    try:
        return list(read_json(run / "model" / "stage.json")["scores"])
    except (FigmentError, KeyError, TypeError):
        return sorted(p.name for p in (run / "scores").glob("*") if p.is_dir())


def _features(found: Verification, folder: Path, name: str) -> None:
    n = 0
    for path in cached(folder):
        n += 1
        problem = check_cached(path)
        if problem:
            found.findings.append(Finding("broken", name, f"{path.name} {problem}", remedy="repair"))
    stale = [leftover for own in folder.glob("*") for leftover in leftovers(own)]
    if stale:
        found.findings.append(
            Finding("note", name, f"{len(stale)} files of writers that were killed take up room", remedy="repair")
        )
    if n:
        found.checked[name] = f"{n:,} files of the cache"


def cached(folder: Path) -> list[Path]:
    """The files of the caches in ``features``: features of images, and answers of chat servers."""
    return sorted([*folder.glob("*/*.parquet"), *folder.glob("*/*.json")])


def check_cached(path: Path) -> str:
    """What is wrong with a file of a cache; nothing where it is right."""
    try:
        if path.suffix == ".json":
            json.loads(read_bytes(path))
            return ""
        table = open_parquet(path).read()
        digests, features = table["digest"].to_pylist(), table["feature"].combine_chunks().flatten().to_numpy()
    except Exception as error:  # damage can make pyarrow fail in any way
        return f"cannot be read ({type(error).__name__})"
    if path.stem != store.fingerprint(digests):
        return "holds features of other images than its name says"
    return "" if np.isfinite(features).all() else "holds features that are not numbers"


def _model(found: Verification, run: Path, name: Any) -> None:
    if not (run / "model" / "stage.json").is_file():
        return
    for part, problem in model_problems(run):
        found.findings.append(Finding("broken", name(part), problem, remedy="repair"))
    found.checked[name("model")] = "the classifier and the measured numbers"


def model_problems(run: Path) -> Iterator[tuple[str, str]]:
    """What is wrong with the classifier and the numbers of a run: the file or folder, and the trouble."""
    from safetensors.numpy import load

    model = run / "model"
    record: Mapping[str, Any] = {}
    try:
        record = json.loads(read_bytes(model / "stage.json"))
        names = json.loads(read_bytes(model / "head.json"))["class_names"]
        head = load(read_bytes(model / "head.safetensors"))
        if not all(np.isfinite(w).all() for w in head.values()) or len(head["linear.bias"]) != len(names):
            yield "model", "the classifier is not of the classes it names, or not of numbers"
    except Exception as error:  # safetensors has errors of its own
        yield "model", f"the classifier cannot be read ({type(error).__name__}: {' '.join(str(error).split())[:160]})"
    for file, told in record.get("files", {}).items():
        path = model / file
        if path.is_file() and store.digest(read_bytes(path)) != told:
            yield "model", f"{file} is not the file that stage.json has the checksum of"
    for number, line in enumerate(result_lines(run), 1):
        if not is_result(line):
            yield "results.jsonl", f"line {number} cannot be read"


def result_lines(run: Path) -> list[str]:
    path = run / "results.jsonl"
    return [] if not path.is_file() else path.read_text(encoding="utf-8", errors="replace").splitlines()


def is_result(line: str) -> bool:
    """Whether a line of results.jsonl is one, or empty."""
    try:
        return not line.strip() or {"metric", "value", "n", "ci"} <= set(json.loads(line))
    except (ValueError, TypeError):
        return False

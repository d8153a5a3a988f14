"""Is every shard of images what was written, complete, and what the recipe asks for?"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from figment import layout, records, shards
from figment.errors import FigmentError
from figment.files import read_bytes
from figment.generate.fill import CARD
from figment.generate.plan import Plan
from figment.integrity import File, check_file, check_images, check_plan, is_as_we_write, record_of, salvage
from figment.records import Found, Record
from figment.shards import ShardFolder, Sidecar
from figment.shots import read_ids
from figment.stages.plans import images_settings
from figment.stages.stage import Look


@dataclass
class Seen:
    """What is remembered of the images while they are looked at, one shard after another: some 30 bytes a row."""

    whole: bool = True  # no shard is broken or missing
    class_names: list[str] = field(default_factory=list)
    attempted: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    ids: list[np.ndarray] = field(default_factory=list)  # uint64 (made,) a shard, all of these
    digests: list[np.ndarray] = field(default_factory=list)
    prompts: list[np.ndarray] = field(default_factory=list)
    labels: list[np.ndarray] = field(default_factory=list)
    places: list[tuple[int, np.ndarray]] = field(default_factory=list)  # a shard, and its rows that were made

    def all_ids(self) -> np.ndarray:
        return joined(self.ids)


def verify_images(look: Look, folder: Path) -> None:
    """Every file whole against its sidecar and the record, every row against the plan, every image decoded.

    With ``look.fast`` images are decoded only in files whose checksum is not known or not right. Memory is that of one shard.
    """
    found = look.record(folder)
    look.known.add(folder / CARD)
    if found.state in ("old", "newer"):
        _verify_old(look, found)
        return
    record = record_of(folder, found)
    if record is None:
        return
    plan = _plan(look, record, found)
    images = ShardFolder(record, record.settings.get("shard_size") or record.settings["generate"]["shard_size"])
    seen, sidecars, size = Seen(), dict[int, Sidecar | None](), 0
    listing = images.listing()
    indices = sorted(listing.shards)
    look.known |= {images.sidecar(i, partial) for i in listing.shards | listing.vouched for partial in (False, True)}
    for path in strangers(images):
        text = f"{path.name} is no shard of these images. figment passes over it and leaves it alone; other readers may take it for one"
        look.add("note", folder, text)
        look.known.add(path)
    for index in indices:
        sidecars[index] = sidecar = images.read_sidecar(index)
        look.known.add(images.shard(index))
        try:
            data = read_bytes(images.shard(index))
        except (OSError, FigmentError) as error:  # a folder or a pipe in its place
            text = f"{images.shard(index).name} cannot be read ({' '.join(str(error).split())})"
            look.add("broken", folder, text, shard=index, remedy="repair")
            continue
        size += len(data)
        _verify_shard(look, images, index, data, sidecar, found, plan, seen)
    absent = set(range(_expected(found, plan, indices))) - set(indices)
    _say_absent(look, folder, absent, _told(found, "count"), len(absent) + len(indices), _short(plan, sidecars))
    seen.whole = not absent and not any(
        f.severity == "broken" for f in look.found.findings if f.stage == look.name(folder)
    )
    _verify_record(look, folder, found, seen, sidecars)
    look.memory["images"] = seen
    look.checked(folder, f"{seen.attempted:,} rows in {len(indices):,} shards, {size / 2**20:,.1f} MiB")


def _say_absent(look: Look, folder: Path, absent: set[int], finished: int, n_shards: int, rows: int) -> None:
    """Shards that a finished set had are lost; others, and ``rows`` by which a set is to grow, are to come."""
    lost = sum(index < finished for index in absent)
    if lost:
        look.add("missing", folder, f"{lost:,} of {n_shards:,} shards are not there", remedy="repair")
    to_come = [f"{len(absent) - lost:,} of {n_shards:,} shards"] if len(absent) > lost else []
    to_come += [f"{rows:,} rows"] if rows else []
    if to_come:
        look.add("missing", folder, f"{' and '.join(to_come)} are not there yet", remedy="run")


def _short(plan: Plan | None, sidecars: dict[int, Sidecar | None]) -> int:
    """How many rows the shards that are there lack: those of a set that is to grow, or was stopped while it did."""
    if plan is None:
        return 0
    return sum(max(0, len(plan.positions(i)) - own.rows) for i, own in sidecars.items() if own is not None)


def _verify_shard(
    look: Look,
    images: ShardFolder,
    index: int,
    data: bytes,
    sidecar: Sidecar | None,
    found: Found,
    plan: Plan | None,
    seen: Seen,
) -> None:
    names = None if look.recipe is None else look.recipe.task.class_names
    file = check_shard(data, images, sidecar, index, plan, names, look.fast)
    name = images.shard(index).name
    if file.problems:
        text = "; ".join(file.problems) + _unharmed(data, file, plan, index)
        look.add("broken", images.folder, f"{name} {text}", shard=index, remedy="repair")
    elif sidecar is None:
        late = found.state == "finished" or any(images.sidecar(index, p).is_file() for p in (False, True))
        text = (
            f"{name} has no sidecar that can be read"
            if late
            else f"{name} was written, and its writer stopped before saying so"
        )
        look.add("broken" if late else "note", images.folder, text, shard=index, remedy="repair" if late else "run")
    elif not is_as_we_write(file, data):
        text = f"{name} holds the right rows, but not in the bytes that would be written here"
        look.add("note", images.folder, text, shard=index)
    if file.table is not None:
        _remember(seen, index, file)


def check_shard(
    data: bytes,
    images: ShardFolder,
    sidecar: Sidecar | None,
    index: int,
    plan: Plan | None = None,
    class_names: Sequence[str] | None = None,
    fast: bool = False,
) -> File:
    """Everything about one shard of images. ``File.problems`` is empty where it is as it should be."""
    written = None if sidecar is None else sidecar.written
    file = check_file(data, images.fingerprint, shards.IMAGE_COLUMNS, written, shards.ATTRIBUTES)
    if file.table is None:
        return file
    if sidecar is not None and (
        sidecar.fingerprint != images.fingerprint or dict(sidecar.failed) != shards.failures(file.table)
    ):
        file.problems.append("is not what its sidecar says")
    if class_names is not None and file.class_names != list(class_names):
        file.problems.append("names other classes than the recipe")
    if plan is not None:
        # Which start images there were is not in the folder; whoever knows them gives a plan that does.
        told = plan.shots is not None or "shots" not in images.record.inputs
        wanted = plan.shard(index)
        if sidecar is not None and sidecar.rows == len(file.table):  # of a set that is to grow it may be fewer
            wanted = wanted[: sidecar.rows]
        file.problems += check_plan(file.table, wanted, init=told)
    if not fast or written is None or file.problems:
        file.problems += check_images(file.table, data, file.metadata)
    return file


def _plan(look: Look, record: Record, found: Found) -> Plan | None:
    """What ought to be in the folder, as far as the recipe and the prompts are there to tell."""
    prompts = look.memory.get("prompts")
    if look.recipe is None or prompts is None or not is_of(look, record):
        return None
    g, shots = look.recipe.generate, None
    if g.guided and not records.problems(records.read(look.run.folder), {look.run.shots.name}):
        with suppress(FigmentError):  # without the file start images cannot be checked; the next run writes it again
            shots = read_ids(look.run.shots)
    plan = Plan(prompts, g.images_per_class, look.recipe.seed, g.shard_size, shots, g.of_each_prompt)
    return grown(plan, found)


def grown(plan: Plan, found: Found) -> Plan:
    """The plan of all that is there: of a finished set that a smaller recipe uses a part of, more than that recipe asks for."""
    rows = _told(found, "rows")
    return plan if rows <= len(plan) else plan.reaching(rows)


def is_of(look: Look, record: Record) -> bool:
    """Whether images were made with this recipe, from these prompts."""
    assert look.recipe is not None
    now = images_settings(look.recipe)
    if dict(record.settings) != now:
        changes = records.what_changed({"settings": record.settings}, {"settings": now})
        look.add("broken", record.folder, f"these images were not made with {look.run.recipe.name}: {changes}")
        return False
    prompts = records.read(look.run.prompts).data.get("fingerprint")
    if prompts and prompts != record.inputs.get("prompts"):
        look.add("broken", record.folder, "these images were made from other prompts than those in the folder prompts")
        return False
    return True


def _expected(found: Found, plan: Plan | None, indices: Sequence[int]) -> int:
    """How many shards there should be."""
    return max(_told(found, "count"), 0 if plan is None else plan.n_shards, max(indices, default=-1) + 1)


def _told(found: Found, what: str) -> int:
    """How many shards (``count``) or ``rows`` a finished record has."""
    told = found.data.get("shards", {}) if found.state == "finished" else {}
    return int(told.get(what, 0)) if isinstance(told, dict) else 0


def _verify_record(look: Look, folder: Path, found: Found, seen: Seen, sidecars: dict[int, Sidecar | None]) -> None:
    """What the record counts against what is there."""
    if found.state != "finished":
        return
    failed = seen.failed
    now = {"attempted": seen.attempted, "made": seen.attempted - failed.total(), "failed": dict(failed)}
    if seen.whole and found.data.get("counts") != now:
        look.add(
            "broken", folder, f"{records.NAME} counts {found.data.get('counts')}, and there are {now}", remedy="repair"
        )
    elif seen.whole and found.data.get("shards") != shards.shards_told([s for s in sidecars.values() if s]):
        look.add("broken", folder, f"{records.NAME} has the checksum of other sidecars than there are", remedy="repair")
    if look.recipe is not None and CARD not in found.files:
        look.add("missing", folder, f"{CARD}, the dataset card, is not there", remedy="repair")


def strangers(images: ShardFolder) -> list[Path]:
    """Parquet files in the folder of the images that are none of its shards."""
    own = {images.shard(i) for i in images.listing().shards}
    return [p for p in sorted(images.folder.rglob("*.parquet")) if p not in own and not p.name.startswith(".")]


def _unharmed(data: bytes, file: File, plan: Plan | None, index: int) -> str:
    """How much of a damaged shard need not be made again."""
    if file.foreign:
        return ""
    kept = salvage(data).images
    if plan is None:
        return f". {len(kept):,} of its images are unharmed"
    wanted = [s.id for s in plan.shard(index)]
    return f". {sum(i in kept for i in wanted):,} of its {len(wanted):,} images are unharmed"


def _verify_old(look: Look, found: Found) -> None:
    """Of version 0.1: the checksums it has are looked at by the record; shards without one are new to nobody."""
    look.known |= set(layout.shard_files(found.folder))
    look.checked(found.folder, f"{len(found.files):,} files of an older figment")


def _remember(seen: Seen, index: int, file: File) -> None:
    assert file.table is not None
    seen.class_names = seen.class_names or file.class_names or []
    errors = file.table["error"].to_pylist()
    made = np.flatnonzero([not e for e in errors])
    seen.attempted += len(errors)
    seen.failed.update(e for e in errors if e)
    seen.ids.append(hashes(file.table["id"].to_pylist())[made])
    seen.digests.append(hashes(file.table["digest"].to_pylist())[made])
    seen.prompts.append(hashes(file.table["prompt_id"].to_pylist())[made])
    seen.labels.append(file.table["label"].fill_null(-1).to_numpy()[made].astype(np.int32))
    seen.places.append((index, made.astype(np.int32)))


def hashes(texts: Sequence[str | None]) -> np.ndarray:
    """``uint64 (n,)``: 8 bytes for a text of any length."""
    return np.array(
        [int.from_bytes(hashlib.blake2b(str(t).encode(), digest_size=8).digest(), "little") for t in texts], np.uint64
    )


def joined(parts: list[np.ndarray], dtype: Any = np.uint64) -> np.ndarray:
    return np.concatenate(parts) if parts else np.zeros(0, dtype)


# ---- what is worth knowing of images ---------------------------------------------------------------------------------


def note_images(look: Look, folder: Path, kept: np.ndarray | None) -> None:
    """Failures, repeats and balance: notes, once it is known which images the filters ``kept`` (hashes of their ids)."""
    seen: Seen | None = look.memory.get("images")
    if seen is None:
        return
    if seen.failed:
        reasons = "; ".join(f"{n:,} {reason[:80]}" for reason, n in seen.failed.most_common(3))
        text = f"{seen.failed.total():,} rows failed and will be tried again by the next run: {reasons}"
        look.add("note", folder, text, remedy="run")
    ids, labels = seen.all_ids(), joined(seen.labels, np.int32)
    twice = len(ids) - len(np.unique(ids))
    if twice:
        look.add("broken", folder, f"{twice:,} ids are there more than once", remedy="repair")
    _note_duplicates(look, folder, seen)
    if not seen.whole:
        return  # what is missing would look like what is wrong with the rest
    _note_balance(look, folder, "made", labels, seen.class_names)
    if kept is not None:
        _note_balance(look, folder, "kept by the filters", labels[np.isin(ids, kept)], seen.class_names)


def _note_duplicates(look: Look, folder: Path, seen: Seen) -> None:
    digests, prompts = joined(seen.digests), joined(seen.prompts)
    order = np.argsort(digests, kind="stable")
    again = np.flatnonzero(digests[order][1:] == digests[order][:-1]) + 1  # positions in `order`
    if not len(again):
        return
    same_prompt = int((prompts[order][again] == prompts[order][again - 1]).sum())
    example = " and ".join(_place(seen, int(order[again[0] + i])) for i in (-1, 0))
    text = f"{len(again):,} images are the same as another one, pixel for pixel, such as {example}"
    if same_prompt:
        text += f"; {same_prompt:,} of them have the same prompt and another seed, which looks like a generator that is stuck"
    look.add("note", folder, text)


def _place(seen: Seen, position: int) -> str:
    """Shard and row of the n-th image."""
    for shard, rows in seen.places:
        if position < len(rows):
            return f"row {rows[position]} of shard {shard}"
        position -= len(rows)
    raise IndexError(position)


def _note_balance(look: Look, folder: Path, what: str, labels: np.ndarray, class_names: Sequence[str]) -> None:
    if not class_names or (labels < 0).all():
        return
    counts = np.bincount(labels[labels >= 0], minlength=len(class_names)).tolist()
    own = look.name(folder)
    look.found.checked[own] = look.found.checked.get(own, "") + f"; {what}: {_range(counts)} a class"
    median = float(np.median(counts))
    few = [f"{name[:40]} {n:,}" for name, n in zip(class_names, counts, strict=False) if n < max(median / 2, 1)]
    if few:
        more = f"; and {len(few) - 8:,} more classes" if len(few) > 8 else ""
        text = f"the classes are out of balance ({what}): the median is {median:,.0f}, and of these there are few: {'; '.join(few[:8])}{more}"
        look.add("note", folder, text)


def _range(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"

"""One Parquet file of ours: is it what was written, and if not, what in it can still be trusted?"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from figment import layout, png, records, shards
from figment.errors import FigmentError
from figment.guard import parse_json
from figment.images_in.decode import decode
from figment.records import Found, Record, Written
from figment.shards import FINGERPRINT, IDENTITY
from figment.types import Sample

CHECKERS = 4  # threads: hashing and inflating let go of Python's lock
SHOWN = 3  # examples in a message


@dataclass
class File:
    """A shard's file as it was found; ``problems`` is empty where it is as it was written."""

    problems: list[str] = field(default_factory=list)
    table: pa.Table | None = None  # None where it cannot be read
    metadata: Mapping[bytes, bytes] = field(default_factory=dict)
    written: Written | None = None
    foreign: bool = False  # a whole file, of another stage

    @property
    def class_names(self) -> list[str] | None:
        """As its metadata has them; None where it does not say."""
        try:
            features = parse_json(self.metadata[b"huggingface"], "the footer", "Parquet footer")["info"]["features"]
            return list(features["label"]["names"])
        except (FigmentError, KeyError, ValueError, TypeError):
            return None


# ---- which set is it? ------------------------------------------------------------------------------------------------


def record_of(folder: Path, found: Found) -> Record | None:
    """The record of what lies in a folder: the one that is there, or else what most of its files say of themselves.

    None where there is nothing to tell it by.
    """
    if found.state == "finished":
        return found.record
    said: Counter[str] = Counter()
    for path in layout.shard_files(folder):
        try:
            metadata = shards.shard_metadata(path)
            identity = parse_json(metadata[IDENTITY], path, "Parquet footer")
            record = Record(folder, identity["kind"], identity["settings"], identity["inputs"])
            if record.fingerprint == metadata[FINGERPRINT].decode():
                said[json.dumps(identity)] += 1
        except (FigmentError, KeyError, ValueError, TypeError):
            continue  # damaged, or not ours
    if not said:
        return None
    identity = json.loads(said.most_common(1)[0][0])
    return Record(folder, identity["kind"], identity["settings"], identity["inputs"])


# ---- one file --------------------------------------------------------------------------------------------------------


def check_file(
    data: bytes,
    fingerprint: str,
    columns: pa.Schema,
    recorded: Written | None,
    more: tuple[str, pa.DataType] | None = None,
) -> File:
    """Checksum, page checksums, origin and columns of one Parquet file. ``recorded`` is what is said of it elsewhere; ``more`` is what
    the names of further columns begin with, and their type."""
    found = File()
    if recorded is not None and hashlib.sha256(data).hexdigest() != recorded.sha256:
        size = f", it has {len(data):,} bytes instead of {recorded.bytes:,}" if len(data) != recorded.bytes else ""
        found.problems.append(f"is not the file that was written{size}")
    try:
        parquet = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
        found.metadata = parquet.metadata.metadata or {}
        table = parquet.read()
        found.written = Written.of(data, len(table))
    except Exception as error:  # damage can make pyarrow fail in any way
        found.problems.append(f"cannot be read ({_short(error)})")
        return found
    if found.metadata.get(FINGERPRINT, b"").decode(errors="replace") != fingerprint:
        found.foreign = FINGERPRINT in found.metadata
        found.problems.append("was made with other settings" if found.foreign else "does not say what it belongs to")
        return found
    fields = list(table.schema)
    as_written = fields[: len(columns)] == list(columns)
    further = all(more and f.name.startswith(more[0]) and f.type == more[1] for f in fields[len(columns) :])
    if not (as_written and further):
        found.problems.append(f"has other columns than the format: {', '.join(f'{f.name} {f.type}' for f in fields)}")
        return found
    found.table = table
    return found


def is_as_we_write(file: File, data: bytes) -> bool:
    """Whether writing the same rows here gives the same file: it must, where the same version of pyarrow wrote it."""
    assert file.table is not None
    if pq.read_metadata(pa.BufferReader(data)).created_by != f"parquet-cpp-arrow version {pa.__version__}":
        return True  # cannot be told
    return shards.parquet(file.table) == data


def _short(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:160].rstrip(".")


# ---- rows of images --------------------------------------------------------------------------------------------------


def check_plan(table: pa.Table, samples: Sequence[Sample], init: bool = True) -> list[str]:
    """What is not as planned in the rows of a shard of images; ``init`` says whether the plan knows the start images."""
    ids = table["id"].to_pylist()
    wanted = [s.id for s in samples]
    if ids != wanted:
        return [_ids_differ(ids, wanted)]
    problems = []
    for name in ("label", "prompt", "prompt_id", "seed", "group", *(["init"] if init else []), "attributes"):
        values = shards.attributes_in(table) if name == "attributes" else table[name].to_pylist()
        wrong = [i for i, (v, s) in enumerate(zip(values, samples, strict=True)) if v != getattr(s, name)]
        if wrong:
            i = wrong[0]
            problems.append(
                f"has another {name} than planned in {len(wrong)} of {len(ids)} rows,"
                f" such as {_quoted(values[i])} instead of {_quoted(getattr(samples[i], name))} for {ids[i]}"
            )
    return problems


def _ids_differ(ids: Sequence[str], wanted: Sequence[str]) -> str:
    twice = [i for i, n in Counter(ids).items() if n > 1]
    absent, strange = sorted(set(wanted) - set(ids)), sorted(set(ids) - set(wanted), key=str)
    parts = [
        f"{len(group)} {what} ({_some(group)})"
        for group, what in ((twice, "twice"), (absent, "missing"), (strange, "not of this shard"))
        if group
    ]
    return f"has other rows than planned: {'; '.join(parts) or 'their order is another'}"


def check_images(table: pa.Table, data: bytes, metadata: Mapping[bytes, bytes]) -> list[str]:
    """Every image against its digest, its place in the file and a decoder, every row without one against its reason."""
    images = table["image"].to_pylist()
    ids, digests, errors = (table[name].to_pylist() for name in ("id", "digest", "error"))
    try:
        places = shards.image_places(metadata)
    except ValueError:
        places = None
    if places is None or len(places) != len(ids):
        return ["does not say where its images lie"]

    def check(row: int) -> str:
        image = None if images[row] is None else images[row]["bytes"]
        start, length = (int(n) for n in places[row])
        if image is None:
            right = errors[row] and not digests[row] and not length
            return "" if right else "has neither an image nor a reason"
        if errors[row]:
            return "has an image, and a reason why there is none"
        if records.digest(image) != digests[row]:
            return "has an image that is not the one of its digest"
        if start < 0 or data[start : start + length] != image:
            return "has its image at another place than the footer says"
        return "" if _decodes(image) else "has an image that cannot be decoded"

    with ThreadPoolExecutor(CHECKERS) as pool:
        wrong = [(row, text) for row, text in enumerate(pool.map(check, range(len(ids)))) if text]
    if not wrong:
        return []
    row, text = wrong[0]
    return [f"holds {len(wrong)} broken rows of {len(ids)}: row {row} ({ids[row]}) {text}"]


def _decodes(image: bytes) -> bool:
    if png.decode(image) is not None:
        return True
    try:
        decode(image, "it")
    except FigmentError:
        return False
    return True


# ---- what can be kept of a damaged file ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Salvage:
    """What a damaged shard still proves. ``images`` by id, ``digests`` by id of all that had one."""

    images: Mapping[str, bytes] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)


def salvage(data: bytes) -> Salvage:
    """The images of a damaged shard that are, for certain, those which were written.

    An image is proved by its digest, or by the checksum of the pages it lies in; whose it is, by a checksum too. An id that
    is there twice with different images proves nothing. Never raises.
    """
    ids = _column(data, "id") or [(path or "").rpartition(".")[0] for path in _column(data, "image.path") or []]
    certain = _column(data, "digest")
    digests = certain or _column(data, "digest", verified=False) or [None] * len(ids)
    pages = _column(data, "image.bytes")
    sources = [pages] if pages is not None else [_by_place(data), _column(data, "image.bytes", verified=False)]
    sources = [s for s in sources if s is not None and len(s) == len(ids)]
    kept: dict[str, bytes] = {}
    lost = set()
    for row, (own, told) in enumerate(zip(ids, digests, strict=False)):
        proved = (s[row] for s in sources if s[row] and (records.digest(s[row]) == told or (pages and not certain)))
        image = next(proved, None)
        if own and image and _decodes(image) and kept.setdefault(own, image) != image:
            lost.add(own)
    return Salvage(
        {own: image for own, image in kept.items() if own not in lost},
        {own: told for own, told in zip(ids, certain or [], strict=False) if own and told},
    )


def _by_place(data: bytes) -> list[bytes | None] | None:
    """The images by their places in the footer, for which no page has to be in order; None where it does not say."""
    try:
        places = shards.image_places(pq.read_metadata(pa.BufferReader(data)).metadata or {})
        assert places is not None
        return [
            data[max(start, 0) : max(start, 0) + length] if length > 0 else None for start, length in places.tolist()
        ]
    except Exception:  # damage can make it fail in any way
        return None


def _column(data: bytes, name: str, verified: bool = True) -> list[Any] | None:
    """The values of one column; None where they cannot be had, or not with their checksums right."""
    try:
        parquet = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=verified)
        values = parquet.read(columns=[name]).column(0).to_pylist()
    except Exception:  # damage can make pyarrow fail in any way
        return None
    inner = name.partition(".")[2]
    return [None if v is None else v[inner] for v in values] if inner else values


def _quoted(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:50]}..."


def _some(values: Sequence[Any]) -> str:
    return ", ".join(str(v)[:60] for v in values[:SHOWN]) + (", ..." if len(values) > SHOWN else "")

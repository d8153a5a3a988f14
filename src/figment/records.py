"""A record: what vouches for something finished on disk, be it a stage, a LoRA, a model, a table or an export.

A record is the ``stage.json`` of a folder. It says what was made, from which settings and inputs, with the size and the
SHA-256 of every file, and is written last: a folder without one is not finished. See ``docs/format.md``.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from figment.errors import FigmentError
from figment.files import legible, read_bytes, remove, write_atomic
from figment.guard import parse_json

NAME = "stage.json"
#: Of the fingerprints: what is hashed, and how. Folders of version 0.1 of figment (formats 1 to 3) have none.
SCHEME = 4
OWN = (
    "scheme",
    "kind",
    "settings",
    "inputs",
    "fingerprint",
    "files",
    "finished",
    "checksum",
)  # the keys that every record has

IS_FINGERPRINT = re.compile(r"[0-9a-f]{16}", re.ASCII)  # what :func:`fingerprint` gives: nobody else calls a file so

Buffer = bytes  # by another name, since a field of `Written` is called bytes
State = Literal["none", "finished", "damaged", "old", "newer"]


# ---- hashes ----------------------------------------------------------------------------------------------------------


def fingerprint(value: Any) -> str:
    """A 16-digit hash of anything JSON-able, the same on every machine."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def digest(data: bytes) -> str:
    """The content hash of an image's stored bytes, or of weights."""
    return hashlib.sha256(data).hexdigest()[:32]


@dataclass(frozen=True)
class Written:
    """What a file was when it was written. ``rows`` is that of a shard."""

    bytes: int
    sha256: str
    rows: int | None = None

    @classmethod
    def of(cls, data: Buffer, rows: int | None = None) -> Written:
        return cls(len(data), hashlib.sha256(data).hexdigest(), rows)

    @classmethod
    def read(cls, told: Any) -> Written | None:
        """From JSON; None for what is none."""
        try:
            return cls(int(told["bytes"]), str(told["sha256"]), told.get("rows"))
        except (KeyError, TypeError, ValueError, AttributeError):
            return None

    def is_of(self, data: Buffer) -> bool:
        """Whether a file still is what was written."""
        return len(data) == self.bytes and hashlib.sha256(data).hexdigest() == self.sha256

    def plain(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if value is not None}


# ---- a record --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Record:
    """A folder made from known inputs with known settings, finished or not.

    ``settings`` is everything the files depend on, under the names the recipe uses, so that a change can be named;
    ``inputs`` maps what was read (other records, models, real images) to fingerprints.
    """

    folder: Path
    kind: str  # "prompts", "images", "model" ...
    settings: Mapping[str, Any]
    inputs: Mapping[str, str]
    name: str = NAME  # another where every file that is not hidden would be read as data

    @property
    def path(self) -> Path:
        return self.folder / self.name

    def identity(self) -> dict[str, Any]:
        """Kind, settings and inputs as plain data: what the fingerprint is of."""
        own = {"kind": self.kind, "settings": dict(self.settings), "inputs": dict(self.inputs)}
        return json.loads(json.dumps(own, default=str))

    @property
    def fingerprint(self) -> str:
        return fingerprint({"scheme": SCHEME, **self.identity()})

    def is_finished(self) -> bool:
        """Finished, from these inputs and settings, and none of its files is gone."""
        found = read(self.folder, self.name)
        if found.state != "finished" or found.data["fingerprint"] != self.fingerprint:
            return False
        return all((self.folder / name).is_file() for name in found.data["files"])

    def write(self, name: str, data: bytes, rows: int | None = None) -> Written:
        """One file of the folder, whole or not at all."""
        write_atomic(self.folder / name, data)
        return Written.of(data, rows)

    def finish(self, files: Mapping[str, Written], **facts: Any) -> None:
        """Write the record: ``files`` by their names below the folder, ``facts`` are whatever there is to report."""
        own = {
            "scheme": SCHEME,
            **self.identity(),
            "fingerprint": self.fingerprint,
            **facts,
            "files": {name: files[name].plain() for name in sorted(files)},
            "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }
        write_atomic(self.path, _sealed(own))

    def forget(self) -> None:
        """Take the record away: what follows changes what it vouches for."""
        remove(self.path)

    def check_not_of_old(self) -> None:
        """Raise FigmentError where the folder is of another version of figment, which is read but never written to."""
        found = read(self.folder, self.name)
        if found.state in ("old", "newer"):
            raise FigmentError(f"{self.folder} {found.problem}")


def _sealed(own: Mapping[str, Any]) -> bytes:
    """As it lies on disk: with a checksum of its own, so that no byte of it can change unnoticed."""
    return _dumped({**own, "checksum": hashlib.sha256(_dumped(own)).hexdigest()})


def _is_sealed(data: Mapping[str, Any], raw: bytes) -> bool:
    return _sealed({key: value for key, value in data.items() if key != "checksum"}) == raw


def _dumped(own: Mapping[str, Any]) -> bytes:
    text = json.dumps(own, indent=2, ensure_ascii=False, default=str) + "\n"
    return text.encode(errors="backslashreplace")  # half a surrogate pair becomes JSON's own escape of it


# ---- reading one -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """The record of a folder as it was found; ``data`` is empty where there is none that can be trusted."""

    folder: Path
    state: State
    data: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""

    @property
    def record(self) -> Record:
        """Of a finished one."""
        return Record(self.folder, self.data["kind"], self.data["settings"], self.data["inputs"])

    @property
    def files(self) -> dict[str, Written]:
        """What it vouches for. Of an old one, as far as it says."""
        told = self.data.get("files", {})
        read = {name: Written.read(one) for name, one in told.items()} if isinstance(told, Mapping) else {}
        return {name: one for name, one in read.items() if one is not None and not _leads_out(name)}


def read(folder: Path, name: str = NAME) -> Found:
    """The record of a folder: of a wrong type, cut short or empty it is damaged, of version 0.1 it is old. Raises FigmentError for a
    store that cannot be reached, and for nothing else."""
    path = folder / name
    try:
        raw = read_bytes(path, "record")
    except FileNotFoundError:
        return Found(folder, "none")
    except (OSError, ValueError) as error:
        return Found(folder, "damaged", problem=f"{NAME} cannot be read ({_short(error)})")
    try:
        data = parse_json(raw, path, "record")
    except (ValueError, FigmentError) as error:
        return Found(folder, "damaged", problem=f"{NAME} cannot be read ({_short(error)})")
    if not isinstance(data, dict):
        return Found(folder, "damaged", problem=f"{NAME} is not a record: it holds a {type(data).__name__}")
    of_old = (
        "fingerprint" in data and "kind" not in data and "scheme" not in data
    )  # not all of version 0.1 have a format
    version = data.get("format", 0) if of_old else data.get("scheme")
    if not isinstance(version, int) or isinstance(version, bool):
        return Found(folder, "damaged", problem=f"{NAME} is not a record: it does not say of which version it is")
    if of_old:
        return Found(folder, "old", data, _other("an older", version))
    if version != SCHEME:
        return Found(folder, "newer", data, _other("a newer", version)) if version > SCHEME else _changed(folder)
    return _trusted(folder, raw, data)


def _trusted(folder: Path, raw: bytes, data: dict[str, Any]) -> Found:
    """A record of our own version, if it is as it was written."""
    kinds = {"kind": str, "settings": dict, "inputs": dict, "fingerprint": str, "files": dict}
    wrong = [key for key, kind in kinds.items() if not isinstance(data.get(key), kind)]
    if wrong:
        return Found(
            folder,
            "damaged",
            problem=f"{NAME} is not as it was written: {', '.join(wrong)} is missing or of a wrong type",
        )
    own = Record(folder, data["kind"], data["settings"], data["inputs"])
    if own.fingerprint != data["fingerprint"] or not _is_sealed(data, raw):
        return _changed(folder)
    if any(Written.read(one) is None for one in data["files"].values()):
        return Found(folder, "damaged", problem=f"{NAME} is not as it was written: a file in it has no checksum")
    astray = next(filter(_leads_out, data["files"]), None)
    if astray is not None:  # a checksum is no signature: what it names may be taken away one day
        return Found(folder, "damaged", problem=f"{NAME} names a file outside of its folder: {astray[:80]!r}")
    return Found(folder, "finished", data)


def _leads_out(name: str) -> bool:
    return name.startswith("/") or ".." in name.split("/") or not name or "\0" in name


def _changed(folder: Path) -> Found:
    return Found(
        folder,
        "damaged",
        problem=f"{NAME} was changed since it was written: its checksum is another",
    )


def _other(whose: str, version: int) -> str:
    return (
        f"was written by {whose} figment, in format {version}; this one writes format {SCHEME}. It is read as it is (report,"
        " export, verify) and never written to. Make it again in another folder with --out, or go on with the figment that wrote it."
    )


def finished(folder: Path) -> Mapping[str, Any]:
    """What a finished record says, of this version or an old one. Raises FigmentError where there is none."""
    found = read(folder)
    if found.state in ("finished", "old"):
        return found.data
    with legible(folder / NAME):
        if found.state == "none":
            raise FileNotFoundError(f"{folder} has no {NAME}: it is not finished")
        raise ValueError(found.problem or "it is damaged")


def vouched(folder: Path, name: str) -> bytes:
    """A file as the folder's record vouches for it, for whoever shows what is in it. Raises FigmentError for one that was changed.

    What no record speaks of, as in a run that is not finished, is taken as it is.
    """
    with legible(folder / name):
        data, told = read_bytes(folder / name), read(folder).files.get(name)
        if told is not None and not told.is_of(data):
            raise ValueError(f"it was changed since it was written: {NAME} has another checksum of it")
    return data


def vouch(folder: Path, names: Iterable[str]) -> None:
    """Renew what a finished record says of files that were written again since, such as a report made anew."""
    found = read(folder)
    if found.state != "finished":
        return
    files = found.files | {name: Written.of(read_bytes(folder / name)) for name in names}
    facts = {key: value for key, value in found.data.items() if key not in OWN}
    found.record.finish(files, **facts)


def problems(found: Found, names: Iterable[str] | None = None) -> dict[str, str]:
    """Name -> what is wrong with a file that a record vouches for; the record says what it should be."""
    wrong = {}
    for name, told in found.files.items():
        if names is not None and name not in names:
            continue
        try:
            data = read_bytes(found.folder / name)
        except FileNotFoundError:
            wrong[name] = "is not there"
        except (OSError, ValueError) as error:
            wrong[name] = f"cannot be read ({_short(error)})"
        else:
            if not told.is_of(data):
                size = f", it has {len(data):,} bytes instead of {told.bytes:,}" if len(data) != told.bytes else ""
                wrong[name] = f"is not the file that {NAME} has the checksum of{size}"
    return wrong


# ---- single files that anybody may add -------------------------------------------------------------------------------


def write_beside(path: Path, data: bytes, rows: int | None = None) -> None:
    """A file of a cache, to which many add: what vouches for it lies beside it, as ``<stem>.json``, and is written last."""
    write_atomic(path, data)
    write_atomic(
        path.with_suffix(".json"), _sealed({"scheme": SCHEME, "file": path.name, **Written.of(data, rows).plain()})
    )


def write_answer(path: Path, told: Mapping[str, Any]) -> None:
    """A file of a cache that is JSON itself: it carries its own checksum."""
    write_atomic(path, _sealed({"scheme": SCHEME, **told}))


def read_answer(path: Path) -> Mapping[str, Any] | None:
    """What :func:`write_answer` wrote; None for a file that is missing, damaged or of an older version."""
    try:
        raw = read_bytes(path, "record")
        told = parse_json(raw, path, "record")
        return told if _is_sealed(told, raw) else None
    except FigmentError:  # a store that cannot be reached: who knows what it holds
        raise
    except Exception:  # missing, cut short, or of anybody
        return None


def beside(path: Path) -> Written | None:
    """What was said of a file of a cache when it was written; None where nothing can be told."""
    try:
        raw = read_bytes(path.with_suffix(".json"), "record")
        told = parse_json(raw, path.with_suffix(".json"), "record")
        return Written.read(told) if _is_sealed(told, raw) and told["file"] == path.name else None
    except FigmentError:  # a store that cannot be reached: who knows what it holds
        raise
    except Exception:  # missing, cut short, or of anybody
        return None


# ---- what changed ----------------------------------------------------------------------------------------------------


def what_changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """``generate.guidance_scale was 2.0 and is now 3.0; ...``."""
    old, new = _flat(before), _flat(now)
    changes = [
        f"{key} was {_quoted(old.get(key))} and is now {_quoted(new.get(key))}"
        for key in sorted(old | new)
        if old.get(key) != new.get(key)
    ]
    return "; ".join(changes[:5]) or "its format version"


def _quoted(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]}..."


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, item in value.items():
        name = key if key in ("settings", "inputs") and not prefix else f"{prefix}{key}"
        if isinstance(item, Mapping):
            flat.update(_flat(item, "" if name in ("settings", "inputs") else f"{name}."))
        else:
            flat[name] = item
    return flat


def _short(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:160].rstrip(".")

"""Captions as data sets bring them, row by row: no file is held whole, but for JSON that is one value."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TextIO

import pyarrow as pa

from figment import guard, records
from figment.errors import FigmentError
from figment.files import as_path, is_remote, load_json, open_parquet, read_range
from figment.images_in.columns import features_of, names_of
from figment.images_in.datasets import PREFIX, is_saved, library_of_datasets, named_table, saved_table
from figment.images_in.folder import SUFFIXES as IMAGES
from figment.images_in.webdataset import samples_of
from figment.words import storable

COLUMNS = ("caption", "text", "prompt")  # in any case: LAION has TEXT
#: What files of captions end in. A folder is read as the first of these that it holds: img2dataset puts a table of the same
#: captions, and statistics in JSON, beside every tar.
SUFFIXES = (".tar", ".parquet", ".jsonl", ".json", ".csv", ".tsv")
LIST = "annotations"  # where the JSON of RedCaps and COCO has its rows
ENDS = 2**20  # bytes at both ends of a file that it is known by
BATCH = 8_192  # rows of a table in memory
ADDRESS = re.compile(r"\w+://\S+$")

#: A caption (a text, a list of texts, or anything else where there is none), its class where one was asked for, and its file.
Row = tuple[object, object, str]


@dataclass(frozen=True)
class CaptionFiles:
    """The captions behind a name in a recipe.

    Args:
        source: a file (CSV, TSV, JSON lines, JSON, Parquet, a tar of WebDataset), a folder of such, a folder that ``save_to_disk``
            of the ``datasets`` library wrote, or ``datasets:NAME:SPLIT``.
        column: what holds the captions; None = ``caption``, ``text`` or ``prompt``, in any case; of tars ``.txt``, else ``.json``.
        label_column: what holds the class of each; None = none is read. Of tars it is a field of ``.json``, or ``cls``.

    Raises FigmentError for a place that holds none of these.
    """

    source: str
    column: str | None = None
    label_column: str | None = None

    @cached_property
    def files(self) -> list[Path]:
        """What is read; of a data set of the ``datasets`` library, where its rows lie."""
        if self._table is not None:
            return [Path(file["filename"]) for file in self._table.cache_files]
        path = as_path(self.source)
        if path.is_file():
            if path.suffix.lower() not in SUFFIXES:
                raise FigmentError(
                    f"prompts.source: {path} is of no kind that captions are read from. Kinds: {', '.join(SUFFIXES)}."
                )
            return [path]
        named = (p for p in path.rglob("*.*") if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
        found = sorted(p for p in named if not p.is_dir())
        kinds = [[p for p in found if p.suffix.lower() == suffix] for suffix in SUFFIXES]
        if not found:
            raise FigmentError(
                f"prompts.source: {path} holds no captions. Name a file ({', '.join(SUFFIXES)}), a folder of such, one that"
                " save_to_disk of the datasets library wrote, or datasets:NAME:SPLIT."
            )
        return next(kind for kind in kinds if kind)

    @cached_property
    def _table(self) -> Any:
        """Of the ``datasets`` library; None for files."""
        if self.source.startswith(PREFIX):
            return named_table(self.source)
        path = as_path(self.source)
        return saved_table(path) if not is_remote(path) and is_saved(path) else None

    @property
    def fingerprint(self) -> str:
        """Of the files by name, size and both ends: a data set of a terabyte is not read to know it again. Of a data set of the
        ``datasets`` library also by its split and length: ``train[:50]`` and ``train[50:]`` lie in the same files."""
        names = [self._name(path) if self._table is None else "" for path in self.files]
        own: list[Any] = [list(z) for z in zip(names, map(_ends, self.files), strict=True)]
        if self._table is not None:
            split = self.source.removeprefix(PREFIX).partition(":")[2] if self.source.startswith(PREFIX) else ""
            own.append([split, len(self._table)])
        return records.fingerprint(own)

    def _name(self, path: Path) -> str:
        folder = as_path(self.source)
        return path.name if path == folder else path.relative_to(folder).as_posix()

    def rows(self) -> Iterator[Row]:
        """All captions in the order of the files. Raises FigmentError for a damaged file, and one without captions."""
        if self._table is not None:
            yield from self._of_datasets()
            return
        readers = {".tar": self._of_tar, ".parquet": self._of_parquet, ".jsonl": self._of_lines, ".json": self._of_json}
        for path in self.files:
            read, name = readers.get(path.suffix.lower(), self._of_csv), storable(self._name(path))
            with _explained(path):
                yield from ((caption, label, name) for caption, label in read(path))

    # ---- which column ------------------------------------------------------------------------------------------------

    def _columns(self, where: object, names: Sequence[str]) -> tuple[str, str | None]:
        """Those of the captions and of the classes. Raises FigmentError where there is none."""
        usual = (name for known in COLUMNS for name in names if name.lower() == known)
        caption = next(usual, None) if self.column is None else self.column
        asked = {"column": caption, **({"label_column": self.label_column} if self.label_column else {})}
        for field, name in asked.items():
            if name not in names:
                lacking = f"called {' or '.join(COLUMNS)}" if name is None else repr(name)
                raise FigmentError(
                    f"{where} has no column {lacking}; there are: {', '.join(map(str, names))[:300]}. Name one in prompts.{field}."
                )
        return str(caption), self.label_column

    # ---- each kind of file -------------------------------------------------------------------------------------------

    def _of_csv(self, path: Path) -> Iterator[tuple[object, object]]:
        with _opened(path) as file:
            start = file.readline()
            file.seek(0)
            tabs = path.suffix.lower() == ".tsv" or "\t" in start  # a caption has commas, and no tabs
            delimiter = "\t" if tabs else max(",;", key=start.count)
            quoting: Literal[0, 3] = csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL
            first = next(csv.reader([start], delimiter=delimiter, quoting=quoting), [])
            bare = _bare_column(first) if self.column is None else None
            if bare is not None:  # as CC3M and CC12M are handed out: addresses and captions, no headings, no quotes
                if self.label_column is not None:
                    raise FigmentError(f"{path} has no headings: prompts.label_column cannot name a column of it.")
                for row in csv.reader(file, delimiter=delimiter, quoting=quoting, strict=True):
                    yield row[bare] if len(row) > bare else None, None
                return
            if tabs and _has_quoted_cells(file):
                quoting = csv.QUOTE_MINIMAL
            reader = csv.DictReader(file, delimiter=delimiter, restkey="", quoting=quoting, strict=True)
            reader.fieldnames = [name.strip() for name in reader.fieldnames or []]
            caption, label = self._columns(path, reader.fieldnames)
            yield from ((row.get(caption), row.get(label) if label else None) for row in reader)

    def _of_lines(self, path: Path) -> Iterator[tuple[object, object]]:
        with _opened(path) as file:
            yield from self._of_objects(_lines(path, file))

    def _of_json(self, path: Path) -> Iterator[tuple[object, object]]:
        told = load_json(path, "table of captions")
        rows = told.get(LIST) if isinstance(told, dict) else told
        if not isinstance(rows, list):
            raise FigmentError(f"{path} holds no captions: a list of objects is wanted, or {LIST!r} with such a list.")
        yield from self._of_objects((f"{path}, row {i}", row) for i, row in enumerate(rows))

    def _of_objects(self, rows: Iterator[tuple[str, object]]) -> Iterator[tuple[object, object]]:
        caption: str | None = None
        for where, row in rows:
            if not isinstance(row, dict):
                raise FigmentError(f'{where}: each row must be an object, such as {{"caption": ...}}.')
            if caption is None:
                caption, _ = self._columns(where, list(row))
            yield row.get(caption), row.get(self.label_column) if self.label_column else None

    def _of_parquet(self, path: Path) -> Iterator[tuple[object, object]]:
        parquet = open_parquet(path)
        schema = parquet.schema_arrow
        caption, label = self._columns(path, schema.names)
        names = names_of(features_of(schema.metadata or {}).get(label or "", {}))
        for batch in parquet.iter_batches(BATCH, columns=[caption, *([label] if label else [])]):
            yield from _pairs(
                {name: batch.column(name).to_pylist() for name in batch.schema.names}, caption, label, names
            )

    def _of_datasets(self) -> Iterator[Row]:
        caption, label = self._columns(self.source, self._table.column_names)
        feature = self._table.features[label] if label else None
        names = feature.names if isinstance(feature, library_of_datasets().ClassLabel) else []
        texts = self._table.select_columns([caption, *([label] if label else [])])  # images beside are not decoded
        for batch in texts.iter(batch_size=BATCH):
            yield from ((text, value, self.source) for text, value in _pairs(batch, caption, label, names))

    def _of_tar(self, path: Path) -> Iterator[tuple[object, object]]:
        there, caption = False, ""
        for sample in samples_of(path):
            in_text = self.column is None and "txt" in sample.fields
            record = {} if in_text and self.label_column in (None, "cls") else sample.record()
            if not in_text and not record:
                continue
            there = True
            if self.label_column == "cls" and "cls" in sample.fields:
                record["cls"] = sample.read("cls").decode("utf-8", "replace").strip()
            if not in_text and not caption:
                caption, _ = self._columns(f"{path}: {sample.key}.json", list(record))
            text = sample.read("txt").decode("utf-8", "replace") if in_text else record.get(caption)
            yield text, record.get(self.label_column) if self.label_column else None
        if not there:
            raise FigmentError(f"{path} holds no captions: a sample's is its .txt, or stands in its .json.")


def _lines(path: Path, file: TextIO) -> Iterator[tuple[str, object]]:
    """Where each object of a file of JSON lines is, and the object."""
    for i, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            yield f"{path}, line {i}", guard.parse_json(line, f"{path}, line {i}", "table of captions")
        except ValueError as error:
            raise ValueError(f"line {i}: no JSON ({error})") from error


def _pairs(
    columns: Mapping[str, Sequence[object]], caption: str, label: str | None, names: Sequence[str]
) -> Iterator[tuple[object, object]]:
    """Caption and class of each row; a number that stands for one of ``names`` becomes that."""
    labels = columns[label] if label else [None] * len(columns[caption])
    for text, value in zip(columns[caption], labels, strict=True):
        yield text, (names[value] if 0 <= value < len(names) else None) if names and isinstance(value, int) else value


def _bare_column(row: Sequence[str]) -> int | None:
    """Where the caption stands in a row that is data: the first cell with a letter in it that is neither an address nor the path of
    an image. None for headings, and for what has no such neighbour."""
    places = [bool(ADDRESS.match(cell)) or cell.lower().endswith(IMAGES) for cell in row]
    words = (i for i, cell in enumerate(row) if not places[i] and any(map(str.isalpha, cell)))
    return next(words, None) if any(places) else None


def _has_quoted_cells(file: TextIO) -> bool:
    """Whether quotation marks around cells of a file with tabs are the table's, as spreadsheets write them; else they are the
    captions' own, one of which would swallow all rows up to the next. The file is then where it was."""
    try:
        for _ in csv.reader(file, delimiter="\t", strict=True):
            pass
    except csv.Error:
        return False
    finally:
        file.seek(0)
    return True


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    if not is_remote(path):
        guard.check(path)
    with path.open("rb") as file, io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
        yield text


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """What readers raise on a file that is damaged or of another kind, in one paragraph."""
    try:
        yield
    except (OSError, UnicodeDecodeError, ValueError, csv.Error, pa.ArrowException) as error:
        reason = " ".join(str(error).split())[:200].rstrip(".")
        raise FigmentError(
            f"{path} cannot be read as captions: {reason}. Is it whole, of the kind that its name says, and UTF-8 where it is text?"
        ) from error


def _ends(path: Path) -> list[Any]:
    """Size of a file, and a hash of its first and its last bytes."""
    if is_remote(path):
        size = path.stat().st_size
        first, last = read_range(path, 0, min(ENDS, size)), read_range(path, max(0, size - ENDS), min(ENDS, size))
    else:
        with _explained(path):
            guard.check(path)
            with path.open("rb") as file:
                size, first = path.stat().st_size, file.read(ENDS)
                file.seek(max(0, size - ENDS))
                last = file.read()
    return [size, records.digest(first + last)]

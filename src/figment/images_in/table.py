"""Images that a table names: a CSV of paths, or the ``metadata.jsonl`` of a folder as ``datasets`` has it."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from figment.errors import FigmentError
from figment.files import is_remote, read_bytes, read_text
from figment.guard import parse_json
from figment.images_in import splits
from figment.images_in.folder import FileImages
from figment.images_in.labels import CLASS_COLUMNS, labels_of, listed, normalised
from figment.words import storable

PATH_COLUMNS = ("path", "file_name", "filename", "image")
OF_CLASSES = "_classes.csv"  # as Roboflow calls a table with a column for each class
METADATA = ("metadata.jsonl", "metadata.csv", OF_CLASSES)


def open_csv(table: Path, class_names: Sequence[str], split: str = "") -> FileImages:
    """A CSV with a column of paths (``path``, ``file_name``, ``filename`` or ``image``) and the classes: one column (``class_name``,
    ``class`` or ``label``), or one for each class with a single 1 in each line, as annotation tools export them.

    A relative path starts at the file's own folder; a class is a name of the task or its number, from 0. With a ``split``
    only lines with it in the column ``split`` count. Raises FigmentError where a column or an image is missing, a class is
    none of the task's, an image is named twice, or there are several splits and none is asked for.
    """
    return _open(table, read_csv(table), class_names, split, inside=False)


def names_images(table: Path) -> bool:
    """Whether a CSV has a column of paths: one without is about something else. What cannot be read is taken for one, so that whoever
    reads it says why."""
    try:
        line = re.split(rb"[\r\n]", read_bytes(table, "table of images"), maxsplit=1)[0]
        heading = line.decode("utf-8-sig", "replace")
        columns = next(csv.reader([heading], delimiter=_delimiter(heading)), [])
    except (OSError, csv.Error):
        return True
    return not columns or any(name.strip().lower() in PATH_COLUMNS for name in columns)


def open_metadata(folder: Path, class_names: Sequence[str], split: str = "") -> FileImages | None:
    """A folder whose ``metadata.jsonl``, ``metadata.csv`` or ``_classes.csv`` says which class each image is of; None where none does.

    Raises FigmentError as :func:`open_csv` does, and for an image outside of the folder.
    """
    table = next((folder / name for name in METADATA if (folder / name).is_file()), None)
    if table is None:
        return None
    rows = read_table(table)
    says = (
        table.name == OF_CLASSES or not rows or _column(rows[0][1], CLASS_COLUMNS) or _one_hot(rows[0][1], class_names)
    )
    if not says:
        return None
    return _open(table, rows, class_names, split, inside=True)


Row = tuple[int, dict[str, Any]]  # its line in the file, its values


def _open(table: Path, rows: Sequence[Row], class_names: Sequence[str], split: str, inside: bool) -> FileImages:
    rows = splits.rows_of(rows, split, table)
    if not rows:
        raise FigmentError(f"{table} names no images. Write one line an image: its path and its class.")
    path_column = _needed(table, rows[0][1], PATH_COLUMNS, "the path of each image")
    names = list(_names(table, rows, path_column))
    paths = [_image(table, line, name, inside) for line, name in names]
    labels = labels_of(_classes(table, rows, class_names), class_names, table)
    return FileImages(paths, labels, [storable(name) for _, name in names], table=[row for _, row in rows])


def _classes(table: Path, rows: Sequence[Row], class_names: Sequence[str]) -> list[object]:
    """The class of each row, as the table says it."""
    columns = [] if _column(rows[0][1], CLASS_COLUMNS) else _one_hot(rows[0][1], class_names)
    if not columns:
        column = _needed(table, rows[0][1], CLASS_COLUMNS, "the class of each image")
        return [row.get(column) for _, row in rows]
    found: list[object] = []
    for line, row in rows:
        own = [name for name in columns if str(row.get(name)).strip() in ("1", "1.0", "True", "true")]
        if len(own) != 1:
            raise FigmentError(
                f"{table}, line {line}: one column must hold 1, that of the image's class; {listed(own) or 'none'} does. Images of"
                " several classes or none cannot be used here: take them out."
            )
        found += own
    return found


def _one_hot(row: Mapping[str, Any], class_names: Sequence[str]) -> list[str]:
    """The columns that are called as classes of the task, where at least two are."""
    wanted = {normalised(name) for name in class_names}
    columns = [name for name in row if normalised(name) in wanted]
    return columns if len(columns) > 1 else []


def _names(table: Path, rows: Iterable[Row], column: str) -> Iterator[tuple[int, str]]:
    """Line and path of each row, each path once."""
    seen: dict[str, int] = {}
    for line, row in rows:
        name = row.get(column)
        if not isinstance(name, str) or not name.strip() or "\0" in name or storable(name) != name:
            raise FigmentError(f"{table}, line {line}: {column!r} must be the path of an image; this is {name!r}.")
        if name in seen:
            raise FigmentError(f"{table}, line {line}: {name} is named in line {seen[name]} already. Take one out.")
        seen[name] = line
        yield line, name


def _image(table: Path, line: int, name: str, inside: bool) -> Path:
    parts = PurePosixPath(name)
    if inside and (parts.is_absolute() or ".." in parts.parts):
        raise FigmentError(
            f"{table}, line {line}: {name} lies outside of {table.parent}. Name it relative to that folder."
        )
    path = table.parent / name
    try:
        # A remote file that is missing is named when it is read: a request for each would take hours.
        there = is_remote(path) or path.is_file()
    except OSError:  # a name that no disk can have
        there = False
    if not there:
        raise FigmentError(
            f"{table}, line {line}: there is no image {str(path)[:500]}. A relative path starts at the folder of {table.name}."
        )
    return path


def _column(row: Mapping[str, Any], allowed: Sequence[str]) -> str | None:
    """The first of the allowed columns that there is."""
    return next((name for name in allowed if name in row), None)


def _needed(table: Path, row: Mapping[str, Any], allowed: Sequence[str], what: str) -> str:
    column = _column(row, allowed)
    if column is None:
        raise FigmentError(
            f"{table} has no column for {what}. It may be called {', '.join(allowed)}; there are: {', '.join(map(str, row))[:300]}."
        )
    return column


def read_pairs(table: Path, join: str | None = None) -> dict[str, str]:
    """A CSV of two columns, first -> second; a line of headings is a pair like any other. ``join`` allows more columns, and goes between
    the second and what follows it.

    Raises FigmentError for a file that cannot be read, a line that is no pair, and a first that has two seconds.
    """
    pairs: dict[str, str] = {}
    text = _text(table)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text))
    try:
        for row in filter(None, reader):
            cells = [cell.strip() for cell in row]
            if join is not None:
                cells = [cells[0], join.join(filter(None, cells[1:]))]
            first, second = cells if len(cells) == 2 else ("", "")
            if not (first and second):
                wanted = "two columns are wanted, and nothing else" if join is None else "a name is wanted, then words"
                raise FigmentError(f"{table}, line {reader.line_num}: {wanted}; here is {str(row)[:200]}.")
            if pairs.setdefault(first, second) != second:
                raise FigmentError(
                    f"{table}, line {reader.line_num}: {first[:80]!r} has {second[:60]!r} here and {pairs[first][:60]!r} before."
                    " Take one out."
                )
    except csv.Error as error:
        raise FigmentError(f"{table}, line {reader.line_num}: this is not CSV ({error}).") from error
    return pairs


def _text(table: Path) -> str:
    try:
        return read_text(table, "table of images")
    except (OSError, UnicodeDecodeError) as error:
        raise FigmentError(f"{table} cannot be read ({error}). Save it again as UTF-8.") from error


def read_csv(table: Path) -> list[Row]:
    """Line and values of each row, by headings in small letters. Raises FigmentError for a file that cannot be read."""
    text = _text(table)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=_delimiter(text), restkey="")
    try:
        reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or []]
        return [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise FigmentError(f"{table}, line {reader.line_num}: this is not CSV ({error}).") from error


def read_table(table: Path) -> list[Row]:
    """Line and values of each row of a ``.csv`` or ``.jsonl``. Raises FigmentError for a file that cannot be read."""
    return read_csv(table) if table.suffix.lower() == ".csv" else _read_jsonl(table)


def _delimiter(text: str) -> str:
    """Spreadsheets write semicolons where the comma is a decimal sign."""
    return max(",;\t", key=text.partition("\n")[0].count)


def _read_jsonl(table: Path) -> list[Row]:
    rows: list[Row] = []
    for line, text in enumerate(_text(table).split("\n"), 1):  # not splitlines: JSON strings may hold other line ends
        if not text.strip():
            continue
        try:
            row = parse_json(text, f"{table}, line {line}", "table of images")
        except ValueError as error:
            raise FigmentError(f"{table}, line {line}: this is not JSON ({error}).") from error
        if not isinstance(row, dict):
            raise FigmentError(f'{table}, line {line}: each line must be an object such as {{"file_name": ...}}.')
        rows.append((line, row))
    return rows

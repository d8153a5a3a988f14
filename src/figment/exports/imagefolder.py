"""Class folders of image files and a ``metadata.jsonl``: what torchvision's and datasets' ImageFolder open."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from figment import files
from figment.exports.card import card
from figment.exports.folder import put, whole_file
from figment.exports.names import Names, class_folders
from figment.exports.source import Source
from figment.progress import progress

LAYOUT = (
    "`{place}<class>/<id>{suffix}`; `{place}metadata.jsonl` has a line for each image, and `classes.json` the classes in label order with"
    " their folders, whose names are changed where a file system could not hold them."
)


def write(out: Path, source: Source, resuming: bool) -> None:
    for _ in write_folder(out, "", source, resuming):
        pass


def write_folder(out: Path, place: str, source: Source, resuming: bool, more: str = "") -> Iterator[tuple[str, bytes]]:
    """Write the class folders and their ``metadata.jsonl`` into the folder ``place`` of an export (``train/``; empty: into itself), and
    at the end ``classes.json`` and the card, which says ``more`` of the layout. Gives the path of each image, from there, and its file."""
    with whole_file(out / place / "metadata.jsonl") as table:
        for name, data, record in write_images(out / place, source, resuming):
            table.write((json.dumps({"file_name": name, **record}) + "\n").encode())
            yield name, data
    write_classes(out / "classes.json", source)
    layout = LAYOUT.format(place=place, suffix=source.suffix) + more
    data_files = [f"{place}**/*{source.suffix}", f"{place}metadata.jsonl"]
    files.write_atomic(out / "README.md", card(source, data_files, layout))


def write_images(folder: Path, source: Source, resuming: bool) -> Iterator[tuple[str, bytes, dict[str, Any]]]:
    """Write ``<class>/<id>.png`` into a folder, one after another, and give the path of each, its file and what is known of it."""
    folders = class_folders([*source.class_names, "no class"])  # the last one: the label -1
    names = [Names() for _ in folders]
    with progress("export", len(source)) as advance:
        for i, record in enumerate(source.records()):
            label, data = record["label"], source.data(i)
            # datasets looks at every dot in a file's name for what kind of file it is.
            stem = names[label](record["id"].replace("/", "-").replace(".", "_"))
            name = f"{folders[label]}/{stem}{source.suffix}"
            put(folder / name, data, resuming)
            advance()
            yield name, data, record


def write_classes(path: Path, source: Source) -> None:
    """The classes in label order: JSON, their true names, folders and numbers of images."""
    counts = Counter(source.images.labels.tolist())
    named = zip(source.class_names, class_folders(source.class_names), strict=True)
    files.write_json(
        path,
        [
            {"label": label, "class_name": name, "folder": folder, "images": counts[label]}
            for label, (name, folder) in enumerate(named)
        ],
    )

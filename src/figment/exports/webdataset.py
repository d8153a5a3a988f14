"""Tars for streaming, with the samples of img2dataset: ``train-00003.tar`` holds ``000030017.png`` (or ``.jpg``, ``.webp``), ``.txt``,
``.json``, ``.cls``.

Written with Python's own tarfile: the webdataset package is not needed, and the same images give the same bytes, since no
time of writing is in them. ``_info.json`` tells timm how many samples each tar holds. ``train`` stands in the names of the tars since
``datasets`` takes all that is there for tars where no name says a split.
"""

from __future__ import annotations

import io
import json
import math
import tarfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image

from figment import files
from figment.exports.card import card
from figment.exports.folder import whole_file
from figment.exports.source import Source
from figment.progress import progress
from figment.saving import suffix

LAYOUT = (
    "Tars of samples, as img2dataset lays them out: the image, `.txt` (the prompt), `.cls` (the label) and `.json` (all that is"
    " known of the image, its class's name too; a score that was not taken is `NaN`). `_info.json` has the number of samples in each tar, for timm."
)


def write(out: Path, source: Source, resuming: bool) -> None:
    records, portions = source.records(), source.shards()
    names = [f"train-{shard:05d}.tar" for shard in range(len(portions))]
    with progress("export", len(source)) as advance:
        for shard, indices in enumerate(portions):
            path = out / names[shard]
            own = list(islice(records, len(indices)))
            if not (resuming and path.is_file()):
                with whole_file(path) as file, tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
                    for number, (i, record) in enumerate(zip(indices, own, strict=True)):
                        key = f"{shard:05d}{number:04d}"
                        for extension, data in _sample(key, source.data(i), record):
                            _add(tar, f"{key}.{extension}", data)
            advance(len(indices))
    split = {"name": "train", "filenames": names, "shard_lengths": [*map(len, portions)], "num_samples": len(source)}
    files.write_json(out / "_info.json", {"splits": {"train": split}})
    files.write_atomic(out / "README.md", card(source, ["*.tar"], LAYOUT))


def _sample(key: str, image: bytes, record: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    # Every sample has every field, and null is no type: `datasets` takes fields and types from the first samples, and drops
    # what only later ones have. Only scores may be missing.
    known = {name: math.nan if value is None else value for name, value in record.items()}
    with Image.open(io.BytesIO(image)) as opened:
        width, height = opened.size
    # The names that img2dataset gives: key, caption, status, width, height.
    theirs = {"key": key, "caption": record["prompt"], "status": "success", "width": width, "height": height}
    yield suffix(image)[1:], image
    yield "txt", record["prompt"].encode()
    yield "json", json.dumps({**theirs, **known}).encode()
    yield "cls", str(record["label"]).encode()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))

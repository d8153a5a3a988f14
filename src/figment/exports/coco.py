"""A ``labels.json`` in COCO's words, and the images in ``data/``: classification, as iNaturalist and COCO Camera Traps have it.

An annotation names the category of a whole image and has no box. A category's id is the label, which begins at 0; the ids of
images and annotations begin at 1, since pycocotools takes 0 for no annotation.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image

from figment.exports.folder import whole_file
from figment.exports.imagefolder import write_folder
from figment.exports.source import Source

MORE = (
    " `labels.json` says the same in COCO's words: `images`, whose `file_name` starts at `data/`, `categories`, whose `id` is the label,"
    " and `annotations`, one for each image that has a class, without boxes."
)


def write(out: Path, source: Source, resuming: bool) -> None:
    written = write_folder(out, "data/", source, resuming, MORE)
    labels = source.images.labels.tolist()
    with whole_file(out / "labels.json") as file:
        info = {"description": "Generated images (synthetic)", "contributor": "figment", "version": source.fingerprint}
        file.write(f'{{"info": {json.dumps(info)},\n"licenses": []'.encode())
        _list(file, "categories", ({"id": i, "name": name} for i, name in enumerate(source.class_names)))
        classified = ((i, label) for i, label in enumerate(labels, 1) if label >= 0)
        _list(file, "annotations", ({"id": i, "image_id": i, "category_id": label} for i, label in classified))
        _list(file, "images", (_image(i, name, data) for i, (name, data) in enumerate(written, 1)))
        file.write(b"}\n")


def _image(number: int, name: str, data: bytes) -> dict[str, Any]:
    with Image.open(io.BytesIO(data)) as opened:
        width, height = opened.size
    return {"id": number, "file_name": name, "width": width, "height": height}


def _list(file: BinaryIO, key: str, items: Iterable[dict[str, Any]]) -> None:
    """One after another: a million images are not held at once."""
    file.write(f',\n"{key}": ['.encode())
    for i, item in enumerate(items):
        file.write(("," * (i > 0) + "\n" + json.dumps(item)).encode())
    file.write(b"\n]")

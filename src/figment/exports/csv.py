"""PNG files and one CSV that names them.

Values are written as they are, so that what is read back is what was written. A prompt that starts with ``=`` is a formula
to a spreadsheet: tell it to import all columns as text.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

from figment import files
from figment.exports.card import card
from figment.exports.folder import whole_file
from figment.exports.imagefolder import write_classes, write_images
from figment.exports.source import Source

LAYOUT = "`labels.csv` has a line for each image; its `path` is relative to the file. `classes.json` has the classes in label order."


def write(out: Path, source: Source, resuming: bool) -> None:
    with whole_file(out / "labels.csv") as binary:
        text = io.TextIOWrapper(binary, encoding="utf-8", newline="", write_through=True)
        writer = csv.writer(text, lineterminator="\n")
        for i, (name, record) in enumerate(write_images(out / "images", source, resuming)):
            if i == 0:
                writer.writerow(["path", *record])
            writer.writerow([f"images/{name}", *record.values()])
        text.detach()
    write_classes(out / "classes.json", source)
    files.write_atomic(out / "README.md", card(source, ["labels.csv"], LAYOUT))

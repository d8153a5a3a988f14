"""Image files and one CSV that names them.

Values are written as they are, so that what is read back is what was written; the card says how, and what a spreadsheet makes of it.
"""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from figment import files
from figment.exports.card import card
from figment.exports.folder import whole_file
from figment.exports.imagefolder import write_classes, write_images
from figment.exports.source import Source

LAYOUT = """\
`labels.csv` has a line for each image; its `path` is relative to the file. `classes.json` has the classes in label order.

Texts are as they were: a class called NA or null is no missing value. `datasets.load_dataset` reads this folder so; with pandas:

```python
pandas.read_csv("labels.csv", keep_default_na=False, na_values={SCORES})
```

A spreadsheet takes a text that begins with `=`, `+`, `-` or `@` for a formula: import all columns as text."""


def write(out: Path, source: Source, resuming: bool) -> None:
    with whole_file(out / "labels.csv") as binary:
        text = io.TextIOWrapper(binary, encoding="utf-8", newline="", write_through=True)
        # All texts in quotes: without them a lone carriage return would be written as it is, and read as the end of a line.
        writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        for i, (name, _, record) in enumerate(write_images(out / "images", source, resuming)):
            if i == 0:
                writer.writerow(["path", *record])
            writer.writerow([f"images/{name}", *record.values()])
        text.detach()
    write_classes(out / "classes.json", source)
    missing = {f"score_{name}": [""] for name in source.scores}
    own = LAYOUT.replace("{SCORES}", json.dumps(missing))
    readers = {"default": {"keep_default_na": False, "na_values": missing}}
    files.write_atomic(out / "README.md", card(source, ["labels.csv"], own, readers))

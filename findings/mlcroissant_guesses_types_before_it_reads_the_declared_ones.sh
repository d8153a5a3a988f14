#!/bin/sh
# mlcroissant 1.1.1: a Croissant file declares the type of every field, and records() gives values of these types, but lets pandas guess first
# and converts what is left. So of a CSV's column declared as Text the labels "001" and "010" come as "1" and "10", a class called "NA",
# "None" or "null" as missing, and "true" as "True". Of an Integer one, in a Parquet file with types of its own, too, one missing value is
# enough to send all through 64-bit floats: seeds, hashes and ids beyond 2^53 come with other last digits. No warning.
# Seen: labels 001, NA and None are read as 1, missing and missing; 2^53 + 1 as itself in a full column, as 2^53 beside a missing value.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet mlcroissant==1.1.1 pandas==3.1.1 pyarrow==26.0.1
"$folder/venv/bin/python" -W ignore - "$folder" <<'PYTHON'
import hashlib, json, sys
from importlib.metadata import version
from pathlib import Path

import absl.logging
import mlcroissant as mlc
import pyarrow as pa
import pyarrow.parquet as pq

absl.logging.set_verbosity("fatal")  # it recommends a licence, a date and the like
folder = Path(sys.argv[1])


def records(file: str, form: str, **fields: mlc.DataType) -> list[dict]:
    """The records of one file, by a Croissant file beside it that declares its fields."""
    whole = hashlib.sha256((folder / file).read_bytes()).hexdigest()
    described = mlc.Metadata(
        name="example", url="https://example.org",
        distribution=[mlc.FileObject(id=file, name=file, content_url=file, encoding_formats=[form], sha256=whole)],
        record_sets=[mlc.RecordSet(id="images", name="images", fields=[
            mlc.Field(id=f"images/{name}", name=name, data_types=[kind],
                      source=mlc.Source(file_object=file, extract=mlc.Extract(column=name)))
            for name, kind in fields.items()
        ])],
    )
    (folder / "croissant.json").write_text(json.dumps(described.to_json(), default=str))
    return list(mlc.Dataset(str(folder / "croissant.json")).records("images"))


(folder / "labels.csv").write_text("code,name\n001,NA\n010,None\n020,cat\n")
rows = records("labels.csv", "text/csv", code=mlc.DataType.TEXT, name=mlc.DataType.TEXT)
text = [tuple(row.values()) for row in rows]
print(f"mlcroissant {version('mlcroissant')}: 001 NA, 010 None and 020 cat, declared as text: {text}")
assert text == [(b"1", None), (b"10", None), (b"20", b"cat")]


def seeds(*values: int | None) -> list[int | None]:
    pq.write_table(pa.table({"seed": pa.array(values, pa.int64())}), folder / "seeds.parquet")
    read = records("seeds.parquet", "application/x-parquet", seed=mlc.DataType.INTEGER)
    return [row["images/seed"] for row in read]


full, gap = seeds(2**53 + 1, 2**53 + 3), seeds(2**53 + 1, None)
print(f"seeds {2**53 + 1} and {2**53 + 3}: {full}; {2**53 + 1} and a missing one: {gap}")
assert full == [2**53 + 1, 2**53 + 3] and gap == [2**53, None]
PYTHON

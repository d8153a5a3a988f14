#!/bin/sh
# DuckDB 2.0.1: a Parquet file's own minimum and maximum leave NaN out, as the format has it, and pyarrow and polars write them. DuckDB takes them
# for the bounds of all values and, where they settle a condition, does not read the column: WHERE isnan(score) finds no row in a file that
# has some, WHERE score < 5 finds the NaN ones too, and score > 5, which DuckDB's own order (NaN is the greatest) answers by NaN, finds none. Of a
# table in memory and of files that DuckDB wrote itself (without bounds, where NaN is in it) each answer is right. Scores of images are
# NaN where there is no answer, so "how many have no score?" is 0, and a selection by a threshold lets them pass. SELECT score, isnan(score) says of a NaN that it is none.
# Say read_parquet(file, can_have_nan=true), which nothing asks for, or write null where a number is missing.
# Seen: scores 0, 1 and NaN written by pyarrow and by polars: isnan 0 rows of 1, < 5 3 rows of 2, > 5 0 rows of 1; in a table and from
# DuckDB's own file all right, and with can_have_nan too.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet duckdb==2.0.1 polars==2.1.0 pyarrow==26.0.1
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys
from pathlib import Path

import duckdb, polars, pyarrow, pyarrow.parquet

root = Path(sys.argv[1])
table = pyarrow.table({"score": [0.0, 1.0, float("nan")]})
pyarrow.parquet.write_table(table, root / "pyarrow.parquet")
polars.from_arrow(table).write_parquet(root / "polars.parquet")
duckdb.sql(f"copy \"table\" to '{root / 'duckdb.parquet'}' (format parquet)")
right = {"isnan(score)": 1, "score < 5": 2, "score > 5": 1, "not score < 5": 1}


def counts(source: str) -> dict[str, int]:
    return {condition: duckdb.sql(f"select count(*) from {source} where {condition}").fetchall()[0][0] for condition in right}


assert counts('"table"') == right
for writer in ("duckdb", "pyarrow", "polars"):
    file = f"'{root / writer}.parquet'"
    shown = [str(row) for row in duckdb.sql(f"select score, isnan(score) from {file}").fetchall()]
    print(f"duckdb {duckdb.__version__}, file by {writer}: rows {counts(file)}; right {right}; score, isnan(score): {', '.join(shown)}")
    assert shown == ["(0.0, False)", "(1.0, False)", f"(nan, {writer == 'duckdb'})"]
    wrong = {} if writer == "duckdb" else {"isnan(score)": 0, "score < 5": 3, "score > 5": 0, "not score < 5": 0}
    assert counts(file) == right | wrong
    assert counts(f"read_parquet({file}, can_have_nan=true)") == right
PYTHON

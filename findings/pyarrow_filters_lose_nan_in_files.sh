#!/bin/sh
# pyarrow 26.0.1: a filter gives other rows when a Parquet file is read with it (read_table(filters=...), a dataset's to_table(filter=...)) than
# when the table that was read is filtered (Table.filter), if there is NaN. The file's minimum, maximum and number of nulls, which leave NaN out,
# are taken to hold for every row of a row group, and what the condition then seems to exclude is not read. So "score is missing", with
# nan_is_null=True, finds none in any file without true nulls; ~(score < .5), "not a bad one", loses the rows without a score as soon as all
# others of their row group are bad; and where all the others are equal, is_nan finds none. It depends on the size of the row groups: no warning.
# Read the table first and filter it, or write null where a number is missing.
# Seen: scores .1, .2 and NaN: is_null(nan_is_null=True) 0 rows from the file and 1 in memory, ~(score < .5) 0 and 1; scores 1, 1 and NaN:
# is_nan 0 and 1, score != 1 0 and 1.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet pyarrow==26.0.1
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset
import pyarrow.parquet as pq

score = pc.field("score")
cases = [
    ([0.1, 0.2, float("nan")], {"score is missing": score.is_null(nan_is_null=True), "not below .5": ~(score < 0.5)}),
    ([1.0, 1.0, float("nan")], {"score is NaN": pc.is_nan(score), "score is not 1": score != 1.0}),
]
for number, (scores, conditions) in enumerate(cases):
    table, file = pa.table({"score": scores}), Path(sys.argv[1]) / f"{number}.parquet"
    pq.write_table(table, file)
    whole = pq.read_table(file)
    for name, condition in conditions.items():
        in_memory, read = whole.filter(condition).num_rows, pq.read_table(file, filters=condition).num_rows
        scanned = pyarrow.dataset.dataset(file).to_table(filter=condition).num_rows
        print(f"pyarrow {pa.__version__}, scores {scores}, {name}: {in_memory} row in memory, {read} and {scanned} from the file")
        assert in_memory == 1 and read == scanned == 0
PYTHON

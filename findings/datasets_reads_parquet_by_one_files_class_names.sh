#!/bin/sh
# datasets 5.2.0: load_dataset gives all Parquet files of a split the class names of the first one. A file whose own ClassLabel numbers the
# same classes in another order keeps its numbers and loses its names, so its rows come out under wrong classes, without a word. Each file
# by itself is read rightly, and int2str looks right on both.
# Seen: two files of three rows, each row's text naming its class: 3 of 6 rows get another class name than their text.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet datasets==5.2.0 pyarrow==26.0.1
HF_HOME="$folder/home" HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - "$folder" <<'EOP'
import sys, datasets
from pathlib import Path

datasets.disable_progress_bars()
data = Path(sys.argv[1]) / "data"
data.mkdir()
for file, names in (("a", ["cat", "dog", "owl"]), ("b", ["dog", "owl", "cat"])):
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=names)})
    datasets.Dataset.from_dict({"text": names, "label": names}, features).to_parquet(data / f"{file}.parquet")

def wrong(files):
    rows = datasets.load_dataset("parquet", data_files=[str(data / name) for name in files], split="train")
    return sum(rows.features["label"].int2str(row["label"]) != row["text"] for row in rows), len(rows)

alone, together = [wrong(["a.parquet"]), wrong(["b.parquet"])], wrong(["a.parquet", "b.parquet"])
print(f"datasets {datasets.__version__}: wrong class names, of rows: each file alone {alone}, both together {together}")
assert alone == [(0, 3), (0, 3)] and together == (3, 6)
EOP

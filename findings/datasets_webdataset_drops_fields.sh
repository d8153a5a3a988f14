#!/bin/sh
# datasets 5.2.0: a WebDataset's fields are those of the first five samples. What a later sample's .json holds beside them is dropped
# without a word, although every tar was read to its end. A mark, score or second label that the first five happen to lack is lost for
# the whole data set. Give every sample every field, with a value of its type: null has none, and NaN does for a missing number.
# Seen: 25 samples, of which the last 20 have "mark": no column "mark", 0 of 20 marks left. With NaN in the first five: 20 of 20.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet datasets==5.2.0
HF_HUB_OFFLINE=1 HF_HOME="$folder/hf" "$folder/venv/bin/python" - "$folder" <<'PYTHON'
import io, json, math, sys, tarfile
import datasets

datasets.disable_progress_bars()


def marks(name: str, first: dict) -> list:
    """Of 25 samples, the first five of which hold ``first`` beside their label, the others a mark."""
    path = f"{sys.argv[1]}/{name}.tar"
    with tarfile.open(path, "w") as tar:
        for i in range(25):
            data = json.dumps({"label": i % 2, **({"mark": i / 2} if i >= 5 else first)}).encode()
            info = tarfile.TarInfo(f"{i:03d}.json")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    rows = datasets.load_dataset("webdataset", data_files=path, split="train", cache_dir=f"{sys.argv[1]}/{name}")
    found = [row["json"].get("mark") for row in rows]
    return [mark for mark in found if mark is not None and not math.isnan(mark)]


without, with_nan = marks("without", {}), marks("with_nan", {"mark": math.nan})
print(f"datasets {datasets.__version__}: {len(without)} of 20 marks left; with NaN in the first five samples {len(with_nan)} of 20")
assert not without and with_nan == [i / 2 for i in range(5, 25)]
PYTHON

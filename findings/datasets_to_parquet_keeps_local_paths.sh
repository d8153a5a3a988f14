#!/bin/sh
# datasets 5.2.0: Dataset.to_parquet of a data set whose images are files writes their absolute local paths into the column of images, and no
# pixels: bytes are null. It loads again where it was written, as long as the photographs stay where they are; the file alone, copied to
# another machine, has no images. (push_to_hub and save_to_disk differ: only to_parquet is tried here.)
# Seen: 3 images of 64 x 64 noise: a Parquet file of a few KB, all bytes null, and loading fails once the photographs have moved.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet datasets==5.2.0 pyarrow==26.0.1 pillow==13.0.0 numpy==2.4.6
HF_HOME="$folder/home" HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - "$folder" <<'EOP'
import sys, datasets, numpy as np, pyarrow.parquet as pq
from pathlib import Path
from PIL import Image

datasets.disable_progress_bars()
root = Path(sys.argv[1])
(root / "photos").mkdir()
for k in range(3):
    Image.fromarray(np.random.default_rng(k).integers(0, 256, (64, 64, 3), np.uint8)).save(root / "photos" / f"{k}.png")
paths = sorted(map(str, (root / "photos").iterdir()))
made = datasets.Dataset.from_dict({"image": paths}, datasets.Features({"image": datasets.Image()}))
made.to_parquet(root / "out.parquet")
cells = pq.read_table(root / "out.parquet")["image"].to_pylist()
there = datasets.load_dataset("parquet", data_files=str(root / "out.parquet"), split="train")[0]["image"].size
(root / "photos").rename(root / "moved")
try:
    datasets.load_dataset("parquet", data_files=str(root / "out.parquet"), split="train")[0]
    moved = "opens"
except FileNotFoundError:
    moved = "FileNotFoundError"
size = (root / "out.parquet").stat().st_size
print(f"datasets {datasets.__version__}: {size} bytes; a cell {cells[0]}; opens as {there}; after the photographs moved: {moved}")
assert [cell["bytes"] for cell in cells] == [None] * 3 and [cell["path"] for cell in cells] == paths
assert size < 3 * 64 * 64 * 3 and there == (64, 64) and moved == "FileNotFoundError"
EOP

#!/bin/sh
# datasets 5.2.0: a map whose function changes an image in place and returns the row loses the change, and says nothing, where the image is
# known by its path (load_dataset("imagefolder"), a column of paths). Pillow's image still carries the name of the file that it was opened
# from, and that name, not the pixels, is what is kept. Everything that Pillow does in place is lost so: ImageDraw (a face or a number plate
# painted over), paste, thumbnail, putalpha. What makes a new image (resize, crop, convert) is kept, and so are the very same changes where the
# image's bytes lie in the data set (Parquet, most of the Hub): a script tried on the one kind fails on the other.
# Assign a copy (row["image"] = row["image"].copy(), which has no file name) before anything is drawn.
# Seen: a noise image blacked out in a map has a mean of 128.1 again afterwards, and a thumbnail of 16 x 16 is 64 x 64, in PNG and in JPEG, and
# with Dataset.from_dict of such an image; held as bytes, or copied first: 0 and 16 x 16.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet datasets==5.2.0 pillow==13.0.0 numpy==2.4.6
HF_HOME="$folder/home" HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - "$folder/photos" <<'PYTHON'
import sys
from pathlib import Path

import datasets, numpy as np
from PIL import Image, ImageDraw

datasets.disable_progress_bars()
IMAGE = datasets.Features({"image": datasets.Image()})


def black_out(row: dict[str, Image.Image]) -> dict[str, Image.Image]:
    ImageDraw.Draw(row["image"]).rectangle((0, 0, *row["image"].size), fill=0)
    return row


def shrink(row: dict[str, Image.Image]) -> dict[str, Image.Image]:
    row["image"].thumbnail((16, 16))
    return row


def copied(change):
    return lambda row: change({"image": row["image"].copy()})


def after(rows: datasets.Dataset) -> list[tuple[float, tuple[int, int]]]:
    """Of each image: its mean and its size."""
    return [(round(float(np.asarray(row["image"]).mean()), 1), row["image"].size) for row in rows]


folder = Path(sys.argv[1])
(folder / "cat").mkdir(parents=True)
noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
files = [folder / "cat" / "made.png", folder / "cat" / "photo.jpg"]
for file in files:
    noise.save(file)

by_path = datasets.load_dataset("imagefolder", data_dir=str(folder), split="train", drop_labels=True)
as_bytes = datasets.Dataset.from_dict({"image": [{"bytes": file.read_bytes(), "path": None} for file in files]}, IMAGE)
drawn = black_out({"image": Image.open(files[0])})["image"]
assert np.asarray(drawn).max() == 0
seen = {}
for name, rows in (("by path", by_path), ("bytes", as_bytes)):
    for change in (black_out, shrink):
        seen[name, change.__name__] = after(rows.map(change))
seen["copied", "black_out"], seen["copied", "shrink"] = after(by_path.map(copied(black_out))), after(by_path.map(copied(shrink)))
seen["from_dict", "black_out"] = after(datasets.Dataset.from_dict({"image": [drawn]}, IMAGE))
for (held, change), images in seen.items():
    print(f"datasets {datasets.__version__}, {held}, {change}: mean and size of each image {images}")
untouched = after(by_path)
assert untouched[0][0] > 100
assert seen["by path", "black_out"] == seen["by path", "shrink"] == untouched and seen["from_dict", "black_out"][0] in untouched
for held in ("bytes", "copied"):
    assert all(mean < 1 for mean, _ in seen[held, "black_out"]) and all(size == (16, 16) for _, size in seen[held, "shrink"])
PYTHON

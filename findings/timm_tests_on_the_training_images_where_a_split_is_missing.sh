#!/bin/sh
# timm 1.0.31: create_dataset for a folder of images looks for a sub-folder of the split's name, and where there is none it takes the whole folder and
# says nothing. Of a folder with train/ and validation/, split="test" (or "dev", or a slip of the pen) is so all the training and all the
# validation images: as classes are named by the innermost folder, labels and number of classes are right, and the "test" accuracy is mostly one on
# training images. A slice as in train[:50%], which the same argument understands for other kinds of data sets, is cut off and left aside:
# the "half" is everything. "val", "valid", "eval" and "evaluation" do find validation/.
# Seen: 4 training and 2 validation images a class, 2 classes: split="test" has 12 images, 8 of them out of train/, with train's class_to_idx;
# split="train[:50%]" has 8, as has "train".
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet timm==1.0.31 torch==2.14.1 torchvision==0.29.1 pillow==13.0.0 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - "$folder/pets" <<'PYTHON'
import sys
from pathlib import Path

import timm
from PIL import Image
from timm.data import create_dataset

root = Path(sys.argv[1])
for split, n in {"train": 4, "validation": 2}.items():
    for label in ("cat", "dog"):
        (root / split / label).mkdir(parents=True)
        for i in range(n):
            Image.new("RGB", (8, 8)).save(root / split / label / f"{i}.png")

found = {}
for split in ("train", "validation", "val", "train[:50%]", "test", "dev"):
    data = create_dataset("", str(root), split=split)
    files = [Path(name) for name in data.filenames(absolute=True)]
    found[split] = len(files), sum("train" in file.relative_to(root).parts for file in files)
    print(f"timm {timm.__version__}, split={split!r}: {found[split][0]} images, {found[split][1]} of them out of train/, classes {data.reader.class_to_idx}")
    assert data.reader.class_to_idx == {"cat": 0, "dog": 1}
assert found["validation"] == found["val"] == (4, 0)
assert found["train"] == found["train[:50%]"] == (8, 8)
assert found["test"] == found["dev"] == (12, 8)
PYTHON

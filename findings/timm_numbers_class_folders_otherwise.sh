#!/bin/sh
# timm 1.0.31: a folder of class folders is numbered in natural order and without regard to case (10 after 9, a after A), where torchvision
# 0.29.1 and datasets 5.2.0 number it as Python sorts its names (10 after 1, all capitals first). Nothing tells. A classifier that was
# trained on a folder through one of them and is tested on it through another is right about other classes than it seems.
# Seen: folders Beagle, class 10, class 9, albatross: four images, 4 of 4 labels differ between timm and torchvision; datasets is as torchvision.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet timm==1.0.31 torchvision==0.29.1 datasets==5.2.0 pillow==13.0.0
HF_HUB_OFFLINE=1 HF_HOME="$folder/hf" "$folder/venv/bin/python" - "$folder/images" <<'EOP'
import sys
from pathlib import Path

import datasets
import timm
import torchvision
from PIL import Image
from timm.data import create_dataset

datasets.disable_progress_bars()
root = Path(sys.argv[1])
names = ["Beagle", "albatross", "class 10", "class 9"]
for shade, name in enumerate(names):
    (root / name).mkdir(parents=True)
    Image.new("RGB", (8, 8), (shade, 0, 0)).save(root / name / "0.png")  # the image says which class it is of


def numbers(rows):
    return {names[image.getpixel((0, 0))[0]]: label for image, label in rows}


by_timm = numbers(create_dataset("", root=str(root)))
by_torchvision = numbers(torchvision.datasets.ImageFolder(root))
rows = datasets.load_dataset("imagefolder", data_dir=str(root), split="train")
by_datasets = numbers((row["image"], row["label"]) for row in rows)
differ = sum(by_timm[name] != by_torchvision[name] for name in names)
print(f"timm {timm.__version__}: {by_timm}")
print(f"torchvision {torchvision.__version__}: {by_torchvision}")
print(f"datasets {datasets.__version__}: {by_datasets}")
print(f"{differ} of {len(names)} labels differ between timm and torchvision")
assert by_timm == {"albatross": 0, "Beagle": 1, "class 9": 2, "class 10": 3}
assert by_torchvision == by_datasets == {"Beagle": 0, "albatross": 1, "class 10": 2, "class 9": 3} and differ == 4
EOP

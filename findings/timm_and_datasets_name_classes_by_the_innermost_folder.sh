#!/bin/sh
# timm 1.0.31, datasets 5.2.0: in a folder of class folders that have folders in them (cat/indoor, cat/outdoor, dog/indoor, dog/outdoor) both take
# the innermost folder for the class, and torchvision 0.29.1 the outermost. So cats and dogs in rooms become one class, "indoor". Where only
# some images lie deeper, timm makes one class more of them, which moves the numbers of those after it, and datasets gives no image a
# label at all. None of them says anything.
# Seen: the same 8 images: classes cat, dog in torchvision; indoor, outdoor in timm and datasets. One of three images a folder deeper: 2 classes
# in torchvision, 3 in timm, none in datasets.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet timm==1.0.31 torchvision==0.29.1 datasets==5.2.0 pillow==13.0.0
HF_HUB_OFFLINE=1 HF_HOME="$folder/hf" "$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys
from pathlib import Path

import datasets, timm, torchvision
from PIL import Image
from timm.data import create_dataset

datasets.disable_progress_bars()


def classes(name: str, files: list[str]) -> list[list[str]]:
    """Each library's names of classes, in the order of their numbers."""
    root = Path(sys.argv[1]) / name
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(root / file)
    label = datasets.load_dataset("imagefolder", data_dir=str(root), split="train").features.get("label")
    found = {
        f"torchvision {torchvision.__version__}": torchvision.datasets.ImageFolder(root).classes,
        f"timm {timm.__version__}": list(create_dataset("", root=str(root)).reader.class_to_idx),
        f"datasets {datasets.__version__}": label.names if label else [],
    }
    print(f"{', '.join(files)}: {found}")
    return list(found.values())


all_nested = [f"{kind}/{place}/{i}.png" for kind in ("cat", "dog") for place in ("indoor", "outdoor") for i in range(2)]
assert classes("all", all_nested) == [["cat", "dog"], ["indoor", "outdoor"], ["indoor", "outdoor"]]
some_nested = ["cat/1.png", "dog/2.png", "cat/kittens/3.png"]
assert classes("some", some_nested) == [["cat", "dog"], ["cat", "dog", "kittens"], []]
PYTHON

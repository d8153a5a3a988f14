#!/bin/sh
# datasets 5.2.0: load_dataset("imagefolder") on a folder of class folders looks for names of splits in the paths first. A class called
# "train" (as CIFAR-100 and COCO have it) or "test" is taken for a split: its images are all that is loaded, with no labels, and every
# other class is dropped without a word. With spaces or dashes too: "test tube" and "dev-kit" become a split test and a split
# validation, and there is no train. A single file called test_1.png is enough to drop all others.
# Say which files belong to which split (data_files={"train": "folder/**"}), or put the class folders into a folder called train.
# Seen: 3 classes of 3 images, one class called train: 3 rows, no labels; with data_files: 9 rows of 3 classes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet datasets==5.2.0 pillow==13.0.0
HF_HUB_OFFLINE=1 HF_HOME="$folder/hf" "$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys
from pathlib import Path

import datasets
from PIL import Image

datasets.disable_progress_bars()


def loaded(name: str, files: list[str], by_pattern: bool = False) -> dict[str, tuple[int, list[str]]]:
    """Rows and class names of each split."""
    root = Path(sys.argv[1]) / name
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(root / file)
    given = {"data_files": {"train": f"{root}/**"}} if by_pattern else {"data_dir": str(root)}
    found = datasets.load_dataset("imagefolder", **given)
    own = {}
    for split, rows in found.items():
        label = rows.features.get("label")
        own[split] = rows.num_rows, label.names if label else []
    print(f"datasets {datasets.__version__}: {name}, {len(files)} images: {own}")
    return own


def images(*classes: str) -> list[str]:
    return [f"{name}/{i}.png" for name in classes for i in range(3)]


assert loaded("cat, dog and bus", images("cat", "dog", "bus")) == {"train": (9, ["bus", "cat", "dog"])}
assert loaded("car, bus and train", images("car", "bus", "train")) == {"train": (3, [])}
assert loaded("test tube, dev-kit and bus", images("test tube", "dev-kit", "bus")).keys() == {"validation", "test"}
assert loaded("a file test_1.png", [*images("cat", "dog"), "dog/test_1.png"]) == {"test": (1, [])}
assert loaded("by data_files", images("car", "bus", "train"), by_pattern=True) == {"train": (9, ["bus", "car", "train"])}
PYTHON

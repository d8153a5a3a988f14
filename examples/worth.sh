#!/bin/bash
# What are images from elsewhere worth? A folder of them that no run of figment made, beside a few photographs: about 20 seconds of CPU,
# on the embedded starter, without a network.
#
#   examples/worth.sh [DIR]
#
# DIR (default: a new one) gets photos/ with 2 training and 20 test images a class, and made/, 30 others of each class with a caption beside
# each, as another tool would leave them. Put your own in their place.
set -euo pipefail

where=${1:-$(mktemp -d)}

python - "$where" <<'PYTHON'
import sys
from pathlib import Path

import numpy as np
from PIL import Image

import figment

names = figment.load_task("fashion").class_names
for folder, source, first, n in (
    ("photos/train", "starter/sketch/pool", 0, 2),
    ("photos/test", "starter/sketch/test", 0, 20),
    ("made", "starter/sketch/pool", 10, 30),
):
    images = figment.open_images(source, names)
    for label, name in enumerate(names):
        out = Path(sys.argv[1], folder, name.replace(" ", "_"))
        out.mkdir(parents=True, exist_ok=True)
        own = np.flatnonzero(images.labels == label)[first : first + n]
        for i, image in enumerate(images.load(own)):
            Image.fromarray(image).save(out / f"{i:03d}.{'jpg' if folder == 'made' else 'png'}", quality=90)
            if folder == "made":
                (out / f"{i:03d}.txt").write_text(f"a sketch of one {name}\n")
PYTHON

figment worth --synthetic "$where/made" --real "$where/photos" --encoder starter/clip --out "$where/worth"

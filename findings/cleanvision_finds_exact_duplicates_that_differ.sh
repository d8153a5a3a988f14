#!/bin/sh
# cleanvision 0.3.7: "exact duplicates" are images whose stored pixels are the same bytes; how these are to be read is not looked at. Of a PNG or GIF
# with a palette the bytes are indices: two pictures of other colours, or with other brightness in every place, are one if their indices
# agree, as they do in masks, icons and sprites that differ in colour alone. Width and height are not looked at either, nor whether three bytes
# are one coloured pixel or three grey ones. Whoever deletes all but one of each set, as is usual with exact duplicates, deletes pictures.
# Open the files and compare size and convert("RGBA") before anything is deleted.
# Seen: a palette image and its negative, a 96 x 64 image and the same bytes as 64 x 96, and a coloured image of 32 x 64 beside a grey one of
# 96 x 64: three sets of "exact duplicates". The first two images have no pixel in common.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet cleanvision==0.3.7 pillow==13.0.0 numpy==2.4.6
mkdir "$folder/images"
"$folder/venv/bin/python" - "$folder/images" <<'PYTHON'
import contextlib, io, sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
from cleanvision import Imagelab
from PIL import Image

root = Path(sys.argv[1])
rng = np.random.default_rng(0)

indices = rng.integers(0, 4, (64, 64), np.uint8)
for name, colours in (("palette", [0, 0, 0, 200, 30, 30, 30, 200, 30, 255, 255, 255]), ("negative", [255, 255, 255, 55, 225, 225, 225, 55, 225, 0, 0, 0])):
    image = Image.frombytes("P", (64, 64), indices.tobytes())
    image.putpalette(colours)
    image.save(root / f"{name}.png")

wide = rng.integers(0, 256, (64, 96, 3), np.uint8)
Image.fromarray(wide).save(root / "wide.png")
Image.fromarray(wide.reshape(96, 64, 3)).save(root / "tall.png")

colour = rng.integers(0, 256, (64, 32, 3), np.uint8)
Image.fromarray(colour).save(root / "colour.png")
Image.fromarray(colour.reshape(64, 96)).save(root / "grey.png")

with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    lab = Imagelab(data_path=str(root))
    lab.find_issues({"exact_duplicates": {}})
sets = sorted(sorted(Path(path).stem for path in same) for same in lab.info["exact_duplicates"]["sets"])
first, second = (np.asarray(Image.open(root / f"{name}.png").convert("RGB")) for name in ("palette", "negative"))
common = (first == second).all(axis=2).sum()
print(f"cleanvision {version('cleanvision')}: exact duplicates {sets}; pixels that palette.png and negative.png have in common: {common}")
assert sets == [["colour", "grey"], ["negative", "palette"], ["tall", "wide"]]
assert common == 0
PYTHON

#!/bin/sh
# datasets 5.2.0: with_format("numpy") (and "torch") hands out an image with a palette (GIF, 8-bit PNG as pngquant or a web page's export write it)
# as the numbers of its palette entries, one channel, uint8: an array that looks like a greyscale photograph and is none. Nothing converts
# and nothing warns; the same row without a format is a Pillow image that says "P" and that everybody converts. Two copies of one image,
# whose palettes are ordered otherwise, are two different arrays. Image(mode="RGB") in the features is the cure.
# Seen: a 64 x 64 image in 16 colours: numpy gets (64, 64), no value above 15, and a correlation with the image's own greys of -.97 (Pillow orders a
# palette from light to dark: a negative); with the palette written in the other order, the very same image, +.97; as a GIF the same. With
# mode="RGB" all are (64, 64, 3) and equal to Pillow's conversion.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet datasets==5.2.0 pillow==13.0.0 numpy==2.4.6
HF_HOME="$folder/home" HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys
from pathlib import Path

import datasets, numpy as np
from PIL import Image

datasets.disable_progress_bars()
noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 6, 3), np.uint8))
once = noise.resize((64, 64), Image.Resampling.BICUBIC).quantize(16)
again = once.remap_palette(list(reversed(range(16))))
pixels = np.asarray(once.convert("RGB"))
assert (pixels == np.asarray(again.convert("RGB"))).all()

found = {}
for name, image in {"once.png": once, "again.png": again, "once.gif": once}.items():
    file = str(Path(sys.argv[1]) / name)
    image.save(file)
    for mode in (None, "RGB"):
        rows = datasets.Dataset.from_dict({"image": [file]}, datasets.Features({"image": datasets.Image(mode=mode)}))
        found[name, mode] = rows.with_format("numpy")[0]["image"]
grey = np.asarray(once.convert("L"))
for (name, mode), array in found.items():
    what = "" if mode else f", correlation with the greys {np.corrcoef(array.ravel(), grey.ravel())[0, 1]:.2f}"
    print(f"datasets {datasets.__version__}, {name}, Image(mode={mode!r}): {array.shape} {array.dtype}, at most {array.max()}{what}")
for name in ("once.png", "again.png", "once.gif"):
    assert found[name, None].shape == (64, 64) and found[name, None].max() < 16
    assert (found[name, "RGB"] == pixels).all()
assert (found["once.png", None] != found["again.png", None]).mean() > 0.9
PYTHON

#!/bin/sh
# mosaicml-streaming 0.13.0 and litdata 0.2.76: of a JPEG that was opened from a file both write that file's bytes, not the image they are given. What
# Pillow changes in place (ImageDraw, paste, thumbnail, the usual ways to black out a face or to make a small copy) leaves the image a JPEG of that
# file name, and so is lost in the shards: faces are back, images have their old size, whatever the script's own preview showed. An image that
# comes from PNG, or that is made anew (resize, crop, convert, copy), is written as it is: the same script is right for one folder of images and
# wrong for another. No warning. Hand over image.copy().
# Seen: a 64 x 64 JPEG of noise blacked out: mean 0 in memory, 128 when read from the MDS shard and from litdata's; a thumbnail of 16 x 16 is
# 64 x 64 in both; with .copy(), and out of a PNG, 0 and 16 x 16.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet mosaicml-streaming==0.13.0 litdata==0.2.76 torch==2.14.1 pillow==13.0.0 numpy==2.1.3
"$folder/venv/bin/python" -W ignore - "$folder/work" <<'PYTHON'
import sys
from pathlib import Path

import litdata, numpy as np, streaming
from litdata.streaming.cache import Cache
from PIL import Image, ImageDraw

folder = Path(sys.argv[1])
folder.mkdir(exist_ok=True)


def black_out(image):
    ImageDraw.Draw(image).rectangle((0, 0, *image.size), fill=0)
    return image


def shrink(image):
    image.thumbnail((16, 16))
    return image


def mds(image, where):
    with streaming.MDSWriter(out=str(where), columns={"image": "jpeg"}) as out:
        out.write({"image": image})
    return np.asarray(streaming.LocalDataset(str(where))[0]["image"])


def lit(image, where):
    cache = Cache(str(where), chunk_bytes="1MB")
    cache[0] = {"image": image}
    cache.done()
    cache.merge()
    image = litdata.StreamingDataset(str(where))[0]["image"]
    return np.asarray(image) if isinstance(image, Image.Image) else image.permute(1, 2, 0).numpy()  # a JPEG comes back as a tensor


noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
noise.save(folder / "photo.jpg")
noise.save(folder / "made.png")
print(f"mosaicml-streaming {streaming.__version__}, litdata {litdata.__version__}")
for write in (mds, lit):
    for way in ("photo.jpg", "photo.jpg copied", "made.png"):
        file, found = way.split()[0], {}
        for change in (black_out, shrink):
            image = Image.open(folder / file)
            image.load()
            image = change(image.copy() if way.endswith("copied") else image)
            found[change] = write(image, folder / f"{write.__name__} {way} {change.__name__}".replace(" ", "-"))
        mean, size = float(found[black_out].mean()), found[shrink].shape[:2]
        print(f"{write.__name__}, {way}: blacked out, then mean {mean:.0f}; made 16 x 16, then {size}")
        lost = way == "photo.jpg"
        assert (mean > 100) == lost and size == ((64, 64) if lost else (16, 16))
PYTHON

#!/bin/sh
# datasets 5.2.0: map writes an image anew as soon as its function has looked at it, although the function returns something else, such as its
# width, a score or an embedding, and leaves the image alone. A JPEG is so saved as JPEG at Pillow's quality of 75, a lossless WebP as a lossy one;
# nothing is said. It happens to images that lie in the data set (Parquet, as most of the Hub), and not to those that it knows by their
# path (imagefolder), nor to PNG. A data set of photographs beside generated PNG images, scored by one and the same map, comes out with
# photographs that carry the marks of a second, harder compression, and generated images that do not, which a classifier can learn to see.
# Take the bytes instead: cast_column("image", Image(decode=False)) before map, and back after it.
# Seen: a JPEG of quality 95, 256 x 256; after map(lambda row: {"width": row["image"].width}) half as many bytes, pixels 40 levels apart at most
# and 4.7 on average; a lossless WebP 36 and 4.3; PNG, the same JPEG known by its path, and decode=False: none.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet datasets==5.2.0 pillow==13.0.0 numpy==2.4.6
HF_HOME="$folder/home" HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - "$folder" <<'PYTHON'
import io, sys
from pathlib import Path

import datasets, numpy as np
from PIL import Image

datasets.disable_progress_bars()
picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)).resize((256, 256), Image.Resampling.BICUBIC)


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB")).astype(int)


def apart(cell: str | dict[str, object], file: Path, decode: bool = True) -> tuple[int, float]:
    """The largest and the mean difference, in levels of 255, that a map which returns a width alone makes to the image of `file`."""
    rows = datasets.Dataset.from_dict({"image": [cell]}, datasets.Features({"image": datasets.Image(decode=decode)}))
    width = lambda row: {"width": row["image"].width if decode else Image.open(io.BytesIO(row["image"]["bytes"])).width}
    after = rows.map(width).cast_column("image", datasets.Image())[0]
    assert after["width"] == 256
    change = abs(pixels(after["image"]) - pixels(Image.open(file)))
    return int(change.max()), round(float(change.mean()), 1)


seen = {}
for name, options in {"photo.jpg": {"quality": 95}, "lossless.webp": {"lossless": True}, "made.png": {}}.items():
    file = Path(sys.argv[1]) / name
    picture.save(file, **options)
    held = {"bytes": file.read_bytes(), "path": name}
    seen[name] = {"held": apart(held, file), "by path": apart(str(file), file), "decode=False": apart(held, file, decode=False)}
    print(f"datasets {datasets.__version__}, {name}, largest and mean change: {seen[name]}")
assert seen["photo.jpg"]["held"][0] > 20 and seen["photo.jpg"]["held"][1] > 2
assert seen["lossless.webp"]["held"][0] > 20 and seen["lossless.webp"]["held"][1] > 2
assert seen["made.png"]["held"] == (0, 0)
assert all(seen[name][way] == (0, 0) for name in seen for way in ("by path", "decode=False"))
PYTHON

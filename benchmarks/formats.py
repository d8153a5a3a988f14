"""What an image costs on disk and in time in each format: the table in docs/format.md.

    OMP_NUM_THREADS=1 python benchmarks/formats.py       half a minute on one CPU core

32 px: real images of the starter. 512 px, and 512 reduced to 256: the two photographs that come with scikit-learn, and pieces of
them. Times are processor time, the best of several rounds, of files in memory. The last line is JSON.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import get_args

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from figment import load_task, png
from figment.images_in import open_images
from figment.images_in.decode import decode
from figment.saving import Format, Saving
from figment.task import real_folder

ROUNDS = 3


def small(n: int = 500) -> list[np.ndarray]:
    return open_images(real_folder("starter/pool"), load_task("fashion").class_names).load(range(n))


def photographs(side: int = 512) -> list[np.ndarray]:
    """Eight squares of two photographs of 640 x 427 pixels, at the size of a generated image."""
    cut = []
    for image in load_sample_images().images:
        for left in (0, 70, 140, 213):
            square = Image.fromarray(image[:, left : left + 427]).resize((side, side), Image.Resampling.LANCZOS)
            cut.append(np.asarray(square))
    return cut


def read(files: Sequence[bytes]) -> None:
    """As a set of images is read: what figment packed by its own way, the rest by Pillow."""
    for image, data in zip(png.decode_many(files), files, strict=True):
        if image is None:
            decode(data, "it")


def seconds(work: Callable[[], object]) -> float:
    times = []
    for _ in range(ROUNDS):
        started = time.process_time()
        work()
        times.append(time.process_time() - started)
    return min(times)


def measure(images: Sequence[np.ndarray], saving: Saving) -> dict[str, float]:
    """Bytes, milliseconds to write and to read, an image."""
    files = [saving.encode(image) for image in images]
    write, back = seconds(lambda: [saving.encode(image) for image in images]), seconds(lambda: read(files))
    return {
        "bytes": float(np.mean([len(data) for data in files])),
        "write_ms": 1e3 * write / len(images),
        "read_ms": 1e3 * back / len(images),
    }


def main() -> None:
    sets = {"32 px": (small(), None), "512 px": (photographs(), None), "512 px, saved at 256": (photographs(), 256)}
    figures = {}
    print(f"| {'an image of':<22} | " + " | ".join(get_args(Format)) + " |")
    for name, (images, size) in sets.items():
        own = {format: measure(images, Saving(format, size)) for format in get_args(Format)}
        cells = [f"{f['bytes'] / 1e3:.1f} kB, {f['write_ms']:.2f} / {f['read_ms']:.2f} ms" for f in own.values()]
        print(f"| {name:<22} | " + " | ".join(cells) + " |", flush=True)
        figures[name] = own
    print(json.dumps({"benchmark": "formats", **figures}))


if __name__ == "__main__":
    main()

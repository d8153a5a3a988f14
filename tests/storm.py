"""A run to be killed: ``python storm.py FOLDER local|ray`` makes images in FOLDER with two workers. Starts in a moment."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from figment.engines import Local
from figment.engines.ray import Ray
from figment.files import lock
from figment.generate.fill import generate_images
from figment.generate.procedural import ProceduralGenerator
from figment.types import Prompt

SHARDS, ROWS = 24, 32  # rows of each shard
PROMPTS = [Prompt(f"{y:03d}-x/{i:05d}", f"text {y} {i}", y, f"g{y}{i}") for y in (0, 1) for i in range(5)]


class Unhurried(ProceduralGenerator):
    """4 images in 0.02 s, a shard in 0.2 s."""

    batch_size = 4

    def __call__(self, prompts, seeds, init=None):
        time.sleep(0.02)
        return super().__call__(prompts, seeds)


def make(folder, engine=None, generator=None) -> None:
    names, n = ["ankle boot", "bag"], SHARDS * ROWS // 2
    generate_images(
        PROMPTS, generator or Unhurried(), folder, names, images_per_class=n, shard_size=ROWS, engine=engine
    )


if __name__ == "__main__":
    with lock(Path(sys.argv[1])):
        make(sys.argv[1], Local(2) if sys.argv[2] == "local" else Ray(2))

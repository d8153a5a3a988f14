"""A run to be killed: ``python storm.py FOLDER local|ray`` makes images in FOLDER with two workers, and starts in a moment.

``python storm.py FOLDER local|ray KIND MODELS`` makes a whole run or table of one of the kinds of ``made.py``, of the tiny models and the
photographs in MODELS.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from figment.engines import Engine, Local
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


def make_all(folder: Path, engine: Engine, kind: str, models: Path) -> None:
    import made

    own = made.recipe_of_kind(kind, models / "clip", models / "sd15", models / "photos")
    made.make(
        own.changed({"generate.images_per_class": 6, "generate.shard_size": 2, "train.epochs": 20}), folder, engine
    )


if __name__ == "__main__":
    folder, engine = Path(sys.argv[1]), Local(2) if sys.argv[2] == "local" else Ray(2)
    if sys.argv[3:]:
        make_all(folder, engine, sys.argv[3], Path(sys.argv[4]))
    else:
        with lock(folder):
            make(folder, engine)

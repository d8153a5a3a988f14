"""What each of the starter's photographs shows besides its class: the contexts of recipes/bob's scale model.

    python tools/contexts.py > recipes/bob/fashion.csv

BOB (Yang et al., CVPR 2026) says the background and the pose of each photograph in words. The starter's garments lie on black, all alike,
so here it is their tone and their pattern, measured from the pixels. Of the pool those are told that the recipe's seeds draw as shots.
"""

from __future__ import annotations

import csv
import sys

import numpy as np

from figment.images_in import open_images
from figment.shots import draw_shots
from figment.task import load_task, real_folder
from starter.captions import attributes

SEEDS, SHOTS = 3, 16
EDGE = 2  # pixels of black around the picture that attributes are measured on
#: Attribute -> value -> its word; 0 is neither.
WORDS = {
    "tone": ("in mid grey", "dark", "light", "grey"),
    "pattern": ("partly patterned", "plain", "patterned", "striped"),
}


def main() -> None:
    task = load_task("fashion")
    pool = open_images(real_folder(task.real.train or ""), task.class_names)
    own = np.unique(np.concatenate([draw_shots(pool.labels, SHOTS, seed) for seed in range(SEEDS)]))
    pictures = np.stack([image[EDGE:-EDGE, EDGE:-EDGE, 0] for image in pool.load(range(len(pool)))])
    measured = attributes(pictures, pool.labels)
    rows = csv.writer(sys.stdout, lineterminator="\n")
    rows.writerow(["file", *WORDS])
    for i in own:
        rows.writerow([pool.ids[i], *(words[measured[name][i]] for name, words in WORDS.items())])


if __name__ == "__main__":
    main()

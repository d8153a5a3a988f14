"""Reports of any number of classes, with names of real tasks and numbers drawn at random: to test pages, and to look at them.

``python tests/report_sizes.py FOLDER`` writes those that docs/report.md shows.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from figment.evaluate.accuracy import accuracy, paired_difference
from figment.report.answers import with_class_intervals
from figment.report.attributes import Asked
from figment.report.page import Arm, Comparison, Conclusion, Counts, Report, Tile, thumbnail, write
from figment.task import load_task

TASKS = {2: "cifar10", 10: "fashion", 100: "cifar100", 1000: "imagenet"}
TEST_IMAGES = 50  # a class


def answers(n: int, right: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Predictions of a classifier, int (50 n,): class c is right with probability ``right[c]``, else mostly taken for a neighbour."""
    labels = np.repeat(np.arange(n), TEST_IMAGES)
    near = labels // 5 * 5 + rng.integers(0, 5, len(labels))
    wrong = np.where(rng.random(len(labels)) < 0.8, np.minimum(near, n - 1), rng.integers(0, n, len(labels)))
    return np.where(rng.random(len(labels)) < right[labels], labels, wrong)


def image(rng: np.random.Generator, side: int) -> np.ndarray:
    """A blurry blob, uint8 (side, side, 3)."""
    y, x = np.mgrid[:side, :side] / side
    at, size = rng.uniform(0.3, 0.7, 2), rng.uniform(0.15, 0.4)
    blob = np.exp(-(((x - at[0]) / 0.25) ** 2 + ((y - at[1]) / size) ** 2))
    noise = 12 * rng.standard_normal((side, side, 1))
    return (blob[..., None] * rng.uniform(90, 255, 3) + noise).clip(0, 255).astype(np.uint8)


def sized_report(n: int, side: int = 32) -> Report:
    """A report of ``n`` classes whose images are ``side`` pixels large."""
    rng = np.random.default_rng(n)
    names = load_task(TASKS[n]).class_names[:n]
    labels = np.repeat(np.arange(n), TEST_IMAGES)
    usual = np.clip(rng.normal(0.68, 0.13, n), 0.1, 0.97)
    was, now = answers(n, usual, rng), answers(n, np.clip(usual + rng.normal(0.06, 0.06, n), 0.1, 0.98), rng)
    before, after = (
        with_class_intervals(accuracy(given, labels, names, seeds=seeds)) for given, seeds in ((was, ()), (now, (0,)))
    )
    gain = paired_difference(was == labels, now == labels)
    zero, own = Arm("zero-shot", "CLIP as it is", before), Arm("synthetic", "200 images a class", after, gain)
    shown = [names[c] for c in range(min(n, 20))]
    tiles = [
        Tile(thumbnail(image(rng, side)), name, f"a photo of {name}") for name in shown for _ in range(80 // len(shown))
    ]
    kept = {name: int(k) for name, k in zip(names, rng.binomial(200, 0.9, n), strict=True)}
    total = sum(kept.values())
    asked = [
        Asked(kind, word, k, share, (share - 0.02, share + 0.02), {"clip_p": 0.8 * share})
        for kind, words in {"tone": ("dark", "light", ""), "context": ("for sale", "in the shop", "")}.items()
        for word, k, share in zip(words, (2114, 2033, 4011), (0.81, 0.93, 0.95), strict=True)
    ]
    return Report(
        f"{n:,} classes: can generated images stand in?",
        Conclusion("not judged", "Numbers drawn at random, to show a page of this size."),
        question=[("Classes", f"{n:,}: {', '.join(names)}"), ("Images", f"{200 * n:,} (200 a class)")],
        arms=[zero, own],
        comparison=Comparison(zero, own, names),
        kept=tiles,
        rejected=[replace(tile, reason="looks like another class", scores={"clip_p": 0.12}) for tile in tiles[:40]],
        counts=Counts(200 * n, 0, [("clip", "looks like another class", 200 * n - total)], total, kept),
        attributes=asked,
        command="figment run recipe.yaml",
        settings="task:\n  class_names: [" + ", ".join(names) + "]\n",
    )


if __name__ == "__main__":
    for n in TASKS:
        write(sized_report(n, side=32 if n <= 10 else 128), Path(sys.argv[1]) / f"{n}.html")

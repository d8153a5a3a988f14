"""How often does the verdict say "helps" where nothing helps, and how often where something does?

    python tools/calibration.py runs/demo                    minutes on one core: 200 studies a case and size
    python tools/calibration.py runs/demo --studies 1000 --sets 50     what a published rate takes; goes on where it stopped

Takes the features of a finished demo. Sets are drawn from its generated images (within each class, with replacement), test images
from the 10,000 real ones, so every truth is known; then everything is done as `figment run` does it, with the same code. A case is a
kind of set: its images, and the labels they go by. Sets are few and studies many: the rates of a case share its sets.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

from figment.bias import bias_of
from figment.encoders import Features, class_prototypes, open_encoder
from figment.evaluate.accuracy import wilson
from figment.evaluate.content import content_gate
from figment.evaluate.kind import Difference, difference
from figment.evaluate.placebo import resample, spread_labels
from figment.evaluate.verdict import BIAS_REMOVED, PLACEBO, UNTUNED, judge
from figment.images_in import open_images
from figment.images_in.memory import MemoryImages
from figment.images_in.shards import open_run_images
from figment.layout import Run
from figment.learners.clip_head.head import Head
from figment.learners.clip_head.images_only import discriminant
from figment.learners.clip_head.settings import TuneSettings
from figment.learners.clip_head.tune import Chosen, tune_many
from figment.task import load_task, real_folder

PLACEBOS, RESAMPLES = 6, 20
SIZES = (100, 500, 2_000, 10_000)
CASES = (
    "right labels",
    "shuffled labels",
    "grey",
    "stripes by class",
    "digits by class",
    "words and images",
    "words and images, shuffled",
)


@dataclass(frozen=True)
class World:
    """Features and labels of everything, and the classifier of words."""

    zero_shot: Head
    made: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]
    features: Features

    @property
    def n_classes(self) -> int:
        return self.zero_shot.linear.out_features


def world(run: Path) -> World:
    task, encoder = load_task("fashion"), open_encoder("starter/clip")
    features = Features(encoder, Run(run).features)
    images, test = open_run_images(Run(run)), open_images(real_folder("starter/test"), task.class_names)
    words = Head.from_texts(class_prototypes(encoder, task.class_names, task.templates), encoder.logit_scale)
    return World(words, (features(images), images.labels), (features(test), test.labels), features)


def population(case: str, w: World) -> tuple[np.ndarray, np.ndarray]:
    """Features and labels that sets of a case are drawn from."""
    rng, labels = np.random.default_rng(0), np.repeat(np.arange(w.n_classes), 200)
    if case in ("grey", "stripes by class", "digits by class"):
        pictures = {"grey": _grey, "stripes by class": _stripes, "digits by class": _digits}[case](labels, rng)
        return w.features(MemoryImages(pictures, labels)), labels
    return w.made


def _grey(labels: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    return [np.clip(rng.normal(128, 4, (32, 32, 3)), 0, 255).astype(np.uint8) for _ in labels]


def _stripes(labels: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """A width and a direction a class."""
    found = []
    for label in labels:
        wave = np.sin((np.arange(32) + rng.integers(32)) * (0.3 + 0.12 * (label // 2)))
        grey = np.tile(128 + 80 * wave, (32, 1)) + rng.normal(0, 20, (32, 32))
        found.append(np.repeat((grey if label % 2 else grey.T)[..., None], 3, 2).clip(0, 255).astype(np.uint8))
    return found


def _digits(labels: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    data = load_digits()
    chosen = [rng.choice(np.flatnonzero(data.target == label)) for label in labels]
    return [np.repeat(np.kron(data.images[i] * 15, np.ones((4, 4)))[..., None], 3, 2).astype(np.uint8) for i in chosen]


def answers(case: str, w: World, x: np.ndarray, labels: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """What every classifier of one set takes all test images for, int (k, n), with the procedure of `figment.measures.evidence`."""
    rng = np.random.default_rng([seed, 7])
    again = [resample(labels, rng) for _ in range(RESAMPLES)]
    rows = [np.arange(len(labels))] * (1 + PLACEBOS) + again + again
    named = [labels, *(spread_labels(labels, rng) for _ in range(PLACEBOS)), *(labels[r] for r in again)]
    named += [spread_labels(labels[r], rng) for r in again]
    test, n = w.test[0], w.n_classes
    zero, seen = w.zero_shot.predict(test), w.zero_shot.predict(x)
    if case.startswith("words and images"):
        heads = [
            discriminant(x[r], y, n).predict(test) + zero + bias_of(seen[r]) for r, y in zip(rows, named, strict=True)
        ]
    else:
        chosen = [Chosen(r, y) for r, y in zip(rows, named, strict=True)]
        tuned = tune_many(w.zero_shot, x, chosen, TuneSettings(), [seed * 100 + i for i in range(len(chosen))])
        heads = [t.head.predict(test) for t in tuned]
    took = np.stack([h.argmax(1) for h in heads])
    return {
        "own": took[:1],
        "placebos": took[1 : 1 + PLACEBOS],
        "sets": took[1 + PLACEBOS : 1 + PLACEBOS + RESAMPLES],
        "placebos of sets": took[1 + PLACEBOS + RESAMPLES :],
        "zero": zero.argmax(1)[None],
        "unbiased": np.stack([(zero + bias_of(seen[r])).argmax(1) for r in [rows[0], *again]]),
        "only": discriminant(x, labels, n).predict(test).argmax(1)[None],
    }


def study(a: dict[str, np.ndarray], labels: np.ndarray, n_classes: int, chosen: np.ndarray) -> str:
    """The word that one study of these test images comes to."""
    y = labels[chosen]
    right = {name: (took[:, chosen] == y).astype(np.float32) for name, took in a.items()}
    own, sets = right["own"][0], right["sets"]
    differences: dict[str, Difference] = {
        UNTUNED: difference(own - right["zero"][0], resampled=sets - right["zero"]),
        BIAS_REMOVED: difference(own - right["unbiased"][0], resampled=sets - right["unbiased"][1:]),
        PLACEBO: difference(own - right["placebos"].mean(0), resampled=sets - right["placebos of sets"]),
    }
    return judge(differences, content_gate(a["only"][0, chosen], y, n_classes), len(chosen)).word


def rows_of(case: str, w: World, n_sets: int, n_studies: int, sizes: tuple[int, ...]) -> Iterator[dict[str, object]]:
    x, labels = population(case, w)
    words: dict[int, Counter[str]] = {n: Counter() for n in sizes}
    truth = []
    for s in range(n_sets):
        rng = np.random.default_rng([s, 11])
        drawn = resample(labels, rng)
        named = spread_labels(labels[drawn], rng) if case.endswith(("shuffled", "shuffled labels")) else labels[drawn]
        a = answers(case, w, x[drawn], named, s)
        y = w.test[1]
        truth.append([float((a["own"] == y).mean() - (a[k] == y).mean()) for k in ("zero", "unbiased", "placebos")])
        for n in sizes:
            for _ in range(-(-n_studies // n_sets)):
                words[n][study(a, y, w.n_classes, rng.integers(len(y), size=n))] += 1
    for n in sizes:
        total = words[n].total()
        low, high = wilson(words[n]["helps"] / total, total, 1.96)
        differences = [round(100 * float(t), 2) for t in np.mean(truth, axis=0)]
        yield {"case": case, "n": n, "studies": total, "sets": n_sets, "truth in points": differences, "words": dict(words[n]),
               "helps %": round(100 * words[n]["helps"] / total, 1), "interval %": [round(100 * low, 1), round(100 * high, 1)]}  # fmt: skip


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as a page shows them: a line a case, a column a number of test images."""
    sizes = sorted({row["n"] for row in rows})
    lines = ["| case | truth: over zero-shot, bias removed, placebo | " + " | ".join(f"{n:,}" for n in sizes) + " |"]
    lines.append("|---|---|" + "---|" * len(sizes))
    for case in dict.fromkeys(row["case"] for row in rows):
        own = {row["n"]: row for row in rows if row["case"] == case}
        truth = ", ".join(f"{t:+.2f}" for t in next(iter(own.values()))["truth in points"])
        cells = ["{} ({} to {})".format(own[n]["helps %"], *own[n]["interval %"]) if n in own else "" for n in sizes]
        lines.append(f"| {case} | {truth} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the folder of a finished figment demo")
    parser.add_argument("--studies", type=int, default=200, help="of each case and number of test images")
    parser.add_argument("--sets", type=int, default=20, help="different sets of each case")
    parser.add_argument("--cases", nargs="+", default=CASES, choices=CASES)
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES, help="test images")
    parser.add_argument(
        "--out", type=Path, default=Path("calibration.jsonl"), help="rows; cases that are there are left out"
    )
    args = parser.parse_args()
    done = {json.loads(line)["case"] for line in args.out.read_text().splitlines()} if args.out.exists() else set()
    w = world(args.run)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    for case in args.cases:
        if case in done:
            continue
        started = time.monotonic()
        found = list(rows_of(case, w, args.sets, args.studies, tuple(args.sizes)))
        with args.out.open("a") as out:
            for row in found:
                told = {
                    **row,
                    "commit": commit,
                    "command": " ".join(sys.argv),
                    "seconds": round(time.monotonic() - started),
                }
                out.write(json.dumps(told) + "\n")
                print(json.dumps(row), flush=True)
    print("\n" + table([json.loads(line) for line in args.out.read_text().splitlines()]))


if __name__ == "__main__":
    main()

"""Which learner should be the default? Accuracies on the 10,000 real test images, by what the words are worth and how many real images there are.

    python tools/learners.py runs/demo docs/results/learners      minutes on one core; writes .jsonl and .md

Takes the features of a finished demo and learns with the project's own learners. Words are made worse by noise on the text features
(sd a dimension), or by calling classes by one another's names; the last domain, scikit-learn's digits, is one that the starter has
neither words nor features for.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

from figment.encoders import Features, open_encoder
from figment.filters.clip import ClipFilter
from figment.images_in import open_images
from figment.images_in.memory import MemoryImages
from figment.images_in.shards import open_run_images
from figment.layout import Run
from figment.learners.clip_head.images_only import ImagesOnlyLearner
from figment.learners.clip_head.learner import ClipHeadLearner
from figment.learners.clip_head.words_and_images import WordsAndImagesLearner
from figment.recipe.train import ClipHeadSettings
from figment.shots import draw_shots
from figment.task import load_task, real_folder
from figment.types import Images, Learner, Training

SHOTS = (0, 1, 2, 4, 8, 16, 64)
DRAWS = 5
LEARNERS = (
    "zero-shot",
    "bias removed",
    "tuned from zero-shot",
    "tuned from bias removed",
    "images only",
    "words and images",
)
FILTERS = ("no filter", "filter", "filter, bias removed")


@dataclass
class Words:
    """The starter's encoder with other text features."""

    encoder: Any
    change: Any  # texts' features float (N, D) -> the same, for the classes in their order

    def __getattr__(self, name: str) -> Any:
        return getattr(self.encoder, name)

    def texts(self, texts: list[str]) -> np.ndarray:
        changed = self.change(self.encoder.texts(texts))
        return (changed / np.linalg.norm(changed, axis=1, keepdims=True)).astype(np.float32)


def blurred(sd: float) -> Any:
    return lambda x: x + np.random.default_rng(5).normal(0, sd, x.shape)


def swapped(k: int) -> Any:
    return lambda x: x[np.r_[np.roll(np.arange(k), 1), np.arange(k, len(x))]]


WORDS = {
    "as they are": lambda x: x,
    "blurred .05": blurred(0.05),
    "blurred .09": blurred(0.09),
    "blurred .2": blurred(0.2),
    "blurred .4": blurred(0.4),
    "noise": lambda x: np.random.default_rng(5).normal(size=x.shape),
    "2 swapped": swapped(2),
    "6 swapped": swapped(6),
    "10 swapped": swapped(10),
}


@dataclass
class World:
    """One domain: its class names, one template, and the images."""

    names: list[str]
    template: str
    features: Features
    made: Images
    pool: Images
    test: Images


def fashion(run: Path) -> World:
    task, encoder = load_task("fashion"), open_encoder("starter/clip")
    features = Features(encoder, Run(run).features)
    real = [open_images(real_folder(f"starter/{split}"), task.class_names) for split in ("pool", "test")]
    return World(task.class_names, task.templates[0], features, open_run_images(Run(run)), *real)


def digits() -> World:
    """A third of scikit-learn's digits in the place of generated images, and the rest as real ones."""
    data = load_digits()
    pictures = [
        np.repeat(np.kron(image * 15, np.ones((4, 4)))[..., None], 3, 2).astype(np.uint8) for image in data.images
    ]
    order = np.random.default_rng(0).permutation(len(pictures))
    thirds = [MemoryImages([pictures[i] for i in part], data.target[part]) for part in np.array_split(order, 3)]
    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    return World(names, "a photo of the digit {}.", Features(open_encoder("starter/clip")), *thirds)


def learners(w: World) -> dict[str, Learner]:
    of = w.features, w.names, [w.template]
    return {
        "tuned from zero-shot": ClipHeadLearner(*of, ClipHeadSettings(start="zero_shot")),
        "tuned from bias removed": ClipHeadLearner(*of, ClipHeadSettings(start="bias_removed")),
        "images only": ImagesOnlyLearner(w.features, w.names),
        "words and images": WordsAndImagesLearner(*of),
    }


def untuned(w: World, made: Images) -> dict[str, np.ndarray]:
    """Logits of the test images, of words alone."""
    learner = ClipHeadLearner(w.features, w.names, [w.template], ClipHeadSettings())
    start = learner.start_of(Training(made))
    return {"zero-shot": learner.untrained().logits(w.test), "bias removed": learner.model(start).logits(w.test)}


def rows(
    domain: str, words: str, w: World, shots: tuple[int, ...], filters: tuple[str, ...]
) -> Iterator[dict[str, Any]]:
    right = lambda logits: 100 * float((logits.argmax(1) == w.test.labels).mean())
    for name in filters:
        made = w.made
        if name != "no filter":
            verdicts = ClipFilter(w.features, w.names, [w.template], remove_bias=name != "filter")(made)
            made = made.take(np.flatnonzero([v.keep for v in verdicts]))
        for k in shots:
            found: dict[str, list[float]] = {} if k else {n: [right(x)] for n, x in untuned(w, w.made).items()}
            for draw in range(DRAWS if k else 1):
                real = w.pool.take(draw_shots(w.pool.labels, k, draw)) if k else None
                for of, learner in learners(w).items():
                    found.setdefault(of, []).append(right(learner.learn(made, real, draw).logits(w.test)))
            told = {
                n: {"mean": round(float(np.mean(v)), 2), "sd": round(float(np.std(v)), 2)} for n, v in found.items()
            }
            yield {
                "domain": domain,
                "words": words,
                "filter": name,
                "kept": len(made),
                "shots": k,
                "draws": DRAWS if k else 1,
                **told,
            }


def every(run: Path) -> Iterator[dict[str, Any]]:
    w = fashion(run)
    encoder = w.features.encoder
    for words, change in WORDS.items():
        w.features.encoder = Words(encoder, change)  # type: ignore[assignment]  # same images, so the same features
        yield from rows("Fashion-MNIST", words, w, SHOTS if words == "as they are" else (0, 4), FILTERS)
    yield from rows("digits", "as they are", digits(), (0, 1, 4, 16), FILTERS)


def table(found: list[dict[str, Any]]) -> str:
    lines = [
        "| domain | words | filter | real images a class | " + " | ".join(LEARNERS) + " |",
        "|---" * (4 + len(LEARNERS)) + "|",
    ]
    for row in found:
        cells = [
            f"{row[n]['mean']:.1f}" + (f" ({row[n]['sd']:.1f})" if row["draws"] > 1 else "") if n in row else ""
            for n in LEARNERS
        ]
        lines.append(
            f"| {row['domain']} | {row['words']} | {row['filter']} | {row['shots'] or ''} | " + " | ".join(cells) + " |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the folder of a finished figment demo")
    parser.add_argument("out", type=Path, help="where to write, without .jsonl and .md")
    args = parser.parse_args()
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    found = []
    with args.out.with_suffix(".jsonl").open("w") as out:
        for row in every(args.run):
            found.append(row)
            out.write(json.dumps({**row, "commit": commit, "command": " ".join(sys.argv)}) + "\n")
            out.flush()
    args.out.with_suffix(".md").write_text(INTRODUCTION + "\n" + table(found) + "\n")


INTRODUCTION = """# Learners beside one another

Top-1 in per cent on the real test images (10,000 of Fashion-MNIST, 599 digits), made by `python tools/learners.py`; with real images the
mean of 5 draws (and its standard deviation). Rows, with commit and command: [learners.jsonl](learners.jsonl). "Tuned" is He et al.'s recipe, from the
zero-shot classifier or from the same with its bias removed; "words and images" is the default. With real images it may leave the words out.
"""

if __name__ == "__main__":
    main()

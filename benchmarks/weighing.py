"""What a generated image should weigh beside a photograph: the default learner, which asks the photographs, against counting all alike.

    figment demo --look sketch --out runs/demo-sketch
    python benchmarks/weighing.py runs/demo-sketch --out rows.jsonl      minutes of one core a demo; prints a table

Of each finished demo the kept images, and photographs of its pool drawn several times: accuracy on the 10,000 test images of the
photographs alone, of both counted alike, and of both as weighed. A draw that `--out` has is not measured again.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

import figment
from figment.images_in import open_images
from figment.layout import Run
from figment.learners.clip_head import weighing
from figment.learners.clip_head.images_only import WEIGHT
from figment.learners.clip_head.words_and_images import WordsAndImagesLearner
from figment.recipe import load_recipe
from figment.shots import draw_shots
from figment.task import real_folder

SHOTS, DRAWS = (1, 2, 4, 8, 16, 64), 6
ALIKE = (1.0, 1.0)  # in the place of the weights that are tried


def draws(folder: Path, done: set[tuple[str, int, int]]) -> Iterator[dict[str, Any]]:
    task = load_recipe(Run(folder).recipe).task
    assert task.real.train and task.real.test
    features = figment.Features(figment.open_encoder("starter/clip"), Run(folder).features)
    pool, test = (open_images(real_folder(where), task.class_names) for where in (task.real.train, task.real.test))
    learner = WordsAndImagesLearner(features, task.class_names, task.templates)
    made = figment.open_kept(folder)

    def top1(model: figment.Model) -> float:
        return round(100 * float((model.logits(test).argmax(1) == test.labels).mean()), 2)

    for shots in SHOTS:
        for draw in range(DRAWS):
            if (folder.name, shots, draw) in done:
                continue
            own = pool.take(draw_shots(pool.labels, shots, draw))
            weighed = learner.learn(made, own, 0)
            with patch.object(weighing, "WEIGHTS", ALIKE):
                alike = learner.learn(made, own, 0)
            found = {"alone": top1(learner.learn(None, own, 0)), "alike": top1(alike), "weighed": top1(weighed)}
            yield {"run": folder.name, "shots": shots, "draw": draw, **found, "weight": weighed.facts[WEIGHT]}


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| images | photographs a class | alone | counted alike | weighed | weights |",
        "|---|---|---|---|---|---|",
    ]
    for run, shots in sorted({(row["run"], row["shots"]) for row in rows}):
        own = [row for row in rows if (row["run"], row["shots"]) == (run, shots)]
        means = (f"{statistics.mean(row[way] for row in own):.1f}" for way in ("alone", "alike", "weighed"))
        weights = ", ".join(f"{row['weight']:g}" for row in own)
        lines.append(f"| {run} | {shots} | {' | '.join(means)} | {weights} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="folders of finished demos")
    parser.add_argument("--out", type=Path, default=Path("weighing.jsonl"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.is_file() else []
    done = {(row["run"], row["shots"], row["draw"]) for row in rows}
    with args.out.open("a") as file:
        for folder in args.runs:
            for row in draws(folder, done):
                rows.append(row)
                print(json.dumps(row), file=file, flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()

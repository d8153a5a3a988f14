"""A student of the starter's denoiser, for `generate.py --student`: four steps of one pass where the teacher takes six of two.

``python benchmarks/student.py build/student`` asks the teacher for the prompts that `generate.py` will ask for. A quarter of an hour on one
core; the same command again goes on where it stopped. `--steps 20 --trajectories 64` looks whether it runs.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import figment
from figment.generate.training.distil import distil
from figment.generate.training.settings import DistilSettings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--task", default="fashion", help="a built-in task, whose words the prompts have")
    parser.add_argument("--points", type=int, default=4, help="steps that the student samples in")
    parser.add_argument("--steps", type=int, default=400, help="of its training")
    parser.add_argument("--trajectories", type=int, default=2048, help="that the teacher samples for it")
    args = parser.parse_args()
    prompts = figment.Attributes(exactly=False)(figment.load_task(args.task), 100, np.random.default_rng(7))
    settings = DistilSettings(
        points=args.points, steps=args.steps, trajectories=args.trajectories, warmup_steps=args.steps // 10
    )
    teacher = figment.DiffusersGenerator(model="starter", dtype="float32")
    for step in distil(teacher, [prompt.text for prompt in prompts], settings, folder=args.folder):
        if step.number % 20 == 0:
            print(f"step {step.number} of {args.steps}, loss {step.loss:.4f}", flush=True)


if __name__ == "__main__":
    main()

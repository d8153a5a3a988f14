"""Images a second of three ways to make the same data set with the starter, each with the CAS of what it made.

    python benchmarks/generate.py            about 15 minutes on two CPU cores
    python benchmarks/generate.py --quick    about 2 minutes, too few images for a CAS that means much

(a) the loop a tutorial shows: ``pipe(prompt, num_inference_steps=50).images[0]``, all else diffusers' defaults; (b) the same in
batches of 64; (b20) batches with figment's number of steps; (c) figment as it comes. All in one process, one after another, on the
same prompts. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import time

import diffusers
import numpy as np
import torch

from figment import starter
from figment.cas import classification_accuracy_score
from figment.generate.diffusers import DiffusersGenerator
from figment.generate.plan import Plan
from figment.images_in import open_images
from figment.images_in.memory import MemoryImages
from figment.learners.network.small_cnn import SMALL_CNN
from figment.prompts.attributes import Attributes
from figment.task import load_task

BATCH = 64


def tutorial(pipe, texts: list[str], steps: int = 50) -> list[np.ndarray]:
    return [np.asarray(pipe(text, num_inference_steps=steps).images[0]) for text in texts]


def batched(pipe, texts: list[str], steps: int = 50) -> list[np.ndarray]:
    images = []
    for start in range(0, len(texts), BATCH):
        images += [np.asarray(i) for i in pipe(texts[start : start + BATCH], num_inference_steps=steps).images]
    return images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few images")
    parser.add_argument("--images", type=int, default=0, help="images of each way; default 1000, quick 100")
    args = parser.parse_args()
    n = args.images or (100 if args.quick else 1000)

    task = load_task("fashion")
    prompts = Attributes()(task, max(1, n // 10), np.random.default_rng(0))
    samples = list(Plan(prompts, n // len(task.class_names), seed=0))
    texts, labels = [s.prompt for s in samples], np.array([s.label for s in samples])
    test = open_images(starter.folder("test"), task.class_names)
    network = SMALL_CNN.model_copy(update={"min_steps": 100 if args.quick else 800})

    pipe = diffusers.DiffusionPipeline.from_pretrained(starter.folder("pipeline"), safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    figment = DiffusersGenerator(model="starter")
    ways = {
        "a: tutorial loop, 50 steps": lambda texts: tutorial(pipe, texts),
        "b: batched, 50 steps": lambda texts: batched(pipe, texts),
        f"b20: batched, {figment.num_inference_steps} steps": lambda texts: batched(
            pipe, texts, figment.num_inference_steps
        ),
        "c: figment": lambda texts: [
            i for i in figment(texts, [s.seed for s in samples[: len(texts)]]) if i is not None
        ],
    }
    figures: dict[str, dict[str, float]] = {}
    for name, way in ways.items():
        torch.manual_seed(0)
        way(texts[:2])  # loading and warming up
        started = time.perf_counter()
        images = way(texts)
        rate = len(images) / (time.perf_counter() - started)
        cas = classification_accuracy_score(
            MemoryImages(images, labels),
            test,
            task.class_names,
            settings=network,
            seeds=(0,) if args.quick else (0, 1),
        )
        figures[name.split(":")[0]] = {
            "images_per_second": round(rate, 3),
            "cas": round(cas.value, 4),
            "cas_low": round(cas.ci[0], 4),
            "cas_high": round(cas.ci[1], 4),
        }
        print(f"{name:<28} {rate:8.2f} images/s   CAS {cas.value:.3f} ({cas.ci[0]:.3f} to {cas.ci[1]:.3f})", flush=True)
    speed = {k: v["images_per_second"] for k, v in figures.items()}
    print(
        f"figment is {speed['c'] / speed['a']:.1f}x the tutorial loop, {speed['c'] / speed['b']:.1f}x batched diffusers, {speed['c'] / speed['b20']:.1f}x at equal steps"
    )
    print(
        json.dumps(
            {
                "benchmark": "generate",
                "images": n,
                "device": str(figment.device),
                "threads": torch.get_num_threads(),
                **figures,
            }
        )
    )


if __name__ == "__main__":
    main()

"""What two networks of timm learn from the starter's images at 32 pixels, and from as many real ones: CAS, in rows of JSON.

    python benchmarks/cas.py --out cas.jsonl                        10,000 images of each kind, 3 seeds: hours on two CPU cores
    python benchmarks/cas.py --out cas.jsonl --images 1000          a tenth of that
    python benchmarks/cas.py --rates                                images a second of each network in training, a minute

A row a network, kind of images and seed; what is in the file is not trained again, and a training that was killed goes on where
it was. Images are generated once, with the recipe's defaults, beside the file. Real images are those of ``pool``; both are
tested on all of ``test``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from figment import machine, starter
from figment.evaluate.accuracy import accuracy
from figment.images_in import open_images
from figment.images_in.memory import MemoryImages, in_memory
from figment.learners.network.network import NetworkLearner
from figment.learners.network.settings import NetworkSettings
from figment.task import Task, load_task
from figment.types import Images

SHARED = {
    "image_size": 32, "batch_size": 128, "optimizer": "adamw", "weight_decay": 0.05, "warmup": 0.1,
    "crop_scale": None, "pad": 2, "flip": 0.0,
}  # fmt: skip
NETWORKS = {
    "resnet18": {"architecture": "resnet18", "learning_rate": 2e-3},
    "vit": {
        "architecture": "vit_tiny_patch16_224",
        "options": {"patch_size": 8, "depth": 6},
        "learning_rate": 1e-3,
        "grad_clip": 1.0,
    },
}


def generated(task: Task, n: int, folder: Path) -> Images:
    """``n`` images of the starter, balanced, as a run with the defaults makes them: ``folder`` keeps them."""
    kept = folder / f"generated-{n}.npz"
    if not kept.is_file():
        from figment.generate.diffusers import DiffusersGenerator
        from figment.generate.plan import Plan
        from figment.prompts.attributes import Attributes

        per_class = -(-n // len(task.class_names))
        prompts = Attributes()(task, min(500, per_class), np.random.default_rng(0))
        samples = list(Plan(prompts, per_class, seed=0))
        generator = DiffusersGenerator(model="starter", guidance_scale=1.0)
        made: list[np.ndarray | None] = []
        for start in range(0, len(samples), 500):
            some = samples[start : start + 500]
            made += generator([s.prompt for s in some], [s.seed for s in some])
            print(f"generated {len(made):,} of {len(samples):,}", flush=True)
        good = [(image, s.label) for image, s in zip(made, samples, strict=True) if image is not None]
        folder.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(kept, images=np.stack([i for i, _ in good]), labels=np.array([label for _, label in good]))
    found = np.load(kept)
    return MemoryImages(list(found["images"]), found["labels"])


def rates(task: Task, epochs: int) -> None:
    pool = in_memory(open_images(starter.folder("pool"), task.class_names).take(range(1280)), 2**30)
    for name, own in NETWORKS.items():
        learner = NetworkLearner(NetworkSettings(**{**SHARED, **own, "epochs": 1}), task.class_names)
        started = time.perf_counter()
        learner.learn(None, pool, seed=0)
        rate = 1280 / (time.perf_counter() - started)
        hours = 2 * 3 * 10_000 * epochs / rate / 3600
        print(f"{name:<10} {rate:8.1f} images/s; 10,000 x {epochs} epochs, two kinds, 3 seeds: {hours:.1f} hours")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("cas.jsonl"), help="rows are added to this file")
    parser.add_argument("--images", type=int, default=10_000, help="of each kind")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--rates", action="store_true", help="measure how fast, and train nothing to its end")
    args = parser.parse_args()
    task = load_task("fashion")
    if args.rates:
        rates(task, args.epochs)
        return
    work = args.out.with_suffix(".work")
    pool, test = (open_images(starter.folder(split), task.class_names) for split in ("pool", "test"))
    real = pool.take(np.random.default_rng(0).permutation(len(pool))[: args.images])
    kinds = {"generated": generated(task, args.images, work), "real": real}
    rows = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.is_file() else []
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    for seed in range(args.seeds):
        for name in args.networks:
            settings = NetworkSettings(**{**SHARED, **NETWORKS[name], "epochs": args.epochs})
            learner = NetworkLearner(settings, task.class_names, folder=work)
            for kind, images in kinds.items():
                row = {"network": name, "kind": kind, "images": len(images), "epochs": args.epochs, "seed": seed}
                if any(row.items() <= done.items() for done in rows):
                    continue
                started = time.perf_counter()
                model = learner.learn(images, None, seed)
                seconds = time.perf_counter() - started
                result = accuracy(model.logits(test), test.labels, task.class_names, "cas", (seed,))
                row |= {
                    "cas": result.value,
                    "ci": result.ci,
                    "n": result.n,
                    "settings": settings.model_dump(mode="json"),
                }
                row |= {"seconds": round(seconds, 1), "commit": commit, "command": " ".join(sys.argv)}
                row |= {"machine": machine.device(), "versions": machine.versions()}
                with args.out.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                print(f"{name} on {kind}, seed {seed}: CAS {result.value:.3f}, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()

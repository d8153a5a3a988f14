"""The trainings of a demo's evaluation and its exchange rate: this build beside an older one, in one run.

    python benchmarks/exchange.py --old ../figment-0.1.0     a checkout of version 0.1.0 with a .venv of its own

Both get the same features: those of the starter's pool and test images, and 2,000 of the pool in place of generated
ones, a tenth of them under a wrong name (whose pixels they are changes no time). What is timed is what `figment demo` does
with them for one arm: 3 trainings on the generated images, 3 on all 10,000 real ones, 35 for the curve of 1 to 64 images a
class, the answers of all of them on 10,000 test images, and the bootstrap. The two take turns, each in a process of its
own; medians count. The last line is JSON.

Encoding 20,000 images takes minutes the first time; --features keeps them in a file.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

SEEDS = (0, 1, 2)
HERE = Path(__file__).resolve()


class Table:
    """Images that are their features."""

    def __init__(self, digests: list[str], labels: np.ndarray) -> None:
        self.digests, self.ids, self.labels = digests, digests, labels

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: np.ndarray) -> Table:
        return Table([self.digests[i] for i in indices], self.labels[np.asarray(indices, int)])


class Known:
    """`figment.Features`, once everything is encoded."""

    def __init__(self, known: dict[str, np.ndarray], prototypes: np.ndarray, scale: float) -> None:
        self.known = known
        self.encoder = SimpleNamespace(fingerprint="", logit_scale=scale, texts=lambda texts: prototypes)

    def __call__(self, images: Table) -> np.ndarray:
        return np.stack([self.known[d] for d in images.digests])


def given(path: Path) -> tuple[Known, dict[str, Table]]:
    """The features, and the images ``real``, ``test`` and ``synthetic``."""
    data = np.load(path)
    known: dict[str, np.ndarray] = {}
    tables = {}
    for split in ("real", "test", "synthetic"):
        digests = [f"{split}{i}" for i in range(len(data[split]))]
        known.update(zip(digests, data[split], strict=True))
        tables[split] = Table(digests, data[f"{split}_labels"])
    return Known(known, data["prototypes"], float(data["scale"])), tables


def this_build(features: Any, images: dict[str, Any]) -> tuple[list[float], Any]:
    from figment.evaluate.exchange_rate import exchange_rate, real_curve
    from figment.learners.clip_head.learner import ClipHeadLearner
    from figment.recipe.train import ClipHeadSettings
    from figment.types import Training

    real, test, synthetic = images["real"], images["test"], images["synthetic"]
    names = [str(c) for c in range(len(np.unique(test.labels)))]
    learner = ClipHeadLearner(features, names, ["{}"], ClipHeadSettings(start="zero_shot"))
    answers = lambda trainings: [m.logits(test).argmax(1) for m in learner.learn_many(trainings)]
    made = answers([Training(synthetic, None, seed) for seed in SEEDS])
    ceiling = answers([Training(None, real, seed) for seed in SEEDS])
    curve = real_curve(
        real.labels,
        test.labels,
        lambda draws: answers([Training(None, real.take(d.index), d.seed) for d in draws]),
        learner.untrained().logits(test).argmax(1),
    )
    right = np.stack(made) == test.labels
    shares = [float((np.stack(a) == test.labels).mean()) for a in (made, ceiling)]
    return [*shares, *curve.correct.mean((0, 2)).tolist()], exchange_rate(curve, right)


def older_build(features: Any, images: dict[str, Any]) -> tuple[list[float], Any]:
    """As `figment.measure` of version 0.1.0 has it."""
    from figment.classify.head import zero_shot_head
    from figment.classify.tune import tune, tune_few_shot
    from figment.evaluate.exchange_rate import exchange_rate, real_curve
    from figment.recipe.train import Train

    real, test, synthetic = images["real"], images["test"], images["synthetic"]
    names = [str(c) for c in range(len(np.unique(test.labels)))]
    start, train = zero_shot_head(features.encoder, names, ["{}"]), Train()
    made = [tune(start, features(synthetic), synthetic.labels, train, seed).head for seed in SEEDS]
    ceiling = [tune_few_shot(start, features(real), real.labels, seed, train) for seed in SEEDS]
    right, high = (np.stack([h.predict(features(test)).argmax(1) == test.labels for h in hs]) for hs in (made, ceiling))
    curve = real_curve(
        start,
        features(real),
        real.labels,
        features(test),
        test.labels,
        learn=lambda head, x, y, seed: tune_few_shot(head, x, y, seed, train),
    )
    return [float(right.mean()), float(high.mean()), *curve.correct.mean((0, 2)).tolist()], exchange_rate(curve, right)


MODULES = {
    True: ("classify.head", "classify.tune", "evaluate.exchange_rate", "recipe.train"),
    False: ("learners.clip_head.learner", "evaluate.exchange_rate", "recipe.train"),
}


def work(path: Path, old: bool) -> None:
    import torch

    for module in MODULES[old]:  # seconds, which are not what is measured
        import_module(f"figment.{module}")
    features, images = given(path)
    torch.softmax(torch.zeros(2, 2) @ torch.zeros(2, 2), 0)  # starts the threads
    wall, cpu = time.perf_counter(), time.process_time()
    accuracies, result = (older_build if old else this_build)(features, images)
    spent = time.perf_counter() - wall, time.process_time() - cpu
    print(json.dumps({"wall": spent[0], "cpu": spent[1], "accuracies": accuracies, "text": result.details["text"]}))


def run(python: Path, path: Path, old: bool) -> dict[str, Any]:
    command = [str(python), str(HERE), "--work", "old" if old else "new", "--features", str(path)]
    environment = {k: v for k, v in os.environ.items() if not (old and k == "PYTHONPATH")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def encode(path: Path) -> None:
    """The starter's features, and its words."""
    from figment.encoders import Features, class_prototypes, open_encoder
    from figment.images_in import open_images
    from figment.task import load_task, real_folder

    task, encoder = load_task("fashion"), open_encoder("starter/clip")
    features, data = Features(encoder), {}
    for split, name in (("real", "starter/pool"), ("test", "starter/test")):
        images = open_images(real_folder(name), task.class_names)
        data[split], data[f"{split}_labels"] = features(images), images.labels
    rng = np.random.default_rng(0)
    rows = rng.choice(len(data["real"]), 2000, replace=False)
    wrong = rng.random(2000) < 0.1
    labels = np.where(wrong, rng.integers(len(task.class_names), size=2000), data["real_labels"][rows])
    words = class_prototypes(encoder, task.class_names, task.templates)
    np.savez(
        path, **data, synthetic=data["real"][rows], synthetic_labels=labels, prototypes=words, scale=encoder.logit_scale
    )


def chip() -> str:
    """Name and vector instructions of the processor, as Linux tells them."""
    lines = dict(line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line)
    fields = {key.strip(): value.strip() for key, value in lines.items()}
    found = [f for f in ("avx2", "avx512f", "amx_tile") if f in fields.get("flags", "").split()]
    return f"{fields.get('model name', 'unknown')} ({', '.join(found) or 'no AVX2'}), {os.cpu_count()} cores"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--old", type=Path, help="a checkout of version 0.1.0 that has a .venv")
    parser.add_argument("--features", type=Path, default=Path("exchange-features.npz"), help="made where it is missing")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each")
    parser.add_argument("--work", choices=["old", "new"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        work(args.features, args.work == "old")
        return
    if not args.features.exists():
        encode(args.features)
    pythons = {"this build": (Path(sys.executable), False)}
    if args.old:
        pythons["the older build"] = (args.old.resolve() / ".venv" / "bin" / "python", True)
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in pythons}
    print(chip())
    for _ in range(args.repeats):
        for name, (python, old) in pythons.items():
            found[name].append(run(python, args.features, old))
            print(
                f"  {name:<16} {found[name][-1]['wall']:7.2f} s, {found[name][-1]['cpu']:7.2f} s of the processor",
                flush=True,
            )
    for name, runs in found.items():
        print(f"{name}: worth {runs[0]['text']}; accuracies {[round(a, 4) for a in runs[0]['accuracies']]}")
    median = {name: {k: statistics.median(r[k] for r in runs) for k in ("wall", "cpu")} for name, runs in found.items()}
    if args.old:
        ratios = {k: median["the older build"][k] / median["this build"][k] for k in ("wall", "cpu")}
        met = "met " if ratios["wall"] >= 5 else "MISSED"
        print(f"{met}  {ratios['wall']:.1f}x as fast ({ratios['cpu']:.1f}x by processor time), at least 5x")
    print(json.dumps({"benchmark": "exchange", "chip": chip(), "seconds": median}))


if __name__ == "__main__":
    main()

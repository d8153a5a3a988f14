"""What the measures of a generator cost: figment's, with intervals and floors, beside torch-fidelity's and prdc's, with neither.

    python benchmarks/measures.py --images 1000 --dimensions 512        a minute
    python benchmarks/measures.py                                       10,000 of either kind in 2,048 dimensions

Both sides get the same features and logits, drawn at random; each runs in a process of its own, whose peak memory is told less that of
a process that only holds the features. torch-fidelity: FID, KID (100 subsets of 1,000), Inception score, precision and recall;
prdc (pip install prdc==0.2): precision, recall, density and coverage. figment: these seven, then all others.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

CLASSES = 1008  # of the Inception network
NAMES = [str(c) for c in range(10)]
Work = dict[str, Callable[[], object]]


def features(n: int, dimensions: int, seed: int, shift: float) -> np.ndarray:
    """Correlated, with a spectrum that falls as that of a network's features does: float32 (n, D)."""
    spectrum = 1 / np.sqrt(1 + np.arange(dimensions))
    rng = np.random.default_rng(seed)
    return (shift + rng.normal(size=(n, dimensions)) * spectrum).astype(np.float32)


def of_figment(real: np.ndarray, made: np.ndarray, logits: np.ndarray) -> Work:
    from figment.evaluate.coverage import coverage, within_classes
    from figment.evaluate.diversity import diversity
    from figment.evaluate.fidelity import frechet
    from figment.evaluate.inception_score import inception_score
    from figment.evaluate.memorisation import memorisation
    from figment.evaluate.mind import mind
    from figment.evaluate.mmd import cmmd, kid
    from figment.evaluate.vendi import vendi

    labels = (np.arange(len(real)) % len(NAMES),) * 2
    return {
        "FID": lambda: frechet(made, real, "x"),
        "KID": lambda: kid(real, made, "x"),
        "IS": lambda: inception_score(logits, logits, "x"),
        "PRDC": lambda: coverage(real, made, "x"),
        "also CMMD": lambda: cmmd(real, made, "x"),
        "also MIND": lambda: mind(real, made, "x"),
        "also Vendi": lambda: vendi(real, made, "x"),
        "also diversity": lambda: diversity(real, made, labels, NAMES, "x"),
        "also memorisation": lambda: memorisation(real, made, "x"),
        "also F1 within classes": lambda: within_classes(real, made, labels, NAMES, "x"),
    }


def of_others(real: np.ndarray, made: np.ndarray, logits: np.ndarray) -> Work:
    import torch
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_isc import isc_features_to_metric
    from torch_fidelity.metric_kid import kid_features_to_metric
    from torch_fidelity.metric_prc import prc_features_to_metric

    a, b, c = (torch.from_numpy(x) for x in (made, real, logits))
    size = min(1000, len(real))
    work: Work = {
        "FID": lambda: fid_statistics_to_metric(*(fid_features_to_statistics(x) for x in (a, b)), verbose=False),
        "KID": lambda: kid_features_to_metric(a, b, kid_subset_size=size, verbose=False),
        "IS": lambda: isc_features_to_metric(c),
        "PR": lambda: prc_features_to_metric(a, b, verbose=False),
    }
    try:
        from prdc import compute_prdc
    except ImportError:
        print("prdc is not installed, and is left out", file=sys.stderr)
    else:
        work["PRDC"] = lambda: compute_prdc(real_features=real, fake_features=made, nearest_k=5)
    return work


SIDES = {"nothing": lambda *_: {}, "figment": of_figment, "the others": of_others}


def measure(side: str, n: int, dimensions: int) -> None:
    """One side, in this process: seconds of each measure, and the peak memory in GB."""
    real, made = features(n, dimensions, 0, 0.0), features(n, dimensions, 1, 0.02)
    logits = 3 * features(n, CLASSES, 2, 0.0)
    seconds = {}
    for name, work in SIDES[side](real, made, logits).items():
        started = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            work()
        seconds[name] = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000, help="of either kind")
    parser.add_argument("--dimensions", type=int, default=2_048)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    own = parser.parse_args()
    if own.side:
        measure(own.side, own.images, own.dimensions)
        return
    found = {}
    for side in SIDES:
        command = [sys.executable, __file__, "--side", side, "--images", own.images, "--dimensions", own.dimensions]
        done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, text=True, check=True)
        found[side] = json.loads(done.stdout)
    base = found.pop("nothing")["peak"]
    print(f"{own.images:,} images of either kind, {own.dimensions:,} dimensions")
    for side, told in found.items():
        parts = ", ".join(f"{name} {s:.2f}" for name, s in told["seconds"].items())
        print(f"{side}: {parts} s; {told['peak'] - base:.2f} GB beside the features")
    seconds = {side: told["seconds"] for side, told in found.items()}
    same = sum(s for name, s in seconds["figment"].items() if not name.startswith("also"))
    theirs, ours = sum(seconds["the others"].values()), sum(seconds["figment"].values())
    print(
        f"what both have: {theirs:.1f} s against {same:.1f}, {theirs / same:.2f} times; with all others {theirs / ours:.2f} times"
    )


if __name__ == "__main__":
    main()

"""Tuning a head on cached features with `figment.tune`, beside the loop that anybody writes in PyTorch.

    python benchmarks/tune.py            about 4 minutes on two CPU cores, 1 GB of memory
    python benchmarks/tune.py --quick    about 20 seconds: 3 epochs

Both start from the same zero-shot head, see the images in the same order, and have to end with the same weights: 30 epochs of
AdamW with a cosine schedule, clipping and soft targets, which are the defaults. The loop is `plain` below: a `DataLoader` over a
`TensorDataset`, an ``nn.Linear``, autograd, ``torch.optim.AdamW``. Times are from the arrays of features to the trained weights;
the two take turns, and the medians count. The last line is JSON.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Sampler, TensorDataset

from exchange import chip
from figment.learners.clip_head.head import Head
from figment.learners.clip_head.settings import TuneSettings
from figment.learners.clip_head.tune import tune

N_FEATURES, N_TEST = 1024, 2_000
SEED = 0


def clusters(n: int, n_classes: int) -> tuple[Head, np.ndarray, np.ndarray]:
    """A zero-shot head, unit features (n + N_TEST, D) and labels. The head is right often, not always, as CLIP is."""
    rng = np.random.default_rng(SEED)

    def unit(x: np.ndarray) -> np.ndarray:
        return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)

    centres = rng.standard_normal((n_classes, N_FEATURES), np.float32)
    labels = rng.integers(n_classes, size=n + N_TEST)
    features = unit(centres[labels] + 3 * rng.standard_normal((n + N_TEST, N_FEATURES), np.float32))
    words = unit(centres + 3 * rng.standard_normal(centres.shape, np.float32))
    return Head.from_texts(words, logit_scale=100.0), features, labels


class Permutations(Sampler):
    """``shuffle=True`` with `figment.tune`'s seed: a new permutation every epoch."""

    def __init__(self, n: int, seed: int) -> None:
        self.n, self.generator = n, torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return self.n

    def __iter__(self) -> Iterator[int]:
        yield from torch.randperm(self.n, generator=self.generator).tolist()


def plain(head: Head, features: np.ndarray, labels: np.ndarray, settings: TuneSettings, seed: int) -> nn.Linear:
    """The loop that anybody writes."""
    student = copy.deepcopy(head.linear)
    teacher = copy.deepcopy(head.linear).requires_grad_(False)
    data = TensorDataset(F.normalize(torch.from_numpy(features), dim=-1), torch.from_numpy(labels))
    loader = DataLoader(data, settings.batch_size, sampler=Permutations(len(data), seed))
    optimizer = torch.optim.AdamW(student.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    steps = settings.epochs * len(loader)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / steps)))
    for _ in range(settings.epochs):
        for x, y in loader:
            soft = (teacher(x) / settings.temperature).softmax(-1)
            logits = student(x)
            weight = settings.soft_weight
            loss = weight * F.cross_entropy(logits, soft) + (1 - weight) * F.cross_entropy(logits, y)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(student.parameters(), settings.grad_clip)
            optimizer.step()
            schedule.step()
    return student


def timed(work: Callable[[], nn.Linear]) -> tuple[float, nn.Linear]:
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def best_rate(batch: int, n_classes: int, repeats: int = 30) -> float:
    """Floating-point operations a second of the two products of a step, by float32 ``torch.mm``: the best of several."""
    x, weights, slope = (torch.randn(*s) for s in ((batch, N_FEATURES), (n_classes, N_FEATURES), (batch, n_classes)))
    times: list[list[float]] = [[], []]
    for _ in range(repeats):
        for spent, (a, b) in zip(times, ((x, weights.T), (slope.T, x)), strict=True):
            started = time.perf_counter()
            torch.mm(a, b)
            spent.append(time.perf_counter() - started)
    return 2 * flops(batch, n_classes) / sum(min(spent) for spent in times)


def flops(n: int, n_classes: int) -> int:
    """Of one of the two products, for ``n`` images."""
    return 2 * n * N_FEATURES * n_classes


def differences(own: nn.Linear, other: nn.Linear, test: Tensor) -> dict[str, float]:
    """How far apart two heads are: in their weights and biases, and in what they say of the test images."""
    with torch.no_grad():
        a, b = own(test), other(test)
        return {
            "largest_weight": own.weight.abs().max().item(),
            "weights_differ": max(
                (p - q).abs().max().item() for p, q in zip(own.parameters(), other.parameters(), strict=True)
            ),
            "probabilities_differ": (a.softmax(-1) - b.softmax(-1)).abs().max().item(),
            "other_class": int((a.argmax(-1) != b.argmax(-1)).sum()),
        }


def measure(n: int, n_classes: int, settings: TuneSettings, repeats: int) -> dict:
    """Seconds of both ways in every repeat, the matrix products' rate in between, and how far the heads are apart."""
    head, x, y = clusters(n, n_classes)
    train, test = (x[:n], y[:n]), F.normalize(torch.from_numpy(x[n:]), dim=-1)
    ways: dict[str, Callable[[TuneSettings], nn.Linear]] = {
        "plain": lambda s: plain(head, *train, s, SEED),
        "figment": lambda s: tune(head, *train, s, SEED).head.linear,
    }
    for way in ways.values():
        way(settings.model_copy(update={"epochs": 1}))  # warms up
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    rates, heads = [], {}
    for _ in range(repeats):
        for name, way in ways.items():
            spent, heads[name] = timed(partial(way, settings))
            seconds[name].append(spent)
        rates.append(best_rate(settings.batch_size, n_classes))
    own = statistics.median(seconds["figment"])
    return {
        **{f"{name}_seconds": [round(t, 4) for t in spent] for name, spent in seconds.items()},
        "times_as_fast": statistics.median(seconds["plain"]) / own,
        "gflops": settings.epochs * 2 * flops(n, n_classes) / own / 1e9,
        "mm_gflops": max(rates) / 1e9,
        "accuracy_before": float((head.predict(x[n:]).argmax(1) == y[n:]).mean()),
        "accuracy_after": float((heads["figment"](test).argmax(1).numpy() == y[n:]).mean()),
        **differences(heads["figment"], heads["plain"], test),
    }


def show(title: str, m: dict) -> None:
    print(f"\n{title}")
    for name, spent in (("plain PyTorch loop", m["plain_seconds"]), ("figment.tune", m["figment_seconds"])):
        print(f"  {name:<20} {statistics.median(spent):9.3f} s   ({min(spent):.3f} to {max(spent):.3f})")
    print(f"  figment.tune is {m['times_as_fast']:.1f}x as fast")
    print(
        f"  its two products a step: {m['gflops']:.0f} GFLOP/s of the whole time; torch.mm of the same: {m['mm_gflops']:.0f}"
    )
    print(
        f"  weights up to {m['largest_weight']:.1f} differ by {m['weights_differ']:.1e} at most, test probabilities by "
        f"{m['probabilities_differ']:.1e}; {m['other_class']} of {N_TEST:,} test images go to another class"
    )
    print(f"  test accuracy {m['accuracy_before']:.3f} before, {m['accuracy_after']:.3f} after", flush=True)


def targets(small: dict, large: dict) -> dict[str, bool]:
    """What is asked of `figment.tune`, and whether it is so here."""
    share = large["gflops"] / large["mm_gflops"]
    return {
        f"10 classes: {small['times_as_fast']:.1f}x the plain loop, at least 10x": small["times_as_fast"] >= 10,
        f"1,000 classes: {large['times_as_fast']:.1f}x the plain loop, at least 3x": large["times_as_fast"] >= 3,
        f"1,000 classes: {share:.0%} of the rate of torch.mm, at least 60 %": share >= 0.6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="3 epochs in place of 30")
    parser.add_argument(
        "--repeats", type=int, default=0, help="pairs of trainings; default 7 of 10 classes, 3 of 1,000"
    )
    args = parser.parse_args()
    print(chip())
    settings = TuneSettings(epochs=3) if args.quick else TuneSettings()

    small = measure(8_000, 10, settings, args.repeats or 7)
    show(f"8,000 x {N_FEATURES:,} features, 10 classes, {settings.epochs} epochs", small)
    large = measure(20_000, 1_000, settings, args.repeats or 3)
    show(f"20,000 x {N_FEATURES:,} features, 1,000 classes, {settings.epochs} epochs", large)
    print()
    for name, met in targets(small, large).items():
        print(f"  {'met ' if met else 'MISSED'}  {name}")
    figures = {"10 classes": small, "1,000 classes": large}
    rounded = {
        k: {key: v if isinstance(v, list) else float(f"{v:.4g}") for key, v in m.items()} for k, m in figures.items()
    }
    print(
        json.dumps(
            {
                "benchmark": "tune",
                "chip": chip(),
                "threads": torch.get_num_threads(),
                "torch": torch.__version__,
                **rounded,
            }
        )
    )


if __name__ == "__main__":
    main()

"""Pre-training beside others: the multi-positive loss beside its textbook form, and the whole step of SimCLR beside lightly's.

    python benchmarks/pretrain.py --loss                                          8,192 features of 256, a minute on one core
    python benchmarks/pretrain.py --step --lightly ~/lightly/bin/python           a small ResNet at 32 and 64 px, ViT-S at 96 px
    python benchmarks/pretrain.py --step --lightly PYTHON --only "resnet10t 32" --batch 32 --steps 3

``--lightly`` is the Python of an environment with lightly and timm (python -m venv ~/lightly; pip install lightly==1.6.0 timm), which
is asked for nothing else. Both sides take the same network of timm, the same images in memory, batch, temperature, projector, optimizer
(AdamW) and precision (float32), and the augmentation of SimCLR with the same numbers: lightly's in workers, image by image, as its
example has it; figment's on the device, a batch at a time. Each side runs in a process of its own, in turns, and the best run counts. Peak
memory is that of the process (on a GPU: of torch) less what it held before. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

TEMPERATURE, M = 0.1, 4  # of the loss; images of a caption
PROJECTOR = [512, 128]
CASES = {
    "resnet10t 32": ("resnet10t", {}, 32, 1.3),
    "resnet10t 64": ("resnet10t", {}, 64, 1.3),
    "ViT-S 96": ("vit_small_patch16_224", {"img_size": 96}, 96, 1.0),
}  # network, timm's arguments, pixels, how many times lightly's speed is aimed at
ROUNDS = 3


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def held() -> int:
    """The most bytes this process has held so far."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def textbook(features: Tensor, groups: Tensor) -> Tensor:
    """Equations 1 and 2 of StableRep with matrices of B x B."""
    f = nn.functional.normalize(features, dim=-1)
    itself = torch.eye(len(f), dtype=torch.bool, device=f.device)
    logits = (f @ f.T / TEMPERATURE).masked_fill(itself, -1e9)
    positives = (groups[:, None] == groups[None]) & ~itself
    p = positives / positives.sum(1, keepdim=True)
    return -(p * logits.log_softmax(1)).sum(1).mean()


def loss_side(side: str, n: int, dimensions: int) -> dict[str, float]:
    """Seconds of a loss with its gradient, and peak memory."""
    from figment.learners.pretrain.loss import multi_positive
    from figment.learners.processes import processes

    on = processes()
    torch.manual_seed(0)
    features = torch.randn(n, dimensions, device=on.device, requires_grad=True)
    groups = torch.arange(n, device=on.device) // M
    way: Callable[[Tensor, Tensor], Tensor] = {
        "textbook": textbook,
        "figment": lambda f, g: multi_positive(f, g, TEMPERATURE, on),
    }[side]
    way(features[:64], groups[:64]).backward()  # what is loaded once
    before, seconds, value = held(), [], 0.0
    for _ in range(ROUNDS):
        features.grad = None
        synchronize()
        started = time.perf_counter()
        loss = way(features, groups)
        loss.backward()
        synchronize()
        seconds.append(time.perf_counter() - started)
        value = loss.item()
    return {"seconds": min(seconds), "peak_mb": (held() - before) / 2**20, "loss": value}


def images_of(n: int, size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, size, size, 3), np.uint8)


def timed(steps: Iterator[Any], batch: int, n: int) -> float:
    """Images a second, after a step that warms up."""
    next(steps)
    synchronize()
    started = time.perf_counter()
    for _ in range(n):
        next(steps)
    synchronize()
    return n * batch / (time.perf_counter() - started)


class Clock:
    """Calls and iterates something else, and counts the seconds that it takes."""

    def __init__(self, inner: Any):
        self.inner, self.seconds = inner, 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def __len__(self) -> int:
        return len(self.inner)

    def measured(self, work: Callable[[], Any]) -> Any:
        synchronize()
        started = time.perf_counter()
        try:
            return work()
        finally:
            synchronize()
            self.seconds += time.perf_counter() - started

    def __call__(self, *args: Any) -> Any:
        return self.measured(lambda: self.inner(*args))

    def __iter__(self) -> Iterator[Any]:
        items = iter(self.inner)
        while (item := self.measured(lambda: next(items, None))) is not None:
            yield item


def figment_side(case: str, batch: int, n: int, workers: int) -> dict[str, float]:
    from figment.images_in.memory import MemoryImages
    from figment.learners.pretrain.backbone import make_backbone
    from figment.learners.pretrain.loop import Known, PretrainLoop
    from figment.learners.pretrain.method import Setting
    from figment.learners.pretrain.settings import SimCLRSettings
    from figment.learners.pretrain.simclr import SimCLR
    from figment.learners.processes import processes
    from figment.loading.loader import ImageDataset, Loader
    from figment.loading.orders import Shuffled

    network, _, size, _ = CASES[case]
    on, total = processes(), batch * (n + 1)
    s = SimCLRSettings(
        backbone=network,
        image_size=size,
        batch_size=batch,
        projector=PROJECTOR,
        temperature=TEMPERATURE,
        precision="float32",
    )
    images = MemoryImages(list(images_of(total, size)), np.zeros(total, np.int64))
    order, known = Shuffled(total, 0), Known(torch.arange(total), torch.zeros(total, dtype=torch.int64))
    data = ImageDataset(images, None, np.arange(total))

    def loop() -> PretrainLoop:
        torch.manual_seed(0)
        made = make_backbone(s, None)
        method = SimCLR(made.module, s, Setting(on, 10, size))
        return PretrainLoop(method, Loader(data, order, batch, num_workers=workers), known, made.data, 1, s, 0)

    speed = timed(iter(loop()), batch, n)
    parts = loop()  # once more: a clock on a GPU waits for it
    loader, views = Clock(parts.loader), Clock(parts.views)
    parts.loader, parts.views = loader, views
    steps = iter(parts)
    next(steps)
    loader.seconds = views.seconds = 0.0
    started = time.perf_counter()
    for _ in range(n):
        next(steps)
    synchronize()
    whole = time.perf_counter() - started
    return {"images_s": speed, "loader_share": loader.seconds / whole, "views_share": views.seconds / whole}


def lightly_side(case: str, batch: int, n: int, workers: int) -> dict[str, float]:
    """The loop of lightly's example for SimCLR, on a network of timm."""
    import timm
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead
    from lightly.transforms import SimCLRTransform
    from PIL import Image

    network, options, size, _ = CASES[case]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    backbone = timm.create_model(network, num_classes=0, **options)
    model = nn.Sequential(backbone, SimCLRProjectionHead(backbone.num_features, *PROJECTOR)).to(device).train()
    transform = SimCLRTransform(input_size=size, cj_strength=1.0)

    class Pictures(torch.utils.data.Dataset):
        def __init__(self) -> None:
            self.images = images_of(batch * (n + 1), size)

        def __len__(self) -> int:
            return len(self.images)

        def __getitem__(self, i: int) -> list[Tensor]:
            return transform(Image.fromarray(self.images[i]))

    loader = torch.utils.data.DataLoader(
        Pictures(), batch_size=batch, shuffle=True, drop_last=True, num_workers=workers
    )
    criterion = NTXentLoss(temperature=TEMPERATURE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def steps() -> Iterator[None]:
        for views in loader:
            first, second = (view.to(device) for view in views[:2])
            loss = criterion(model(first), model(second))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            yield

    return {"images_s": timed(steps(), batch, n)}


def run(python: str, *args: str) -> dict[str, float]:
    done = subprocess.run([python, __file__, *args], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(args)} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def compare_losses(n: int, dimensions: int) -> tuple[dict[str, Any], dict[str, bool]]:
    found = {
        side: run(sys.executable, "--side", side, "--features", f"{n},{dimensions}") for side in ("textbook", "figment")
    }
    for side, f in found.items():
        print(f"  {side:<10} {f['seconds']:8.3f} s {f['peak_mb']:9.1f} MB   loss {f['loss']:.5f}", flush=True)
    ours, theirs = found["figment"], found["textbook"]
    faster, less = theirs["seconds"] / ours["seconds"], ours["peak_mb"] / theirs["peak_mb"]
    return found, {
        f"loss: {faster:.2f} times as fast as the textbook's, at least 2": faster >= 2,
        f"loss: {less:.3f} of its memory, at most 1/4": less <= 0.25,
        "loss: the same number": abs(ours["loss"] - theirs["loss"]) < 1e-4,
    }


def compare_steps(case: str, lightly: str, rest: list[str]) -> tuple[dict[str, Any], dict[str, bool]]:
    best: dict[str, dict[str, float]] = {}
    for _ in range(ROUNDS):
        for side, python in (("figment", sys.executable), ("lightly", lightly)):
            found = run(python, "--side", side, "--only", case, *rest)
            best[side] = max(best.get(side, found), found, key=lambda f: f["images_s"])
    ours, factor = best["figment"], CASES[case][3]
    times = ours["images_s"] / best["lightly"]["images_s"]
    print(
        f"  {case:<14} figment {ours['images_s']:9.1f} images/s, lightly {best['lightly']['images_s']:9.1f}: {times:.2f} times;"
        f" loader {ours['loader_share']:.1%} of a step, views {ours['views_share']:.1%}",
        flush=True,
    )
    return best, {
        f"{case}: {times:.2f} times as fast as lightly, at least {factor}": times >= factor,
        f"{case}: the loader takes {ours['loader_share']:.1%} of a step, under 10 %": ours["loader_share"] < 0.1,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loss", action="store_true", help="compare the losses")
    parser.add_argument("--step", action="store_true", help="compare whole steps; takes --lightly")
    parser.add_argument("--lightly", metavar="PYTHON", help="of an environment with lightly and timm")
    parser.add_argument("--features", default="8192,256", help="of the loss: how many, of how many dimensions")
    parser.add_argument("--only", choices=CASES, help="one of the cases of --step")
    parser.add_argument("--batch", default="256", help="images a step")
    parser.add_argument("--steps", default="20", help="that are timed")
    parser.add_argument("--workers", default="0", help="processes that prepare images")
    parser.add_argument("--side", choices=["textbook", "figment", "lightly"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    sizes = [int(x) for x in args.features.split(",")]
    if args.side:  # in a process of its own
        step = int(args.batch), int(args.steps), int(args.workers)
        if args.only is None:
            print(json.dumps(loss_side(args.side, *sizes)))
        else:
            print(json.dumps((lightly_side if args.side == "lightly" else figment_side)(args.only, *step)))
        return
    if args.loss == args.step or (args.step and not args.lightly):
        parser.error("say --loss, or --step with --lightly PYTHON")
    figures, met = {}, {}
    if args.loss:
        figures["loss"], met = compare_losses(*sizes)
    for case in [args.only] if args.only else CASES if args.step else ():
        figures[case], own = compare_steps(
            case, args.lightly, ["--batch", args.batch, "--steps", args.steps, "--workers", args.workers]
        )
        met |= own
    for name, is_met in met.items():
        print(f"  {'met ' if is_met else 'MISSED'}  {name}")
    print(json.dumps({"benchmark": "pretrain", "batch": args.batch, "workers": args.workers, **figures}))


if __name__ == "__main__":
    main()

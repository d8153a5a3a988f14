"""Writing and reading images beside ImageFolder of PNG files and WebDataset, and what a million rows cost in memory.

    python benchmarks/data_plane.py                 about 20 minutes on two CPU cores, 4 GB of disk
    python benchmarks/data_plane.py --quick         about 2 minutes: fewer images, no million
    python benchmarks/data_plane.py --rows 100000   the larger of the two counts of rows; the smaller is a tenth of it

The images are those of the procedural generator: striped noise, which no codec packs well. All ways get the same pixels, batch
size and workers, and give batches of uint8 tensors; all files are in the page cache, so it is processors that are measured. The
times of the ways are taken in turns, and the best of each counts. The last line is JSON.
"""

from __future__ import annotations

import argparse
import gc
import io
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path

import numpy as np

from figment import png
from figment.generate.fill import fill
from figment.generate.plan import Plan
from figment.generate.procedural import ProceduralGenerator
from figment.images_in import ShardImages, open_shards
from figment.records import Record
from figment.shards import ShardFolder
from figment.types import Prompt

CLASSES = [f"class {i}" for i in range(10)]
BATCH = {32: 256, 512: 32}
UNDER_WAY = 4  # batches
ROUNDS = 3


def plan_of(n: int) -> Plan:
    prompts = [
        Prompt(f"{c}/{i}", f"{name}, view {i}", c, f"{c}/{i}") for c, name in enumerate(CLASSES) for i in range(50)
    ]
    return Plan(prompts, n // len(CLASSES), seed=0)


def write_figment(folder: Path, n: int, size: int) -> None:
    plan, record = plan_of(n), Record(folder, "images", {}, {})
    with redirect_stdout(io.StringIO()):
        fill(ShardFolder(record, plan.shard_size), plan, ProceduralGenerator(height=size, width=size), CLASSES)


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def best(ways: dict[str, Callable[[], float]]) -> dict[str, float]:
    """The shortest time of each way in several rounds, in which they take turns."""
    times = []
    for _ in range(ROUNDS):
        times.append({name: way() for name, way in ways.items()})
        gc.collect()  # workers of a loader end with it
    return {name: min(t[name] for t in times) for name in ways}


# ---- writing ---------------------------------------------------------------------------------------------------------


def made(plan: Plan, size: int) -> Iterator[tuple[int, int, np.ndarray]]:
    """Number, label and pixels of each image, as the generator gives them."""
    generator = ProceduralGenerator(height=size, width=size)
    for start in range(0, len(plan), 64):
        samples = [plan[i] for i in range(start, min(start + 64, len(plan)))]
        images = generator([s.prompt for s in samples], [s.seed for s in samples])
        for i, (sample, image) in enumerate(zip(samples, images, strict=True), start=start):
            yield i, sample.label, image


def write_folder(folder: Path, n: int, size: int) -> None:
    """The loop that a tutorial shows."""
    from PIL import Image

    for name in CLASSES:
        (folder / name).mkdir(parents=True)
    for i, label, image in made(plan_of(n), size):
        Image.fromarray(image).save(folder / CLASSES[label] / f"{i:07d}.png")


def write_webdataset(folder: Path, n: int, size: int) -> None:
    import webdataset

    folder.mkdir(parents=True)
    with webdataset.ShardWriter(str(folder / "%05d.tar"), maxcount=max(1, n // 16), verbose=0) as writer:
        for i, label, image in made(plan_of(n), size):
            writer.write({"__key__": f"{i:07d}", "png": image, "cls": label})


def measure_writing(root: Path, n: int, size: int) -> dict[str, float]:
    """Milliseconds a row of each way, the generator's own time among them; and what figment takes besides making and packing."""
    for warm in (write_figment, write_folder, write_webdataset):
        warm(root / "warm" / warm.__name__, 20, size)
    folders = {"figment": write_figment, "ImageFolder": write_folder, "WebDataset": write_webdataset}
    seconds = {name: timed(lambda w=write, f=root / name: w(f, n, size)) for name, write in folders.items()}
    seconds["generator alone"] = timed(lambda: [None for _ in made(plan_of(n), size)])
    images = [image for _, _, image in made(plan_of(min(n, 500)), size)]
    packing = timed(lambda: [png.encode(image) for image in images]) / len(images)
    figures = {name: 1e3 * s / n for name, s in seconds.items()}
    figures["figment without the generator"] = figures["figment"] - figures["generator alone"]
    figures["PNG packing on one core"] = 1e3 * packing
    return figures


# ---- reading ---------------------------------------------------------------------------------------------------------


def read_figment(folder: Path, n: int, batch: int, workers: int) -> float:
    from figment.loading.loader import ImageDataset, Loader
    from figment.loading.orders import Shuffled

    images = open_shards(folder)[0]
    return consume(Loader(ImageDataset(images), Shuffled(len(images)), batch, num_workers=workers), n)


def read_folder(folder: Path, n: int, batch: int, workers: int) -> float:
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder
    from torchvision.transforms.functional import pil_to_tensor

    data = ImageFolder(str(folder), transform=pil_to_tensor)
    return consume(DataLoader(data, batch, shuffle=True, drop_last=True, num_workers=workers), n)


def read_webdataset(folder: Path, n: int, batch: int, workers: int) -> float:
    import webdataset
    from torchvision.transforms.functional import pil_to_tensor

    data = webdataset.WebDataset(sorted(map(str, folder.glob("*.tar"))), shardshuffle=100, empty_check=False)
    data = (
        data.shuffle(1000)
        .decode("pil")
        .to_tuple("png", "cls")
        .map_tuple(pil_to_tensor, int)
        .batched(batch, partial=False)
    )
    return consume(webdataset.WebLoader(data, batch_size=None, num_workers=workers), n)


def consume(loader, n: int) -> float:
    """Seconds a row of about ``n`` rows, counted when the workers are under way and up to where the first may be at its end."""
    rows, started = 0, 0.0
    for i, (images, labels) in enumerate(loader):
        assert images.dtype.itemsize == 1 and images.shape[1] == 3 and len(images) == len(labels)
        rows += len(images)
        if i == UNDER_WAY:
            rows, started, n = 0, time.perf_counter(), n - rows
        elif i > UNDER_WAY and rows >= n:
            break
    return (time.perf_counter() - started) / rows


def decode_pil(data: list[bytes]) -> None:
    from PIL import Image

    for one in data:
        np.asarray(Image.open(io.BytesIO(one)).convert("RGB"))


def decode_figment(data: list[bytes]) -> None:
    for start in range(0, len(data), 64):
        png.decode_many(data[start : start + 64])


def measure_reading(root: Path, n: int, size: int) -> dict[str, float]:
    """Milliseconds a row of shuffled reading, and of bare decoding of the same bytes, held in memory."""
    images: ShardImages = open_shards(root / "figment")[0]
    data = [images.data(i) for i in np.random.default_rng(0).permutation(len(images))[: min(n, 4000)]]
    ways = {"figment": read_figment, "ImageFolder": read_folder, "WebDataset": read_webdataset}
    figures: dict[str, float] = {}
    for workers in (0, 2):
        found = best({name: partial(way, root / name, n * 4 // 5, BATCH[size], workers) for name, way in ways.items()})
        figures |= {f"{name}, {workers} workers": 1e3 * seconds for name, seconds in found.items()}
    bare = best({f.__name__: partial(timed, partial(f, data)) for f in (decode_pil, decode_figment)})
    return figures | {f"bare decoding, {name[7:]}": 1e3 * seconds / len(data) for name, seconds in bare.items()}


# ---- memory ----------------------------------------------------------------------------------------------------------

PEAK = "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, time.perf_counter() - started, 'torch' in sys.modules)"
WRITE = "write_figment(Path(sys.argv[1]), int(sys.argv[2]), 32)"
READ = "read_figment(Path(sys.argv[1]), 50_000, 256, 0)"


def in_a_process(work: str, folder: Path, n: int) -> dict[str, float | bool]:
    """Peak memory in MB and seconds of a piece of work in a process of its own."""
    here = f"import sys, time\nsys.path.insert(0, {str(Path(__file__).parent)!r})\nfrom data_plane import *"
    code = f"{here}\nstarted = time.perf_counter()\n{work}\n{PEAK}"
    command = [sys.executable, "-c", code, str(folder), str(n)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    peak, seconds, torch = done.stdout.split()[-3:]
    return {"peak_mb": round(float(peak), 1), "seconds": float(seconds), "torch": torch == "True"}


def measure_memory(root: Path, rows: int) -> dict[str, dict[str, float | bool]]:
    figures = {}
    for n in (rows // 10, rows):
        figures[f"write {n:,} rows"] = in_a_process(WRITE, root / f"{n}", n)
        figures[f"write {n:,} rows"]["ms_a_row"] = round(1e3 * figures[f"write {n:,} rows"]["seconds"] / n, 4)
    for n in (rows // 10, rows):
        figures[f"read 50,000 of {n:,} rows"] = in_a_process(READ, root / f"{n}", n)
    return figures


# ---- the table -------------------------------------------------------------------------------------------------------


def show(title: str, figures: dict[str, float]) -> None:
    print(f"\n{title}")
    for name, ms in figures.items():
        print(f"  {name:<34} {ms:10.4f} ms a row   {1e3 / ms if ms > 0 else float('inf'):12,.0f} rows/s", flush=True)


def targets(figures: dict[str, dict]) -> dict[str, bool]:
    """What is asked of the data plane, and whether it is so here."""
    small, large = figures["read 32 px"], figures["read 512 px"]
    met = {}
    for size in ("32 px", "512 px"):
        write = figures[f"write {size}"]
        met[f"{size}: writes at least as fast as the slower of the two"] = write["figment"] <= max(
            write["ImageFolder"], write["WebDataset"]
        )
    for workers in (0, 2):
        ratio = small[f"ImageFolder, {workers} workers"] / small[f"figment, {workers} workers"]
        met[f"32 px, {workers} workers: {ratio:.1f}x ImageFolder, at least 3x"] = ratio >= 3
    share, own = (large[f"bare decoding, {who}"] / large["figment, 0 workers"] for who in ("pil", "figment"))
    met[
        f"512 px, 0 workers: {share:.0%} of PIL's bare decoding of the same bytes, at least 95 % ({own:.0%} of figment's)"
    ] = share >= 0.95
    own = figures["write 32 px"]["figment without the generator"]
    met[f"32 px: the pipeline takes {own:.2f} ms a row, packing and disk included, below 1 ms"] = own < 1
    if "memory" in figures:
        for what in ("write", "read"):
            low, high = [m["peak_mb"] for name, m in figures["memory"].items() if name.startswith(what)]
            met[f"{what}: peak memory {high / low - 1:+.1%} from a tenth of the rows to all, within 10 %"] = (
                high <= 1.1 * low
            )
        low, high = [m["ms_a_row"] for m in figures["memory"].values() if "ms_a_row" in m]
        met[f"write: time a row {high / low - 1:+.1%}, at most 10 % slower"] = high <= 1.1 * low
    return met


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few images, and no measurement of memory")
    parser.add_argument("--rows", type=int, default=0, help="rows for the measurement of memory; default 1,000,000")
    parser.add_argument("--folder", type=Path, help="where a temporary folder may be made; default: the system's")
    args = parser.parse_args()
    counts = {32: 10_000, 512: 400} if args.quick else {32: 40_000, 512: 1_000}
    rows = args.rows or (0 if args.quick else 1_000_000)

    figures: dict[str, dict] = {}
    with tempfile.TemporaryDirectory(dir=args.folder) as temporary:
        if rows:  # first: a process that is a fork of a large one would count its memory
            figures["memory"] = measure_memory(Path(temporary) / "rows", rows)
            for name, m in figures["memory"].items():
                print(
                    f"{name:<34} {m['peak_mb']:8.1f} MB at most   {m['seconds']:8.1f} s   torch loaded: {m['torch']}",
                    flush=True,
                )
        for size, n in counts.items():
            root = Path(temporary) / f"{size}"
            figures[f"write {size} px"] = measure_writing(root, n, size)
            show(f"writing {n:,} images of {size} px, the generator's time included", figures[f"write {size} px"])
            figures[f"read {size} px"] = measure_reading(root, n, size)
            show(f"shuffled reading at {size} px in batches of {BATCH[size]}", figures[f"read {size} px"])
    print()
    for name, met in targets(figures).items():
        print(f"  {'met ' if met else 'MISSED'}  {name}")
    rounded = {
        part: {k: round(v, 4) if isinstance(v, float) else v for k, v in f.items()} for part, f in figures.items()
    }
    print(json.dumps({"benchmark": "data_plane", **rounded}))


if __name__ == "__main__":
    main()

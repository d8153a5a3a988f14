"""Writing and reading images beside ImageFolder of PNG files, WebDataset and litdata, and what a million rows cost in memory.

    python benchmarks/data_plane.py                 about 25 minutes (an estimate) on two CPU cores, 4 GB of disk
    python benchmarks/data_plane.py --quick         about 4 minutes (an estimate): fewer images, no million
    python benchmarks/data_plane.py --rows 100000   the larger of the two counts of rows; the smaller is a tenth of it
    python benchmarks/data_plane.py --remote        only reading at 512 px, from disk and from object storage that answers after --latency milliseconds

The images are those of the procedural generator: striped noise, which no codec packs well. All ways get the same pixels, batch
size and workers, and give batches of uint8 tensors; all files are in the page cache, so it is processors that are measured. The
times of the ways are taken in turns, and the best of each counts. The last line is JSON.

Remote reading is a whole shuffled epoch, the first of its reader, from benchmarks/object_store.py in a process of its own, which lets
every request wait. figment reads any image at any time, in a true shuffle; WebDataset reads tars from end to end, shuffled in a buffer
of 1,000; litdata copies chunks to the disk, and shuffles chunks and what is in one. litdata is left out where it is not installed.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from functools import partial
from pathlib import Path

import numpy as np

from figment import png
from figment.files import as_path
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


WRITERS = {"figment": write_figment, "ImageFolder": write_folder, "WebDataset": write_webdataset}


def measure_writing(root: Path, n: int, size: int) -> dict[str, float]:
    """Milliseconds a row of each way, the generator's own time among them; and what figment takes besides making and packing."""
    for warm in WRITERS.values():
        warm(root / "warm" / warm.__name__, 20, size)
    seconds = {name: timed(lambda w=write, f=root / name: w(f, n, size)) for name, write in WRITERS.items()}
    seconds["generator alone"] = timed(lambda: [None for _ in made(plan_of(n), size)])
    images = [image for _, _, image in made(plan_of(min(n, 500)), size)]
    packing = timed(lambda: [png.encode(image) for image in images]) / len(images)
    figures = {name: 1e3 * s / n for name, s in seconds.items()}
    figures["figment without the generator"] = figures["figment"] - figures["generator alone"]
    figures["PNG packing on one core"] = 1e3 * packing
    return figures


# ---- reading ---------------------------------------------------------------------------------------------------------


def figment_loader(folder: Path, batch: int, workers: int):
    from figment.loading.loader import ImageDataset, Loader
    from figment.loading.orders import Shuffled

    images = open_shards(folder)[0]
    return Loader(ImageDataset(images), Shuffled(len(images)), batch, num_workers=workers)


def read_figment(folder: Path, n: int, batch: int, workers: int) -> float:
    return consume(figment_loader(folder, batch, workers), n)


def read_folder(folder: Path, n: int, batch: int, workers: int) -> float:
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder
    from torchvision.transforms.functional import pil_to_tensor

    data = ImageFolder(str(folder), transform=pil_to_tensor)
    return consume(DataLoader(data, batch, shuffle=True, drop_last=True, num_workers=workers), n)


def webdataset_loader(tars: list[str], batch: int, workers: int):
    import webdataset
    from torchvision.transforms.functional import pil_to_tensor

    data = webdataset.WebDataset(tars, shardshuffle=100, empty_check=False)
    data = (
        data.shuffle(1000)
        .decode("pil")
        .to_tuple("png", "cls")
        .map_tuple(pil_to_tensor, int)
        .batched(batch, partial=False)
    )
    return webdataset.WebLoader(data, batch_size=None, num_workers=workers)


def read_webdataset(folder: Path, n: int, batch: int, workers: int) -> float:
    return consume(webdataset_loader(sorted(map(str, folder.glob("*.tar"))), batch, workers), n)


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


# ---- reading from object storage -------------------------------------------------------------------------------------


def write_litdata(folder: Path, images: Path) -> None:
    """The files of an ImageFolder, in chunks as large as the tars of :func:`write_webdataset`."""
    from litdata.streaming.cache import Cache

    files = sorted(images.rglob("*.png"), key=lambda path: path.name)
    cache = Cache(str(folder), chunk_size=max(1, len(files) // 16))
    for i, path in enumerate(files):
        cache[i] = {"png": path.read_bytes(), "cls": CLASSES.index(path.parent.name)}
    cache.done()
    cache.merge()


def litdata_loader(url: str, batch: int, workers: int):
    from litdata import StreamingDataLoader, StreamingDataset
    from litdata.streaming import downloader
    from PIL import Image
    from torchvision.transforms.functional import pil_to_tensor

    downloader._OBSTORE_CLIENT_OPTIONS["allow_http"] = True  # litdata 0.2.76 reads chunks from https:// alone

    class Decoded(StreamingDataset):
        def __getitem__(self, index):
            item = super().__getitem__(index)
            return pil_to_tensor(Image.open(io.BytesIO(item["png"]))), item["cls"]

    # A folder of its own: what an epoch has copied, the next one would find.
    data = Decoded(
        "s3://bucket/litdata", cache_dir=tempfile.mkdtemp(), shuffle=True, storage_options={"endpoint_url": url}
    )
    return StreamingDataLoader(data, batch_size=batch, num_workers=workers, drop_last=True)


@contextmanager
def object_store(folder: Path, latency: float) -> Iterator[str]:
    """The address of a store of its own process that holds a folder, and to which the variables of AWS lead."""
    script = Path(__file__).with_name("object_store.py")
    command = [sys.executable, str(script), str(folder), "--latency", str(latency)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin and server.stdout
        url = server.stdout.readline().strip()
        settings = {"ENDPOINT_URL": url, "ACCESS_KEY_ID": "x", "SECRET_ACCESS_KEY": "x", "DEFAULT_REGION": "us-east-1"}
        os.environ |= {f"AWS_{name}": value for name, value in settings.items()}
        yield url
        server.stdin.close()


def epoch(open_loader: Callable[[], object], n: int, batch: int) -> float:
    """Seconds a row of a whole epoch, from the first request for a batch to the last batch; opening the set is not counted."""
    loader, started, rows = open_loader(), time.perf_counter(), 0
    for images, _ in loader:  # type: ignore[attr-defined]
        assert images.dtype.itemsize == 1 and images.shape[1] == 3
        rows += len(images)
    assert n - 3 * batch < rows <= n  # a batch that is not full is left out, of each worker
    return (time.perf_counter() - started) / rows


def measure_remote(root: Path, n: int, size: int, latency: float) -> dict[str, float]:
    """Milliseconds a row of a shuffled epoch."""
    batch, has_litdata = BATCH[size], importlib.util.find_spec("litdata") is not None
    if has_litdata:
        with redirect_stdout(io.StringIO()):
            write_litdata(root / "litdata", root / "ImageFolder")
    else:
        print("litdata is left out: it is not installed (pip install litdata)")
    figures = {}
    with object_store(root, latency) as url:
        tars = [f"{url}/bucket/WebDataset/{path.name}" for path in sorted((root / "WebDataset").glob("*.tar"))]
        for workers in (0, 2):
            ways: dict[str, Callable[[], object]] = {
                "figment": partial(figment_loader, as_path("s3://bucket/figment"), batch, workers),
                "WebDataset": partial(webdataset_loader, tars, batch, workers),
            }
            if has_litdata:
                ways["litdata"] = partial(litdata_loader, url, batch, workers)
            found = best({name: partial(epoch, way, n, batch) for name, way in ways.items()})
            figures |= {f"{name}, {workers} workers": 1e3 * seconds for name, seconds in found.items()}
    return figures


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
    large, met = figures["read 512 px"], {}
    ratio = large["ImageFolder, 0 workers"] / large["figment, 0 workers"]
    met[f"512 px, 0 workers: {ratio:.1f}x ImageFolder, at least 2x"] = ratio >= 2
    share, own = (large[f"bare decoding, {who}"] / large["figment, 0 workers"] for who in ("pil", "figment"))
    met[
        f"512 px, 0 workers: {share:.0%} of PIL's bare decoding of the same bytes, at least 95 % ({own:.0%} of figment's)"
    ] = share >= 0.95
    remote = figures["remote"]
    for name, ms in remote.items():
        other, workers = name.split(", ")
        if other != "figment":
            ratio = ms / remote[f"figment, {workers}"]
            met[f"object storage, 512 px, {workers}: {ratio:.2f}x {other}, at least 1x"] = ratio >= 1
    return met | small_targets(figures) if "read 32 px" in figures else met


def small_targets(figures: dict[str, dict]) -> dict[str, bool]:
    small, met = figures["read 32 px"], {}
    for size in ("32 px", "512 px"):
        write = figures[f"write {size}"]
        met[f"{size}: writes at least as fast as the slower of the two"] = write["figment"] <= max(
            write["ImageFolder"], write["WebDataset"]
        )
    for workers in (0, 2):
        ratio = small[f"ImageFolder, {workers} workers"] / small[f"figment, {workers} workers"]
        met[f"32 px, {workers} workers: {ratio:.1f}x ImageFolder, at least 3x"] = ratio >= 3
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
    parser.add_argument(
        "--remote", action="store_true", help="only reading at 512 px, from disk and from object storage"
    )
    parser.add_argument("--latency", type=float, default=30, help="of each of its answers, in milliseconds; default 30")
    parser.add_argument("--folder", type=Path, help="where a temporary folder may be made; default: the system's")
    args = parser.parse_args()
    counts = {32: 10_000, 512: 400} if args.quick else {32: 40_000, 512: 1_000}
    rows = args.rows or (0 if args.quick else 1_000_000)
    if args.remote:
        counts, rows = {512: counts[512]}, 0

    figures: dict[str, dict] = {}
    with tempfile.TemporaryDirectory(dir=args.folder) as temporary:
        tempfile.tempdir = temporary  # what litdata copies goes with it
        if rows:  # first: a process that is a fork of a large one would count its memory
            figures["memory"] = measure_memory(Path(temporary) / "rows", rows)
            for name, m in figures["memory"].items():
                print(
                    f"{name:<34} {m['peak_mb']:8.1f} MB at most   {m['seconds']:8.1f} s   torch loaded: {m['torch']}",
                    flush=True,
                )
        for size, n in counts.items():
            root = Path(temporary) / f"{size}"
            if args.remote:
                for name, write in WRITERS.items():
                    write(root / name, n, size)
            else:
                figures[f"write {size} px"] = measure_writing(root, n, size)
                show(f"writing {n:,} images of {size} px, the generator's time included", figures[f"write {size} px"])
            figures[f"read {size} px"] = measure_reading(root, n, size)
            show(f"shuffled reading at {size} px in batches of {BATCH[size]}", figures[f"read {size} px"])
        figures["remote"] = measure_remote(root, n, size, args.latency)
        show(
            f"a shuffled epoch at {size} px from object storage that answers after {args.latency:g} ms",
            figures["remote"],
        )
    print()
    for name, met in targets(figures).items():
        print(f"  {'met ' if met else 'MISSED'}  {name}")
    rounded = {
        part: {k: round(v, 4) if isinstance(v, float) else v for k, v in f.items()} for part, f in figures.items()
    }
    print(json.dumps({"benchmark": "data_plane", **rounded}))


if __name__ == "__main__":
    main()

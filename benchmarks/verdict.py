"""What the verdict costs: from finished images to the report, and how that grows with the number of classes.

    python benchmarks/verdict.py --old ../figment-0.1.0     beside a checkout of version 0.1.0 with a .venv of its own
    python benchmarks/verdict.py --classes 2 3 1000         seconds and memory of this build alone

The first: 2,000 images drawn by arithmetic stand in for generated ones, the real ones are the starter's 10,000 and 10,000. Both builds
run He et al.'s recipe once, which encodes everything; then all but the images and the features is removed and they run again, in turns; medians
count. The whole process is timed, with its imports, and the report written. The second: tiny images, 8 generated ones a class, 4 real ones for
training and 4 for the test, or as many more as make 100 in all; the sentence, and what the stage that measures took.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

KEPT = ("images", "prompts", "features", ".lock")
HEAD = {
    "this build": "{kind: clip_head, start: zero_shot, encoder: starter/clip}",
    "the older build": "{encoder: starter/clip}",
}
FASHION = """
name: cost of the verdict
task: fashion
prompts: {{kind: templates}}
generate: {{kind: procedural, images_per_class: 200}}
filters: [{{kind: blank}}]
train: {train}
"""
MANY = """
name: {n} classes
task:
  class_names: {names}
  real: {{train: {folder}/train, test: {folder}/test}}
prompts: {{kind: templates}}
generate: {{kind: procedural, images_per_class: 8}}
filters: [{{kind: blank}}]
train: {{kind: {kind}, encoder: starter/clip}}
evaluate: {{shots: [1, 2, 4]}}
"""


def timed(figment: Path, recipe: Path, out: Path) -> tuple[float, float, str]:
    """Seconds of a run, those of the processor, and what it printed."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run([figment, "run", recipe, "--out", out], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout[-2000:] + done.stderr[-2000:])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - started, cpu, done.stdout


def clear(out: Path) -> None:
    """Remove everything but the images and the features."""
    for path in out.iterdir():
        if path.name not in KEPT:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def compare(builds: dict[str, Path], folder: Path, repeats: int) -> None:
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in builds}
    for number, (name, figment) in enumerate(builds.items()):
        (folder / f"{number}.yaml").write_text(FASHION.format(train=HEAD[name]))
        wall, cpu, _ = timed(figment, folder / f"{number}.yaml", folder / str(number))
        print(f"{name}: {wall:.1f} s with the images and all features ({cpu:.1f} s of the processor)", flush=True)
    for _ in range(repeats):
        for number, (name, figment) in enumerate(builds.items()):
            clear(folder / str(number))
            spent[name].append(timed(figment, folder / f"{number}.yaml", folder / str(number))[:2])
            print(f"  {name:<16} {spent[name][-1][0]:6.2f} s, {spent[name][-1][1]:6.2f} s of the processor", flush=True)
    stage = json.loads((folder / "0" / "stage.json").read_text())
    print(f"this build: {stage['seconds']} s of it measuring, with the whole verdict")
    medians = {name: [statistics.median(column) for column in zip(*runs, strict=True)] for name, runs in spent.items()}
    print(json.dumps(medians))
    if len(medians) == 2:
        (a, b), (c, d) = medians["this build"], medians["the older build"]
        print(f"this build takes {a / c:.2f} of the time of the older one, {b / d:.2f} of its processor's")


def many(figment: Path, folder: Path, n: int) -> None:
    from figment.generate.procedural import ProceduralGenerator

    names = [f"thing {i}" for i in range(n)]
    own, generator = folder / str(n), ProceduralGenerator()
    for split, start, each in (("train", 10**6, 4), ("test", 2 * 10**6, max(4, 100 // n))):
        for i, name in enumerate(names):
            images = generator([f"a photo of a {name}."] * each, [start + each * i + k for k in range(each)])
            for k, image in enumerate(images):
                path = own / split / name / f"{k}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.asarray(image)).save(path)
    for kind in ("words_and_images", "clip_head"):
        recipe = own / f"{kind}.yaml"
        recipe.write_text(MANY.format(n=n, names=json.dumps(names), folder=own, kind=kind))
        _, _, printed = timed(figment, recipe, own / kind)
        stage = json.loads((own / kind / "stage.json").read_text())
        said = re.search(r"Verdict: (.*(?:\n(?!To a |Report|\s*$).*)*)", printed)
        print(f"{n:,} classes, {kind}: {stage['seconds']} s, {stage['peak_memory_mb']:,} MB at the most. {' '.join(said[1].split()) if said else printed[-500:]}", flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--old", type=Path, help="a checkout of version 0.1.0 that has a .venv")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--classes", type=int, nargs="*", default=[])
    args = parser.parse_args()
    figment = Path(sys.executable).parent / "figment"
    builds = {
        "this build": figment,
        **({"the older build": args.old.resolve() / ".venv/bin/figment"} if args.old else {}),
    }
    with tempfile.TemporaryDirectory() as folder:
        if not args.classes:
            compare(builds, Path(folder), args.repeats)
        for n in args.classes:
            many(figment, Path(folder), n)


if __name__ == "__main__":
    main()

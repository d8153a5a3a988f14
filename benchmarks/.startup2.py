"""What the command line takes before there is anything to do, beside another checkout of figment: the same commands, in turns.

``python benchmarks/startup.py OTHER``, where OTHER is the folder of a git worktree. Seconds are of the processor (user and system, the
least of the repeats), which other processes on the machine do not change, and by the clock. The run makes 4 images of the
starter in one step and fits a head on its CLIP, so nearly all of it is the start.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPEATS = 2
RECIPE = """
task: {class_names: [coat, bag]}
prompts: {kind: templates}
generate: {model: starter, images_per_class: 2, num_inference_steps: 1}
filters: []
"""
COMMANDS = {
    "import figment.run": ["-c", "import figment.run"],
    "figment --help": ["-m", "figment.cli", "--help"],
    "figment run": ["-m", "figment.cli", "run", "tiny.yaml", "--out", "run"],
}


def seconds(command: list[str], tree: Path) -> tuple[float, float]:
    """Of the processor and by the clock, in a folder of its own. Raises CalledProcessError where the command fails."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "tiny.yaml").write_text(RECIPE)
        environment = {**os.environ, "PYTHONPATH": str(tree / "src"), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run([sys.executable, *command], cwd=folder, env=environment, check=True, capture_output=True)
        after, took = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - began
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, took


def main() -> None:
    trees = {"this": Path(__file__).resolve().parents[1], "other": Path(sys.argv[1])}
    for name, command in COMMANDS.items():
        found: dict[str, list[tuple[float, float]]] = {tree: [] for tree in trees}
        for _ in range(REPEATS):
            for tree, folder in trees.items():
                found[tree].append(seconds(command, folder))
        least = {tree: tuple(min(own[k] for own in times) for k in (0, 1)) for tree, times in found.items()}
        told = ", ".join(f"{tree} {own[0]:.2f} s ({own[1]:.2f} s by the clock)" for tree, own in least.items())
        print(f"{name}: {told}; {least['this'][0] / least['other'][0]:.2f} of it", flush=True)


if __name__ == "__main__":
    main()

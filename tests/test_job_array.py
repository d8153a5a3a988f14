"""A job array: the script of the examples, with a stand-in for sbatch that starts its jobs here and now."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from figment.files import read_json
from figment.recipe import load_recipe
from figment.run import make_images
from folders import rows

pytestmark = pytest.mark.slow

REPO = Path(__file__).parents[1]
SBATCH = """#!{python}
import os, subprocess, sys
options = dict(a.split("=", 1) for a in sys.argv[1:] if a.startswith("--") and "=" in a)
command = sys.argv[sys.argv.index("--wrap") + 1]
first, last = map(int, options.get("--array", "0-0").split("-"))
environment = {{"SLURM_ARRAY_TASK_COUNT": str(last + 1)}} if "--array" in options else {{}}
jobs = [
    subprocess.Popen(["sh", "-c", command], stdout=2, env={{**os.environ, **environment, "SLURM_ARRAY_TASK_ID": str(i)}})
    for i in range(first, last + 1)
]
codes = [job.wait() for job in jobs]
print("17;cluster" if "--parsable" in sys.argv else options["--dependency"])
sys.exit(max(codes))
"""


def program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def test_the_parts_of_a_job_array_and_the_run_after_them_make_what_one_run_makes(tmp_path, clip):
    recipe = tmp_path / "two words.yaml"
    recipe.write_text(
        yaml.safe_dump(
            {
                "task": {"class_names": ["ankle boot", "bag"]},
                "prompts": {"kind": "templates"},
                "generate": {"kind": "procedural", "images_per_class": 40, "shard_size": 16},
                "filters": [{"kind": "blank"}],
                "train": {"encoder": str(clip), "epochs": 1, "seeds": 1},
                "variants": {"few of each": {"generate.images_per_class": 20}},
            }
        )
    )
    programs = tmp_path / "bin"
    programs.mkdir()
    program(programs / "figment", f'#!/bin/sh\nexec {sys.executable} -m figment.cli "$@"\n')
    program(programs / "sbatch", SBATCH.format(python=sys.executable))
    environment = {**os.environ, "PYTHONPATH": str(REPO / "src"), "PATH": f"{programs}:{os.environ['PATH']}"}

    def call(*command: object, **more: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run([*map(str, command)], env=environment | more, capture_output=True, text=True, timeout=180)
        assert done.returncode == 0, done.stderr + done.stdout
        return done

    out = tmp_path / "in parts"
    done = call(REPO / "examples" / "slurm_array.sh", recipe, out, 2, "--partition=gpu")
    assert done.stdout.strip() == "afterany:17"
    assert done.stderr.count("Images:") == 3  # two parts, and the run after them
    assert (out / "model").is_dir()
    make_images(load_recipe(recipe), tmp_path / "whole")
    assert rows(out / "images") == rows(tmp_path / "whole" / "images") and len(rows(out / "images")) == 80
    counts = read_json(out / "images" / "stage.json")["counts"]
    assert counts == {"attempted": 80, "made": 80, "failed": {}}
    call(REPO / "examples" / "slurm_array.sh", recipe, tmp_path / "variant", 2, VARIANT="few of each")
    assert len(rows(tmp_path / "variant" / "images")) == 40

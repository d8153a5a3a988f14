"""A wheel, installed outside of the checkout, has all that the demo needs."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
SMALL = {
    "prompts.per_class": 2,
    "generate.images_per_class": 2,
    "generate.num_inference_steps": 2,
    "train.seeds": 1,
    "evaluate.exchange_rate": "false",
    "evaluate.real_all": "false",
}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The folder that a wheel of the checkout was installed into; nothing else is in it."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ROOT], check=True)
    [wheel] = folder.glob("figment_vision-*.whl")
    assert "figment/py.typed" in zipfile.ZipFile(wheel).namelist()
    subprocess.run([*pip, "install", "--no-deps", "--no-index", "--target", folder / "site", wheel], check=True)
    return folder / "site"


def few_test_images(site: Path, folder: Path) -> Path:
    """Two real test images of each class of the starter, whose own are 10,000."""
    from figment.task import load_task

    table = pq.read_table(site / "figment" / "starter" / "test")
    labels = table["label"].to_pylist()
    for label, name in enumerate(load_task("fashion").class_names):
        (folder / name).mkdir(parents=True)
        for row in [row for row, own in enumerate(labels) if own == label][:2]:
            Image.open(io.BytesIO(table["image"][row]["bytes"].as_py())).save(folder / name / f"{row}.png")
    return folder


def test_the_demo_runs_from_a_wheel(installed, tmp_path):
    photos = few_test_images(installed, tmp_path / "photos")
    changes = {**SMALL, "task.real.test": photos}
    code = f"import figment.cli; assert figment.__file__.startswith({str(installed)!r}); figment.cli.main()"
    run = subprocess.run(
        [sys.executable, "-c", code, "run", installed / "figment" / "starter" / "demo.yaml", "--out", tmp_path / "demo"]
        + [f"--set={field}={value}" for field, value in changes.items()],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert "<svg" in (tmp_path / "demo" / "report.html").read_text()
    assert "top1/synthetic" in (tmp_path / "demo" / "results.jsonl").read_text()

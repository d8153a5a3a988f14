"""Sets of images from elsewhere, judged: a good one, a placebo, copies of the photographs; and what cannot be judged."""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from figment import cli
from figment.errors import FigmentError
from figment.evaluate.placebo import spread_labels
from figment.images_in import open_images
from figment.report.worth import WorthPage
from figment.studies.worth import ALONE, ask, run_worth
from figment.task import load_task

pytestmark = pytest.mark.slow

NAMES = load_task("fashion").class_names


def write(folder: Path, images: Iterable[np.ndarray], labels: Iterable[int], suffix: str = "png") -> Path:
    """Class folders."""
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        own = folder / NAMES[label].replace(" ", "_")
        own.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(own / f"{i:04d}.{suffix}")
    return folder


@pytest.fixture(scope="module")
def sets(tmp_path_factory) -> Path:
    """``real`` with 2 training and 20 test images a class; ``good``, 30 others of each class rendered otherwise; ``placebo``, those under
    labels that say nothing; ``memorised``, the training images again and again, encoded anew."""
    root, rng = tmp_path_factory.mktemp("sets"), np.random.default_rng(0)
    pool, test = (open_images(f"starter/{split}", NAMES) for split in ("pool", "test"))

    def of_each(images, first: int, n: int) -> np.ndarray:
        return np.concatenate([np.flatnonzero(images.labels == c)[first : first + n] for c in range(len(NAMES))])

    train = of_each(pool, 0, 2)
    write(root / "real" / "train", pool.load(train), pool.labels[train])
    tested = of_each(test, 0, 20)
    write(root / "real" / "test", test.load(tested), test.labels[tested])
    other = of_each(pool, 10, 30)
    drawn = [(0.9 * image + rng.normal(8, 4, image.shape)).clip(0, 255).astype(np.uint8) for image in pool.load(other)]
    write(root / "good", drawn, pool.labels[other])
    write(root / "placebo", drawn, spread_labels(pool.labels[other], rng))
    again = np.repeat(train, 6)
    copies = [(image + rng.integers(0, 3, image.shape)).clip(0, 255).astype(np.uint8) for image in pool.load(again)]
    write(root / "memorised", copies, pool.labels[again])
    return root


@pytest.fixture(scope="module")
def judged(sets, tmp_path_factory) -> tuple[WorthPage, Path]:
    out = tmp_path_factory.mktemp("worth") / "out"
    asked = ask(str(sets / "real"), [str(sets / name) for name in ("good", "placebo", "memorised")], "starter/clip")
    return run_worth(asked, out), out


def test_a_good_set_a_placebo_and_a_memorised_one_get_three_answers(judged):
    page, out = judged
    words = {one.name: one.answer.word for one in page.judged}
    print(words)
    for one in page.judged:
        print(one.name, one.answer.sentence)
    print("\n".join(page.said))
    print((out / "worth.md").read_text())
    assert words["good"] == "helps" and words["memorised"] == "copies"
    assert words["placebo"] not in ("helps", "copies", "stands in, adds nothing")

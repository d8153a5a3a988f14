"""The examples are run as they stand, each to what it promises a reader."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import chromium
from at_hand import figment_on_path

EXAMPLES = Path(__file__).parents[1] / "examples"
TOUR = (EXAMPLES.parent / "docs/tour.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> Iterator[dict[str, str]]:
    """With ``figment``, and with this Python as ``python``."""
    with figment_on_path(tmp_path_factory.mktemp("bin")) as programs:
        (programs / "python").write_text(
            f'#!/bin/sh\nexec {sys.executable} "$@"\n'
        )  # a link to it would lead out of its environment
        (programs / "python").chmod(0o755)
        yield {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(EXAMPLES.parent / "src")}


def started(name: str, folder: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    """As from a terminal: Ctrl-C is for it and what it started, and is not ignored."""
    return subprocess.Popen(
        [EXAMPLES / name, folder],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def said(name: str, folder: Path, environment: dict[str, str]) -> str:
    example = started(name, folder, environment)
    text, _ = example.communicate(timeout=300)
    assert example.returncode == 0, text
    return text


def test_the_tour_lists_every_example_with_its_time():
    for example in EXAMPLES.glob("*.sh"):
        took = re.search(r"[Aa]bout (\d+) seconds of CPU", " ".join(example.read_text(encoding="utf-8").split("\n# ")))
        row = next((line for line in TOUR.splitlines() if f"(../examples/{example.name})" in line), "")
        assert row and (took is None or f"| {took[1]} s |" in row), (example.name, row)


@pytest.mark.slow
def test_one_folder_is_split_judged_and_learnt_from(tmp_path, environment):
    text = said("one_folder.sh", tmp_path, environment)
    assert "In a recipe, this very split:\n  task: {real: {folder: photos, test_share: 0.3}}" in text
    assert "Verdict: cannot say. There are 6 real test images: too few to say anything." in text.replace("\n", " ")
    assert len(re.findall(r"^new/(?:coat|sandal)/00\d\.png: (?:coat|sandal) [\d.]+ %$", text, re.MULTILINE)) == 6


@pytest.mark.slow
def test_images_from_elsewhere_get_their_answer(tmp_path, environment):
    text = said("worth.sh", tmp_path, environment)
    assert "made: 100 images, 20 a class." in text and "real and synthetic" in text
    assert (tmp_path / "worth/worth.html").is_file()


@pytest.mark.slow
@pytest.mark.skipif(chromium.PROGRAM is None, reason="there is no Chromium here")
def test_images_are_rejected_in_the_browser_and_the_model_that_is_taken_away_answers_as_figment_does(
    tmp_path, environment
):
    example = started("curate.sh", tmp_path / "work", environment)
    assert example.stdout is not None
    address = next(found[0] for line in example.stdout if (found := re.search(r"http://127\S+", line)))
    with chromium.chromium(tmp_path / "profile") as browser:
        page = browser.page(address)
        page.until("document.body?.dataset.ready")
        page.press("r", "r")
        page.until("document.querySelector('#saved').textContent === 'saved'")
    os.killpg(example.pid, signal.SIGINT)
    text, _ = example.communicate(timeout=300)
    assert example.returncode == 0, text
    assert "2 rejected by hand" in text and "train on synthetic: 18 images" in text
    assert "agree on 20 of 20 images" in text


@pytest.mark.slow
def test_three_generators_are_compared(tmp_path, environment):
    text = said("compare.sh", tmp_path, environment)
    rows = re.findall(r"^(one-step|four-steps|another-tool) .* 60 ", text, re.MULTILINE)
    assert sorted(rows) == ["another-tool", "four-steps", "one-step"]
    assert (tmp_path / "compare.html").is_file()


@pytest.mark.slow
def test_twice_as_many_images_are_the_old_ones_and_as_many_new_ones(tmp_path, environment):
    text = said("grow.sh", tmp_path, environment)
    assert text.count("generate: 20 images") == 2
    assert text.endswith("20 images are those of before, byte for byte, and 20 are new.\n")


@pytest.mark.slow
def test_images_of_two_machines_are_trained_on_at_a_third(tmp_path, environment):
    text = said("two_machines.sh", tmp_path, environment)
    assert text.count("generate: 16 images") == 2 == text.count("generate: ")
    assert (tmp_path / "desk/run/report.html").is_file() and not (tmp_path / "gpu-0/run/report.html").exists()

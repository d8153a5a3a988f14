"""One run at a time in a folder, or several parts of one; the dead hold nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from figment import files
from figment.errors import FigmentError

pytestmark = pytest.mark.slow

REPO = Path(__file__).parents[1]
HOLD = """
import sys, time
from figment import files
files.LEASE_BEAT = 0.3
with files.lock(files.as_path(sys.argv[1]), *sys.argv[2:]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def hold():
    """Starts processes that hold a folder, or a part of it."""
    started = []

    def start(folder: object, *part: str) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": str(REPO / "src")}
        command = [sys.executable, "-c", HOLD, str(folder), *part]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True)
        started.append(process)
        assert process.stdout and process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def refused(folder, part: str = "") -> bool:
    try:
        with files.lock(folder, part):
            return False
    except FigmentError as error:
        assert "Another figment is working in" in str(error) and str(folder) in str(error)
        return True


def test_a_second_run_and_a_part_are_refused_while_a_whole_run_works(tmp_path, hold):
    hold(tmp_path)
    assert refused(tmp_path) and refused(tmp_path, "0-of-3")


def test_parts_work_beside_each_other_but_not_twice_and_not_beside_a_whole_run(tmp_path, hold):
    hold(tmp_path, "0-of-3")
    hold(tmp_path, "1-of-3")
    assert refused(tmp_path, "0-of-3") and refused(tmp_path)
    assert not refused(tmp_path, "2-of-3")


@pytest.mark.parametrize("part", ["", "0-of-3"])
def test_a_lock_whose_holder_was_killed_holds_nobody_up(tmp_path, hold, part):
    process = hold(tmp_path, *([part] if part else []))
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (tmp_path / ".lock").exists()
    assert not refused(tmp_path) and not refused(tmp_path, "0-of-3")


def test_who_waits_comes_next(tmp_path, hold):
    process = hold(tmp_path)
    threading.Timer(0.3, process.kill).start()
    started = time.monotonic()
    with files.lock(tmp_path, wait=True):
        assert time.monotonic() - started > 0.2


def test_a_remote_folder_is_held_by_a_sign_of_life_and_taken_over_from_the_dead(s3, hold, monkeypatch):
    monkeypatch.setattr(files, "LEASE_BEAT", 0.5)
    folder = files.as_path(f"{s3}/run")
    process = hold(folder)
    assert refused(folder)
    assert not refused(folder, "0-of-3")  # a part has a lease of its own
    process.kill()
    process.wait()
    assert not refused(folder)
    assert not list(folder.glob(".lock*"))

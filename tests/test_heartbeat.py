"""What others can tell of a running job by the file that it touches."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import damage
from figment import heartbeat
from figment.heartbeat import told
from figment.status import status


def beat(path: Path, ago: float, lasted: float = 60.0, **changes) -> Path:
    """The file of a job that gave its last sign of life so many seconds ago."""
    now = time.time()
    own = {"stage": "images", "host": socket.gethostname(), "pid": os.getpid(), "beat": now - ago, **changes}
    path.write_text(json.dumps({"started": now - ago - lasted, **own}))
    return path


def test_a_running_job_says_where_it_is_and_one_that_ended_says_nothing(tmp_path):
    path = tmp_path / ".heartbeat"
    with heartbeat.heartbeat(path) as alive:
        alive.started = time.time() - 600
        alive.at("images")
        assert told(path) == "running: images, for 10 minutes"
    assert not path.exists() and told(path) == ""


def test_it_beats_while_the_job_works(tmp_path, monkeypatch):
    monkeypatch.setattr(heartbeat, "BEAT", 0.05)
    path = tmp_path / ".heartbeat"
    with heartbeat.heartbeat(path) as alive:
        first = json.loads(path.read_bytes())
        alive.stage = "scores"
        time.sleep(0.5)
        now = json.loads(path.read_bytes())
    assert now["beat"] > first["beat"] and now["started"] == first["started"]
    assert (first["stage"], now["stage"]) == ("", "scores")  # which the thread wrote by itself


@pytest.mark.parametrize(
    ("ago", "said"),
    [
        (100, "stopped 100 seconds ago, at images"),
        (3 * 3600, "stopped 3 hours ago, at images"),
        (72 * 3600, "stopped 3 days ago, at images"),
    ],
)
def test_one_that_is_silent_has_stopped(tmp_path, ago, said):
    assert told(beat(tmp_path / "beat", ago, host="another-machine")) == said


def test_one_of_another_machine_is_believed_until_it_is_silent_for_long(tmp_path):
    assert told(beat(tmp_path / "beat", 50, host="another-machine", pid=1)).startswith("running: images, for 110 s")


def test_one_whose_process_is_gone_has_stopped_at_once(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert told(beat(tmp_path / "beat", 10, pid=process.pid)) == "stopped 10 seconds ago, at images"
    assert told(beat(tmp_path / "beat", 10, pid=process.pid, stage="")) == "stopped 10 seconds ago, at its start"


def test_one_that_ended_with_an_error_leaves_its_last_word(tmp_path):
    path = tmp_path / ".heartbeat"
    with pytest.raises(RuntimeError), heartbeat.heartbeat(path) as alive:
        alive.at("model")
        raise RuntimeError
    assert json.loads(path.read_bytes())["stage"] == "model"


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"7", b"{}", b"\xff", b'{"beat": "x", "started": 1}', b'{"beat": 1, "started": 1}']
)
def test_a_missing_or_damaged_file_says_nothing(tmp_path, content):
    assert told(tmp_path / "none") == ""
    (tmp_path / "beat").write_bytes(content)
    assert told(tmp_path / "beat") == ""


def test_status_tells_of_a_run_that_stopped(tmp_path):
    run = damage.make(tmp_path / "run")
    assert not any("ago" in row.text for row in status(run))
    beat(run / ".heartbeat", 7200, host="another-machine")
    assert status(run)[-1].text == "stopped 2 hours ago, at images"


def test_a_disk_that_cannot_be_written_to_does_not_stop_the_job(tmp_path):
    (tmp_path / "file").write_text("")
    with heartbeat.heartbeat(tmp_path / "file" / ".heartbeat") as alive:
        alive.stage = "images"

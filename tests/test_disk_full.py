"""A disk that is really full: a small tmpfs in a mount namespace of its own, which goes with the test's processes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import damage

#: Runs in the namespace: mounts a tmpfs of argv[2] at argv[1], then does the steps of argv[3] and prints what came of each.
STEPS = """
import contextlib, io, json, os, pathlib, subprocess, sys, traceback
from figment.cli import main
disk, size, steps = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk], check=True)
for step, *arguments in steps:
    if step == "figment":
        sys.argv, said, code = ["figment", *arguments], io.StringIO(), 0
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            try:
                main()
            except SystemExit as stop:
                code = stop.code or 0
            except BaseException:
                traceback.print_exc()
        files = sorted(str(p.relative_to(disk)) for p in pathlib.Path(disk).rglob("*"))
        print(json.dumps([code, said.getvalue(), files]))
    elif step == "grow":
        subprocess.run(["mount", "-o", f"remount,size={arguments[0]}", disk], check=True)
    elif step == "fill":
        try:
            with open(f"{disk}/filler", "wb", buffering=0) as file:
                while file.write(bytes(4096)):
                    pass
        except OSError:
            pass
    elif step == "free":
        os.unlink(f"{disk}/filler")
    elif step == "keep":
        subprocess.run(["cp", "-r", f"{disk}/run", arguments[0]], check=True)
"""


def _namespace() -> list[str]:
    """The command that gives a process mounts of its own; with a user namespace where we are not root."""
    for command in (["unshare", "-m"], ["unshare", "-rm"]):
        trial = [*command, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
        if shutil.which("unshare") and subprocess.run(trial, capture_output=True, check=False).returncode == 0:
            return command
    return []


NAMESPACE = _namespace()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not NAMESPACE, reason="needs to be allowed to mount a tmpfs"),
]


def on_disk(disk: Path, size: str, *steps: list[object]) -> list[tuple[int, str, list[str]]]:
    """Exit status, output and files of each ``figment`` step."""
    command = [*NAMESPACE, sys.executable, "-c", STEPS, str(disk), size, json.dumps(steps, default=str)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


def error_of(code: int, said: str) -> str:
    """The message of a command that failed as it should."""
    assert code == 2 and "Traceback" not in said, said
    message = said[said.index("Error: ") :].strip()
    assert "\n" not in message
    return message


def write(path: Path, **changes) -> Path:
    path.write_text(damage.recipe(**changes).to_yaml())
    return path


def test_a_full_disk_leaves_valid_shards_and_the_same_command_finishes_after_space_is_made(tmp_path):
    changes = {"generate.images_per_class": 100, "generate.shard_size": 16, "generate.height": 64, "generate.width": 64}
    recipe = write(tmp_path / "recipe.yaml", **changes)
    disk = tmp_path / "disk"
    disk.mkdir()
    generate = ["figment", "generate", recipe, "--out", disk / "run"]
    verify = ["figment", "verify", disk / "run"]
    full, between, finished, after = on_disk(
        disk, "640k", generate, verify, ["grow", "64m"], generate, verify, ["keep", tmp_path / "kept"]
    )
    lost = next(i for i in range(13) if f"run/images/00000/train-{i:07d}.parquet" not in full[2])
    assert error_of(*full[:2]) == (
        f"Error: No space left on the disk of {disk}/run/images/00000 while writing train-{lost:07d}.parquet. Free some"
        " space. What was finished before is safe; run the same command again and it goes on from there."
    )
    assert lost >= 2 and not [name for name in full[2] if name.endswith(".tmp")]
    assert between[0] == 1 and f"{13 - lost} of 13 shards are not there yet" in between[1]
    assert "Nothing is harmed." in between[1] and "broken" not in between[1]
    assert finished[0] == 0 and after[0] == 0 and "Everything is as it was written." in after[1]
    assert damage.content(tmp_path / "kept") == damage.content(damage.make(tmp_path / "uninterrupted", **changes))


def test_a_disk_that_fills_up_after_the_images(tmp_path, clip):
    recipe = write(tmp_path / "recipe.yaml", **{"train.encoder": str(clip)})
    disk = tmp_path / "disk"
    disk.mkdir()
    run = ["figment", "run", recipe, "--out", disk / "run"]
    verify = ["figment", "verify", disk / "run"]
    generate = ["figment", "generate", recipe, "--out", disk / "run"]
    made, full, between, finished, after = on_disk(disk, "4m", generate, ["fill"], run, verify, ["free"], run, verify)
    assert made[0] == 0
    assert f"No space left on the disk of {disk}/run" in error_of(*full[:2])
    assert "broken" not in between[1]
    assert finished[0] == 0 and "Report: " in finished[1]
    assert after[0] == 0 and "Everything is as it was written." in after[1]

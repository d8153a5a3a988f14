"""Paths local and remote, atomic files, locks and leases; an S3 of our own on loopback stands for all object stores."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import damage
from figment import files
from figment.errors import FigmentError
from figment.files import as_path
from figment.images_in import open_shards
from figment.repair import repair
from figment.run import make_images
from figment.status import status
from figment.verify import verify

DEAD, RIVAL = b"d" * 32, b"a" * 32  # who else holds a lease
BEAT = 0.2  # seconds, in place of LEASE_BEAT


@pytest.fixture
def beat(monkeypatch) -> None:
    monkeypatch.setattr(files, "LEASE_BEAT", BEAT)


# ---- where -----------------------------------------------------------------------------------------------------------


def test_local_paths_are_paths(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert as_path("~/x") == tmp_path / "x" and as_path(f"file://{tmp_path}/y") == tmp_path / "y"
    assert as_path(Path("a/b")) == Path("a/b")
    assert not files.is_remote(as_path("a"))


def test_a_remote_path_stays_what_it_is(s3):
    path = as_path(f"{s3}/run")
    assert files.is_remote(path) and str(path) == f"{s3}/run"
    assert str(as_path(path) / "images") == f"{s3}/run/images" and files.is_remote(as_path(path))


@pytest.mark.parametrize("where", ["nowhere://bucket/x", "gs://bucket/x"])
def test_a_protocol_that_is_not_spoken_here_says_what_to_install(where, monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(FigmentError, match="cannot be reached.*pip install s3fs for s3://"):
        as_path(where)


# ---- files -----------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["local", "remote"])
def folder(request, tmp_path) -> Path:
    return tmp_path if request.param == "local" else as_path(request.getfixturevalue("s3"))


def test_files_are_written_and_replaced_whole(folder):
    files.write_atomic(folder / "a" / "b", b"old")
    files.write_atomic(folder / "a" / "b", b"new")
    assert (folder / "a" / "b").read_bytes() == b"new"
    assert [p.name for p in (folder / "a").iterdir()] == ["b"] and not files.leftovers(folder / "a")
    files.write_json(folder / "c.json", {"ü": [1, None]})
    assert files.read_json(folder / "c.json") == {"ü": [1, None]}


def test_a_part_of_a_parquet_file_can_be_read(folder):
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"x": [1, 2, 3]}), sink, write_page_checksum=True)
    data = sink.getvalue().to_pybytes()
    files.write_atomic(folder / "x.parquet", data)
    assert files.open_parquet(folder / "x.parquet").read()["x"].to_pylist() == [1, 2, 3]
    if files.is_remote(folder):
        assert files.read_range(folder / "x.parquet", 5, 7) == data[5:12]


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", None])
def test_json_that_cannot_be_read_says_how_to_mend_it(folder, content):
    if content is not None:
        files.write_atomic(folder / "stage.json", content)
    with pytest.raises(FigmentError, match=r"stage.json cannot be read.*figment verify.*figment repair"):
        files.read_json(folder / "stage.json")


def test_a_bucket_that_is_not_there_and_keys_that_do_not_fit_are_explained(s3):
    with pytest.raises(FigmentError, match="Cannot write to s3://no-such-bucket"):
        files.write_atomic(as_path("s3://no-such-bucket/run/file"), b"")
    with pytest.raises(FigmentError, match="Cannot write to"), files.lock(as_path("s3://no-such-bucket/run")):
        pass


# ---- the lock --------------------------------------------------------------------------------------------------------


def hold(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Another process that holds a lock until its standard input is closed, or it is killed."""
    code = (
        "import sys; from figment import files\n"
        f"files.LEASE_BEAT = {BEAT}\n"
        "with files.lock(files.as_path(sys.argv[1]), *sys.argv[2:]): print('held', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder), *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def refused(folder: Path, part: str = "") -> bool:
    try:
        with files.lock(folder, part):
            return False
    except FigmentError as error:
        assert "Another figment is working in" in str(error)
        return True


@pytest.mark.slow
def test_a_folder_that_another_process_holds_is_refused_until_it_is_given_back(folder, beat):
    process = hold(folder)
    assert refused(folder) and refused(folder)
    process.communicate()
    assert not refused(folder)
    assert not [p for p in folder.iterdir() if files.is_remote(folder)]  # nothing is left in the bucket


@pytest.mark.slow
def test_a_killed_process_holds_nothing(folder, beat):
    process = hold(folder)
    process.kill()
    process.wait()
    started = time.monotonic()
    assert not refused(folder)
    if files.is_remote(folder):
        assert time.monotonic() - started >= 3 * BEAT  # it might have been alive


@pytest.mark.parametrize("part", ["", "3-of-16"])
def test_a_forked_worker_that_outlives_its_parents_lock_does_not_hold_it(tmp_path, part):
    ours, theirs = get_context("fork").Pipe()
    with files.lock(tmp_path, part):
        worker = get_context("fork").Process(target=lambda: (theirs.send("here"), theirs.recv()), daemon=True)
        worker.start()
        assert ours.recv() == "here"
        assert refused(tmp_path, part)  # the fork has not let go of what its parent holds
    assert worker.is_alive() and not refused(tmp_path)
    ours.send("the end")
    worker.join()


def test_a_fork_that_leaves_the_block_takes_nothing_from_its_parent(tmp_path):
    with ExitStack() as block:
        block.enter_context(files.lock(tmp_path))
        worker = get_context("fork").Process(target=block.close)
        worker.start()
        worker.join()
        assert worker.exitcode == 0 and refused(tmp_path)


@pytest.mark.slow
def test_parts_do_not_hinder_each_other_and_hinder_the_whole(folder, beat):
    process = hold(folder, "0-of-2")
    assert refused(folder, "0-of-2") and not refused(folder, "1-of-2")
    if not files.is_remote(folder):
        assert refused(folder)
        whole = hold(folder / "other")
        assert refused(folder / "other", "0-of-2")
        whole.communicate()
    process.communicate()
    assert not refused(folder, "0-of-2") and not refused(folder)


@pytest.mark.slow
def test_who_waits_gets_it_when_the_first_ends(folder, beat):
    process = hold(folder)
    threading.Timer(0.5, process.communicate).start()
    with files.lock(folder, wait=True):
        assert process.poll() is not None or process.wait(5) == 0


def test_a_file_system_without_locks_is_not_called_busy(tmp_path, monkeypatch):
    import fcntl

    def flock(*arguments: Any) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OSError, match="No locks available"), files.lock(tmp_path):
        pass


def test_of_many_who_find_a_dead_lease_one_takes_it_over(s3, beat):
    folder = as_path(s3)
    (folder / ".lock").write_bytes(b"%s 7" % DEAD)
    inside, most, refusals = 0, 0, 0
    count = threading.Lock()

    def take() -> None:
        nonlocal inside, most, refusals
        try:
            with files.lock(as_path(s3)):
                with count:
                    inside += 1
                    most = max(most, inside)
                time.sleep(8 * BEAT)
                with count:
                    inside -= 1
        except FigmentError:
            with count:
                refusals += 1

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, refusals) == (1, 3)


def test_who_takes_over_makes_sure_that_nobody_else_did_in_the_same_moment(s3, beat, monkeypatch):
    """Another had found the same owner dead, removes what it takes for the dead one's lease, and makes its own."""
    lease, ended = as_path(s3) / ".lock", threading.Event()
    files.write_atomic(lease, b"%s 7" % DEAD)
    create = files._create

    def rival() -> None:
        count = 0
        while not ended.wait(BEAT / 2):
            files.write_atomic(lease, b"%s %d" % (RIVAL, count := count + 1))

    def and_then_the_rival(path: Path, data: bytes) -> bool:
        made = create(path, data)
        if made:
            files.write_atomic(lease, b"%s 0" % RIVAL)
            thread.start()
        return made

    thread = threading.Thread(target=rival, daemon=True)
    monkeypatch.setattr(files, "_create", and_then_the_rival)
    assert refused(as_path(s3))
    ended.set()
    thread.join()
    assert files.read_bytes(lease).startswith(RIVAL)


def test_an_object_of_the_users_called_like_a_lease_is_no_dead_one(s3, beat):
    (as_path(s3) / ".lock").write_bytes(b"mine")
    with pytest.raises(FigmentError, match="is no lease of figment's"), files.lock(as_path(s3)):
        pass
    assert (as_path(s3) / ".lock").read_bytes() == b"mine"


def test_a_lease_that_was_taken_over_is_neither_renewed_nor_given_back(s3, beat):
    lease = as_path(s3) / ".lock"
    with files.lock(as_path(s3)):
        lease.write_bytes(b"another 0")
        time.sleep(4 * BEAT)
        assert files.read_bytes(lease) == b"another 0"
    assert files.read_bytes(lease) == b"another 0"


def test_a_lease_is_renewed_while_it_is_held(s3, beat):
    lease = as_path(s3) / ".lock"
    with files.lock(as_path(s3)):
        seen = set()
        for _ in range(12):
            seen.add(files.read_bytes(lease))
            time.sleep(BEAT / 2)
    assert len(seen) >= 3 and not lease.exists()


# ---- a run in a bucket -----------------------------------------------------------------------------------------------


def test_a_run_in_a_bucket_is_the_run_on_a_disk_is_verified_and_repaired(s3, tmp_path, beat):
    local = damage.make(tmp_path / "run")
    remote = damage.make(f"{s3}/run")
    assert damage.content(remote) == damage.content(local)
    found = verify(f"{s3}/run")
    assert found.ok and not found.findings
    assert verify(f"{s3}/run/images").ok
    assert {s.name: s.state for s in status(remote)}["images"] == "done"
    images, names = open_shards(remote / "images")
    assert names == damage.NAMES and (images.load([13])[0] == open_shards(local / "images")[0].load([13])[0]).all()
    damage.flip(damage.shard(remote, 1), 300)
    damage.shard(remote, 2).unlink()
    (remote / "images" / "stranger.parquet").write_bytes(b"mine")
    found = verify(remote)
    assert {f.shard for f in found.findings if f.severity == "broken"} == {1}
    said = repair(remote)
    assert sum("the file is the same as before, byte for byte" in line for line in said) == 2
    assert (remote / "images" / "stranger.parquet").read_bytes() == b"mine"
    mine = {"images/stranger.parquet": b"mine"}
    assert verify(remote).ok and damage.content(remote) == damage.content(local) | mine
    assert not (remote / ".lock").exists()


def test_parts_of_a_run_in_a_bucket(s3, tmp_path, beat):
    local = damage.make(tmp_path / "run")
    for i in (2, 0, 1):
        make_images(damage.recipe(), f"{s3}/run", part=(i, 3))
    assert damage.content(as_path(f"{s3}/run")) == damage.content(local) and verify(f"{s3}/run").ok


def test_the_commands_take_buckets(s3, tmp_path, beat):
    from test_cli import figment

    (tmp_path / "recipe.yaml").write_text(damage.recipe().to_yaml())
    done = figment("generate", tmp_path / "recipe.yaml", "--out", f"{s3}/run")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{s3}/run/images" in done.stdout
    assert figment("verify", f"{s3}/run").returncode == 0
    assert "done" in figment("status", f"{s3}/run").stdout
    assert json.loads((as_path(s3) / "run" / "images" / "stage.json").read_bytes())["counts"]["made"] == 20

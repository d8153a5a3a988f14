"""The curation page's server, by plain requests: who is answered, what is kept, and that nothing is lost."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from figment import cli, png
from figment.errors import FigmentError
from figment.exports.export import export
from figment.exports.source import open_source
from figment.images_in import by_hand
from figment.images_in.verdicts import open_kept, read_verdicts
from figment.layout import Run
from figment.look.album import Album
from figment.look.server import MOST_BYTES, LookServer
from figment.neighbours import nearest_few
from figment.repair import _leftovers
from figment.stages.hand import Hand
from figment.stages.stage import Look, Verification
from figment.status import status
from looked_at import make_run, served


@pytest.fixture(scope="module")
def ready(tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("look") / "ready")


@pytest.fixture
def run(ready, tmp_path) -> Path:
    return shutil.copytree(ready, tmp_path / "run")


def file_of(run: Path) -> Path:
    return by_hand.place(Run(run))


def test_the_command_prints_the_address_and_at_the_end_what_was_said(run, monkeypatch, capsys):
    def looked_at(server: LookServer) -> None:
        server.album.say([by_hand.Change("p00000/0", server.album.images.digests[0], "", "rejected")])
        raise KeyboardInterrupt

    monkeypatch.setattr(LookServer, "serve_forever", looked_at)
    monkeypatch.setattr(sys, "argv", ["figment", "look", str(run)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr().out
    assert ended.value.code == 0 and re.search(r"^12 images: http://127\.0\.0\.1:\d+/[\w-]{32}/$", said, re.MULTILINE)
    assert f"9 kept by the filters, 1 rejected by hand. To train on what is left: figment run {run}" in said


# ---- who is answered -------------------------------------------------------------------------------------------------


def test_the_page_and_everything_on_it(ready):
    with served(ready) as page:
        assert page.server.server_address[0] == "127.0.0.1"
        for way, start in {"": b"<!doctype html>", "look.js": b"//", "look.css": b"/*"}.items():
            assert page.ask(way)[1].startswith(start)
        data = page.json("images.json")
        assert len(data["id"]) == 12 and data["classes"] == ["red thing", "green thing", "blue thing"]
        assert data["by"] == [0 if i % 4 == 3 else -1 for i in range(12)] and data["filters"] == ["blank"]
        assert [data["reasons"][i] for i in data["reason"]] == ["too plain" if i % 4 == 3 else "" for i in range(12)]
        assert data["prompts"][data["prompt"][1]] == "a photo of a green thing"
        assert data["scores"]["std"] == [float(f"{(i * 7 % 12) / 12:.4g}") for i in range(12)]
        for way in ("image/7", "thumbnail/7"):  # small: as it is stored
            assert page.ask(way)[1] == page.server.album.images.data(7)
        assert page.json("verdicts.json") == {"version": "", "words": {"accepted": [], "rejected": []}}
        for way in (
            "image/12",
            "image/-1",
            "image/x",
            "image/1e1",
            "image",
            "look.py",
            "../cli.py",
            "real/test/0/0",
            "x",
        ):
            assert page.ask(way)[0] == 404, way


def test_what_is_no_address_is_told(run):
    with served(run) as page:
        port = page.server.server_port
        with socket.create_connection(("127.0.0.1", port)) as line:  # http.client refuses to send it
            line.sendall(f"GET http://[ HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
            assert b" 400 " in line.makefile("rb").readline()


def test_nobody_else_is_answered(run):
    with served(run) as page:
        host = f"127.0.0.1:{page.server.server_port}"
        change = {"changes": [page.change(0, "", "rejected")]}
        wrong = [
            {"token": ""},
            {"token": page.server.token[:-1]},
            {"Host": "evil.example"},
            {"Host": "127.0.0.1"},
            {"Host": f"{host}.evil.example"},
            {"Host": ""},
            {"Origin": "http://evil.example"},
            {"Origin": "null"},
            {"Origin": f"http://{host}/"},
            {"Origin": f"https://{host}"},
        ]
        for one in wrong:
            status = page.ask("images.json", **one)[0]
            assert status == 403, one
        for one in [
            *wrong,
            {"Origin": ""},
            {"X_Figment_Look": ""},
            {"X_Figment_Look": "0"},
            {"Content_Type": "text/plain"},
        ]:
            assert page.ask("verdicts.json", change, **one)[0] == 403, one
        assert page.ask("verdicts.json", method="OPTIONS", Origin="http://evil.example")[0] == 501
        assert not file_of(run).exists()
        assert page.ask("verdicts.json", change)[0] == 200  # none of that was for another reason
        assert page.ask("images.json", Host=f"localhost:{page.server.server_port}")[0] == 200


def test_what_the_page_would_never_send_is_refused(run):
    with served(run) as page:
        for body in (b"", b"{", b"[]", b'{"changes": [1]}', b'{"changes": [{"id": "p"}]}', b"[" * 200):
            assert page.ask("verdicts.json", body)[0] in (400, 409), body
        assert page.ask("verdicts.json", {"changes": [page.change(0, "", "burnt")]})[0] == 400
        assert page.ask("verdicts.json", {"changes": [page.change(0, "", "rejected")] * 1001})[0] == 400
        assert page.ask("verdicts.json", b"{}", Content_Length=str(MOST_BYTES + 1))[0] == 413
        assert page.ask("images.json", {"changes": []})[0] == 404
        assert not file_of(run).exists()


def test_every_answer_forbids_what_the_page_does_not_need(ready):
    with served(ready) as page, socket.create_connection(page.server.server_address[:2]) as wire:
        wire.sendall(
            f"GET /{page.server.token}/ HTTP/1.0\r\nHost: 127.0.0.1:{page.server.server_port}\r\n\r\n".encode()
        )
        head = wire.makefile("rb").read().split(b"\r\n\r\n")[0].decode()
    assert "default-src 'none'; script-src 'self'" in head and "frame-ancestors 'none'" in head
    assert "Referrer-Policy: no-referrer" in head and "nosniff" in head and "same-origin" in head
    assert "Access-Control" not in head


def test_a_port_that_is_taken(ready):
    with served(ready) as page:
        with pytest.raises(FigmentError, match=r"Port \d+ of 127.0.0.1 cannot be had"):
            LookServer(page.server.album, page.server.server_port)
        other = LookServer(page.server.album)  # the run's own is taken
        assert other.server_port != page.server.server_port and other.token != page.server.token
        other.server_close()


# ---- what is kept ----------------------------------------------------------------------------------------------------


def test_a_rejection_is_a_verdict_of_the_filter_hand(run):
    with served(run) as page:
        told = page.say((0, "", "rejected"), (1, "", "accepted"), (3, "", "rejected"))
        assert told["words"] == {"accepted": [1], "rejected": [0, 3]} and told["refused"] == []
        verdicts = read_verdicts(run)
        assert verdicts.filters == ["blank", "hand"]
        assert verdicts.rejected_by.tolist() == [
            1,
            -1,
            -1,
            0,
            -1,
            -1,
            -1,
            0,
            -1,
            -1,
            -1,
            0,
        ]  # the first to reject counts
        assert verdicts.reasons[0] == "rejected by hand" and verdicts.reasons[3] == "too plain"
        assert 0 not in open_kept(run).rows and 0 in open_kept(run, filters=["blank"]).rows

        assert page.say((0, "rejected", ""))["words"] == {"accepted": [1], "rejected": [3]}  # taken back
        assert len(open_kept(run)) == 9


def test_exports_leave_rejected_images_out_at_once(run, tmp_path):
    before = open_source(run).fingerprint
    with served(run) as page:
        page.say((0, "", "rejected"))
        done = export(run, "csv", tmp_path / "out")
        assert done.left_out == 4 and sum(done.counts.values()) == 8
        assert open_source(run).fingerprint != before
        every = open_source(run, rejected=True)
        row = next(iter(every.records()))
        assert (row["kept"], row["reason"]) == (False, "rejected by hand")
        page.say((0, "rejected", ""))
    assert open_source(run).fingerprint == before


def test_two_tabs_at_once_lose_nothing(run):
    """And two servers: what counts is the file."""
    with served(run) as one, served(run) as two, ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit((one, two)[i % 2].say, (i, "", "rejected" if i % 3 else "accepted")) for i in range(12)]
        assert all(job.result()["refused"] == [] for job in jobs)
        words = {"accepted": [0, 3, 6, 9], "rejected": [1, 2, 4, 5, 7, 8, 10, 11]}
        assert one.json("verdicts.json")["words"] == two.json("verdicts.json")["words"] == words


def test_a_word_that_rests_on_an_older_one_does_not_hold(run):
    with served(run) as page:
        page.say((0, "", "rejected"))
        told = page.say((0, "", "accepted"), (1, "", "accepted"))  # a tab that has not heard of it
        assert told["refused"] == ["p00000/0"] and told["words"] == {"accepted": [1], "rejected": [0]}
        told = page.say((0, "", "rejected"))  # sent again, since nobody knew whether it had come
        assert told["refused"] == [] and told["words"] == {"accepted": [1], "rejected": [0]}
        strange = {**page.change(2, "", "rejected"), "digest": "another"}  # of an image that was made anew since
        assert page.json("verdicts.json", {"changes": [strange]})["refused"] == ["p00002/0"]


KILLED = """
import os, signal, sys
from pathlib import Path
from figment import files
from figment.images_in import by_hand
from figment.layout import Run
run = Run(Path(sys.argv[1]))
os.replace = lambda *ways: os.kill(os.getpid(), signal.SIGKILL)  # the file is written, and has not its name yet
by_hand.say(run, [by_hand.Change("p00001/0", sys.argv[2], "", "rejected")])
"""


def test_a_kill_between_a_rejection_and_its_saving(run):
    with served(run) as page:
        page.say((0, "", "rejected"))
        before = file_of(run).read_bytes()
        digest = page.server.album.images.digests[1]
        killed = subprocess.run(
            [sys.executable, "-c", KILLED, run, digest], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        )
        assert killed.returncode == -signal.SIGKILL
        assert file_of(run).read_bytes() == before
        assert page.say((1, "", "rejected"))["words"]["rejected"] == [0, 1]  # the page never heard that it was saved
    assert list(_leftovers(Run(run))) == ["removed 1 files that killed writers left behind"]


def test_a_disk_that_is_full_is_told_and_nothing_changes(run, monkeypatch):
    with served(run) as page:
        page.say((0, "", "rejected"))
        before = file_of(run).read_bytes()

        def full(*ways):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", full)
            status, told = page.ask("verdicts.json", {"changes": [page.change(1, "", "rejected")]})
        assert status == 409 and "No space left" in json.loads(told)["error"]
        assert file_of(run).read_bytes() == before


# ---- the run's other verbs -------------------------------------------------------------------------------------------


def test_status_and_verify_tell_of_it(run):
    assert not [row for row in status(run) if row.name == "hand"]
    with served(run) as page:
        page.say((0, "", "rejected"), (1, "", "accepted"), (2, "", "accepted"))
    assert [(row.state, row.text) for row in status(run) if row.name == "hand"] == [("done", "1 rejected, 2 accepted")]
    look = looked(run)
    assert look.found.checked == {"hand": "1 rejected, 2 accepted"} and not look.found.findings
    assert look.known == {file_of(run)}

    file = file_of(run)
    file.write_bytes(file.read_bytes().replace(b"p00000", b"p00004"))  # another image
    (finding,) = looked(run).found.findings
    assert (finding.severity, finding.remedy) == ("broken", "") and "not as it was written" in finding.text
    assert [row.state for row in status(run) if row.name == "hand"] == ["partial"]
    for reads in (lambda: open_kept(run), lambda: Album(run), lambda: open_source(run)):
        with pytest.raises(FigmentError, match="Put a copy of it back"):
            reads()


def looked(run: Path) -> Look:
    """What verify says of the words alone."""
    look = Look(Run(run), None, Verification(run))
    Hand().verify(look)
    return look


def test_verdicts_wait_for_images_that_are_not_there(run):
    with served(run) as page:
        page.say((0, "", "rejected"), (11, "", "rejected"))
    resolved = Run(run).resolved
    resolved.write_text(resolved.read_text().replace("images_per_class: 4", "images_per_class: 3"))
    assert len(read_verdicts(run).images) == 9 and read_verdicts(run).rejected_by[0] == 1
    (note,) = looked(run).found.findings
    assert note.severity == "note" and note.text.startswith("1 verdicts are on images that the run does not hold")


def test_what_cannot_be_looked_at(tmp_path, run):
    with pytest.raises(FigmentError, match="neither the folder of a run"):
        Album(tmp_path)
    (tmp_path / "table" / "cells" / "a" / "b").mkdir(parents=True)
    with pytest.raises(FigmentError, match="is a table of runs. Look at one of its runs"):
        Album(tmp_path / "table")
    with pytest.raises(FigmentError, match="neither the folder of a run"):
        Album(run / "images")
    shutil.rmtree(run / "images")
    with pytest.raises(FigmentError, match="has no images yet"):
        Album(run)


# ---- neighbours ------------------------------------------------------------------------------------------------------


def test_the_nearest_few_are_those_of_a_whole_sort():
    rng = np.random.default_rng(0)
    keys = rng.normal(size=(50, 8)).astype(np.float32)
    keys /= np.linalg.norm(keys, axis=1, keepdims=True)
    keys[7] = keys[3]
    cosines, order = nearest_few(keys[3], keys, 5)
    assert order[:2].tolist() == [3, 7] and order.tolist() == np.argsort(-(keys @ keys[3]), kind="stable")[:5].tolist()
    assert cosines.max() <= 1 and len(nearest_few(keys[3], keys[:2], 5)[1]) == 2


def test_real_neighbours_are_never_test_images(tmp_path, clip, photos):
    real = {split: str(photos / split) for split in ("train", "val", "test")}
    task = {"class_names": ["red thing", "green thing", "blue thing"], "real": real}
    folder = make_run(tmp_path / "run", task=task, train={"encoder": str(clip)})
    with served(folder) as page:
        found = page.json("neighbours/0")
        assert len(found) == 6 and {one["split"] for one in found} <= {"train", "val"}
        assert [one["cosine"] for one in found] == sorted((one["cosine"] for one in found), reverse=True)
        pixels = png.decode(page.ask(f"real/{found[0]['split']}/{found[0]['at']}")[1])
        assert pixels.shape == (24, 20, 3)
        assert page.ask("real/test/0")[0] == 404 and page.ask("real/train/18")[0] == 404


def test_without_real_images_there_are_no_neighbours(ready):
    with served(ready) as page:
        status, told = page.ask("neighbours/0")
    assert status == 409 and "no real images to compare with" in json.loads(told)["error"]


def test_large_images_are_reduced_for_the_grid(ready, monkeypatch):
    with served(ready) as page:
        monkeypatch.setattr("figment.look.album.SMALL", 10)
        monkeypatch.setattr("figment.look.album.SIDE", 4)
        data = page.ask("thumbnail/0")[1]
        assert data.startswith(b"\xff\xd8") and len(data) > 10


def test_a_damaged_image_is_no_page_and_no_traceback(run, monkeypatch, capfd):
    with served(run) as page:
        images = page.server.album.images
        starts, (path,) = images.shards.offsets.tolist(), images.shards.files
        data = bytearray(path.read_bytes())
        data[starts[0]] ^= 255  # its first byte
        data[starts[1] + 60] ^= 255  # its pixels
        path.write_bytes(data)
        assert [page.ask(f"image/{at}")[0] for at in (0, 1, 2)] == [404, 200, 200]
        monkeypatch.setattr("figment.look.album.SMALL", 10)
        assert [page.ask(f"thumbnail/{at}")[0] for at in (0, 1, 2)] == [404, 409, 200]
    assert "Traceback" not in capfd.readouterr().err

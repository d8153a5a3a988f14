"""Where shards are worked on makes no difference to what comes out, and neither does a worker's death."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from PIL import Image

from figment import files
from figment.cli.options import make_engine
from figment.engines import Local
from figment.engines import local as local_engine
from figment.engines.ray import Ray, _most, _places, _share
from figment.errors import FigmentError
from figment.generate.fill import Work, generate_images
from figment.images_in import open_images
from figment.recipe import validate
from figment.run import make_images
from folders import rows, shard_files
from workers import (
    NAMES,
    PROMPTS,
    Deadly,
    Elsewhere,
    Hiccup,
    Locked,
    Poisoned,
    Refusing,
    Slow,
    Started,
    broken_job,
    die_once,
    environment,
    make,
    stillborn,
)

pytestmark = pytest.mark.slow

REPO = Path(__file__).parents[2]


def seed_in(rows: list[dict], shard: int) -> int:
    """The seed of a sample in the middle of a shard."""
    return rows[16 * shard + 8]["seed"]


def workers_left() -> list[psutil.Process]:
    """Child processes that compute; Python's own resource tracker stays until the end."""
    return [p for p in psutil.Process().children() if "spawn_main" in " ".join(p.cmdline())]


@pytest.fixture(scope="module")
def expected(tmp_path_factory) -> list[dict]:
    """The rows that one process makes: 5 shards of 16."""
    folder = tmp_path_factory.mktemp("whole")
    make(folder)
    return rows(folder)


@pytest.fixture(scope="module")
def cluster(s3_server):
    """A Ray of this machine with two slots, to which this process belongs; workers know the way to the test's S3."""
    ray = pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_worker_niceness", "0")  # Ray's 15 starves its workers on a busy machine
        ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        yield ray.get_runtime_context().gcs_address
        ray.shutdown()


@pytest.fixture(params=["local", "ray"])
def engine(request):
    """Two workers, of either kind."""
    if request.param == "local":
        return Local(2)
    request.getfixturevalue("cluster")
    return Ray(2)


# ---- the same rows ---------------------------------------------------------------------------------------------------


def test_two_workers_make_the_rows_of_one_process(engine, tmp_path, expected):
    made = make(tmp_path, engine)
    assert rows(tmp_path) == expected
    assert len(made) == 80 and not files.leftovers(tmp_path)


def test_two_workers_start_from_the_same_real_images(engine, tmp_path):
    for i, tone in enumerate((250, 200, 30, 60, 90)):
        folder = tmp_path / "shots" / NAMES[i > 1]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 33), (tone,) * 3).save(folder / f"{i}.png")
    shots = open_images(tmp_path / "shots", NAMES)
    for name, own in (("one", None), ("two", engine)):
        generate_images(
            PROMPTS, Started(), tmp_path / name, NAMES, images_per_class=20, shard_size=16, engine=own, shots=shots
        )
    assert rows(tmp_path / "two") == rows(tmp_path / "one")
    assert {r["init"] for r in rows(tmp_path / "two")} == set(shots.ids)


def test_a_worker_killed_half_way_changes_nothing(engine, tmp_path, expected, capsys):
    mark = tmp_path / "mark"
    make(tmp_path / "made", engine, Deadly(seed_in(expected, 2), mark))
    assert mark.exists()
    assert rows(tmp_path / "made") == expected
    assert "a worker died at shard 2" in capsys.readouterr().out


def test_a_device_that_fails_costs_a_worker_and_no_image(engine, tmp_path, expected, capsys):
    make(tmp_path / "made", engine, Poisoned(seed_in(expected, 2), tmp_path / "mark"))
    assert rows(tmp_path / "made") == expected  # without an error in any row
    assert "died at shard 2 (The device failed: CUDA error: an illegal memory access" in capsys.readouterr().out


def test_a_device_that_fails_without_workers_ends_the_run_and_spoils_nothing(tmp_path, expected):
    broken = Poisoned(seed_in(expected, 2), tmp_path / "mark")
    with pytest.raises(FigmentError, match="^The device failed: CUDA error: .*same command again") as caught:
        make(tmp_path / "made", Local(1), broken)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "made/stage.json").exists()
    assert rows(tmp_path / "made") == expected[: 2 * 16]  # the shards before
    make(tmp_path / "made", Local(1))
    assert rows(tmp_path / "made") == expected


def test_a_worker_killed_from_outside_changes_nothing(tmp_path, expected):
    done = []

    def kill_one() -> None:
        while not (workers := workers_left()):
            time.sleep(0.01)
        time.sleep(0.3)
        workers[0].kill()
        done.append(workers[0].pid)

    thread = threading.Thread(target=kill_one)
    thread.start()
    make(tmp_path, Local(2), Slow(), n=40)
    thread.join()
    assert done and rows(tmp_path) == expected


def test_a_diffusion_model_makes_the_same_images_in_two_processes(tmp_path, sd15, cluster):
    """Of Ray's: `tests/generate/test_finetune.py` has it with Local(2), and a LoRA of each class."""
    from figment.generate.diffusers import DiffusersGenerator

    def generator() -> DiffusersGenerator:
        return DiffusersGenerator(model=str(sd15), num_inference_steps=4, dtype="float32", batch_size=8)

    make(tmp_path / "one", None, generator(), n=16)
    make(tmp_path / "two", Ray(2), generator(), n=16)
    assert rows(tmp_path / "two") == rows(tmp_path / "one")
    assert not any(row["error"] for row in rows(tmp_path / "two"))


def test_rows_that_failed_are_made_again_by_workers(engine, tmp_path, expected):
    make(tmp_path, engine, Hiccup(seed_in(expected, 3)))
    assert sum(bool(row["error"]) for row in rows(tmp_path)) == 1
    make(tmp_path, engine)
    assert rows(tmp_path) == expected
    assert str(Work(3, (8,))) == "shard 3 (1 rows of it)"


# ---- errors ----------------------------------------------------------------------------------------------------------


def test_work_that_kills_every_worker_ends_in_one_paragraph(engine, tmp_path, expected):
    with pytest.raises(FigmentError, match="3 workers, one after another, died at shard 2; .*memory") as caught:
        make(tmp_path, engine, Deadly(seed_in(expected, 2)))
    assert len(shard_files(tmp_path)) == 4  # all others
    if isinstance(engine, Local):
        assert "Killed, signal 9" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not workers_left()
    make(tmp_path, engine)  # what was finished before is not lost, and the rest can be made
    assert rows(tmp_path) == expected


def test_an_error_for_the_user_arrives_as_it_is(engine, tmp_path):
    with pytest.raises(FigmentError, match="^No images today[.]$"):
        make(tmp_path, engine, Refusing(FigmentError("No images today.")))
    assert not workers_left()


def test_a_job_that_cannot_be_loaded_in_a_worker_says_why_at_once(engine, tmp_path, capsys):
    with pytest.raises(FigmentError, match="^The model is another one here[.]$"):
        make(tmp_path, engine, Elsewhere())
    assert "died" not in capsys.readouterr().out


def test_any_other_error_costs_the_piece_and_is_said_at_the_end_with_its_traceback(engine):
    found = {}
    with pytest.raises(
        FigmentError, match="1 of 3 .* given up: bad: RuntimeError: TwoPartError: lost at sea"
    ) as caught:
        for piece, value in engine(broken_job, ["a", "bad", "c"], lambda n: None):
            found[piece] = value
    assert found == {"a": "A", "c": "C"}
    assert "in broken_job" in "".join(caught.value.__cause__.__notes__)
    assert not workers_left()


def test_a_generator_that_cannot_travel_is_said_before_anything_starts(engine, tmp_path):
    with pytest.raises(FigmentError, match="cannot be sent to another process.*must survive pickle"):
        make(tmp_path, engine, Locked())
    assert not workers_left()


def test_workers_that_cannot_start_are_not_started_for_ever(monkeypatch):
    monkeypatch.setattr(local_engine, "_serve", stillborn)
    with pytest.raises(FigmentError, match="3 workers, .* died while starting; the last one: exit status 3"):
        list(Local(2)(broken_job, ["a", "b"], lambda n: None))
    assert not workers_left()


def test_an_abandoned_loop_leaves_no_worker():
    loop = Local(2)(broken_job, ["a", "b", "c"], lambda n: None)
    next(loop)
    loop.close()
    assert not workers_left()


# ---- progress and the machine ----------------------------------------------------------------------------------------


def test_progress_is_the_sum_of_what_jobs_report_also_after_a_death(engine, tmp_path):
    units: list[int] = []
    found = dict(engine(die_once, [str(tmp_path / "mark"), "b", "c"], units.append))
    assert sum(units) == 15
    assert found["b"] == "B"


def test_each_local_worker_has_a_gpu_to_itself_and_computes_as_its_parent_does(monkeypatch):
    import torch

    monkeypatch.setattr(local_engine, "_gpus", lambda: ["5", "7"])
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    found = {value for _, value in Local(2)(environment, range(4), lambda n: None)}
    threads = str(torch.get_num_threads())
    assert found == {("5", threads, False), ("7", threads, False)}
    assert "OMP_NUM_THREADS" not in os.environ and "CUDA_VISIBLE_DEVICES" not in os.environ
    assert [e["CUDA_VISIBLE_DEVICES"] for e in local_engine._environments(3)] == ["5", "7", "5"]


def shares(resources: dict[str, float], workers: int | None = None, gpus: float | None = None) -> tuple[int, dict]:
    share = _share(resources, workers, gpus)
    return workers or _places(resources, share), share


def test_ray_actors_take_whole_gpus_and_share_them_only_if_asked_to():
    assert shares({"GPU": 8.0, "CPU": 64.0}) == (8, {"num_gpus": 1, "num_cpus": 1})
    assert shares({"GPU": 2.0, "CPU": 64.0}, 3) == (3, {"num_gpus": 0.5, "num_cpus": 1})
    assert shares({"CPU": 2.0}) == (2, {"num_cpus": 1})
    assert shares({"CPU": 2.0}, 1) == (1, {"num_cpus": 1})
    assert shares({"GPU": 8.0, "CPU": 64.0}, gpus=0.25) == (32, {"num_gpus": 0.25, "num_cpus": 1})
    assert shares({"GPU": 8.0, "CPU": 64.0}, gpus=0) == (64, {"num_cpus": 1})


def test_a_cluster_without_gpus_yet_is_asked_for_them():
    """They come because somebody waits for them, where an autoscaler starts from none."""
    assert shares({"CPU": 4.0}, 64, gpus=1) == (64, {"num_gpus": 1, "num_cpus": 1})
    assert shares({"CPU": 4.0}, gpus=1) == (1, {"num_gpus": 1, "num_cpus": 1})
    assert shares({"GPU": float(sys.maxsize)}) == (1_024, {"num_gpus": 1, "num_cpus": 1})


def test_what_an_autoscaler_may_grow_to_counts(monkeypatch):
    """As Ray's own autoscaler protocol tells it, where one does."""
    ray = pytest.importorskip("ray")
    from ray.core.generated import autoscaler_pb2

    group = autoscaler_pb2.NodeGroupConfig(resources={"CPU": 8, "GPU": 4}, max_count=16)
    config = autoscaler_pb2.ClusterConfig(node_group_configs=[group])
    monkeypatch.setattr("ray._private.state.state.get_cluster_config", lambda: config)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2.0, "memory": 1e9})
    assert shares(_most(ray)) == (64, {"num_gpus": 1, "num_cpus": 1})
    monkeypatch.setattr("ray._private.state.state.get_cluster_config", lambda: None)
    assert shares(_most(ray)) == (2, {"num_cpus": 1})


def test_a_ray_actor_computes_as_the_driver_does(cluster):
    import torch

    threads = str(torch.get_num_threads())
    assert {value for _, value in Ray()(environment, range(2), lambda n: None)} == {(None, threads, False)}


def test_what_was_allowed_here_needs_no_word_there(engine, tmp_path, monkeypatch):
    """A plug-in runs in workers too."""
    (tmp_path / "own_stripes.py").write_text("from figment.generate.procedural import ProceduralGenerator as Own")
    monkeypatch.syspath_prepend(tmp_path)
    generate = {"kind": "own_stripes:Own", "images_per_class": 4, "shard_size": 4, "options": {"height": 8, "width": 8}}
    own = validate({"task": {"class_names": ["a", "b"]}, "prompts": {"kind": "templates"}, "generate": generate}, "it")
    made = make_images(own, tmp_path / "out", engine=engine, allow_plugins=True)
    assert len(rows(made)) == 8


# ---- storage that is not a disk --------------------------------------------------------------------------------------


def test_workers_write_to_object_storage(engine, s3, expected):
    made = make(f"{s3}/run/images", engine)
    assert rows(f"{s3}/run/images") == expected
    assert made.load([0])[0].shape == (32, 32, 3)


# ---- whole processes -------------------------------------------------------------------------------------------------


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from figment.engines import Local
from figment.engines.ray import Ray
from figment.files import lock
from workers import Slow, make
if __name__ == "__main__":
    with lock(Path(sys.argv[1])):
        make(sys.argv[1], {engine}, Slow())
"""


def start(tmp_path: Path, engine: str, **environment: str) -> subprocess.Popen[str]:
    """A process that makes the images in ``tmp_path / "made"``."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(tests=str(REPO / "tests"), engine=engine))
    return subprocess.Popen(
        [sys.executable, script, tmp_path / "made"],
        env={**os.environ, "PYTHONPATH": str(REPO / "src"), "RAY_worker_niceness": "0", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Who runs the tests in the background of a shell has Ctrl-C ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def test_ray_is_quiet_and_ends_the_cluster_it_started(tmp_path, expected):
    process, seen = start(tmp_path, "Ray(2)", RAY_ADDRESS=""), set()
    while process.poll() is None:
        seen |= set(psutil.Process(process.pid).children(recursive=True))
        time.sleep(0.1)
    out, err = process.communicate()
    assert (process.returncode, err) == (0, "") and rows(tmp_path / "made") == expected
    assert "generate: 80 images" in out and all(line.startswith("  generate:") for line in out.splitlines())
    assert len(seen) > 4  # Ray's own processes and the workers
    assert not psutil.wait_procs(seen, timeout=10)[1]


def test_ray_leaves_a_cluster_it_joined_running(cluster, tmp_path, expected):
    import ray

    process = start(tmp_path, "Ray()", RAY_ADDRESS=cluster)
    assert process.communicate()[1] == "" and rows(tmp_path / "made") == expected
    assert ray.cluster_resources()["CPU"] == 2.0
    assert ray.get(ray.remote(lambda text: len(text)).remote("abc")) == 3


def test_a_ray_cluster_that_is_not_there_is_said_at_once(monkeypatch):
    script = "from figment.engines.ray import Ray; print(list(Ray(address='127.0.0.1:1')(len, ['a'], print)))"
    monkeypatch.setenv("PYTHONPATH", str(REPO / "src"))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30)
    assert "FigmentError: The Ray cluster 127.0.0.1:1 cannot be joined" in done.stderr


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_workers_end_with_their_parent_and_no_lock_is_left(tmp_path, how):
    process = start(tmp_path, "Local(2)")
    driver = psutil.Process(process.pid)
    deadline = time.monotonic() + 60
    while not shard_files(tmp_path / "made") and time.monotonic() < deadline:
        time.sleep(0.02)
    children = [p for p in driver.children() if "spawn_main" in " ".join(p.cmdline())]
    assert len(children) == 2
    with pytest.raises(FigmentError, match="Another figment is working"), files.lock(tmp_path / "made"):
        pass
    driver.send_signal(how)
    error = process.communicate()[1]
    with files.lock(tmp_path / "made"):  # at once: no child holds on to it
        alive = psutil.wait_procs(children, timeout=5)[1]
    assert not alive
    assert error.count("Traceback") == (1 if how == signal.SIGINT else 0)  # the workers have nothing to say


def test_a_gpu_and_a_half_is_told_at_once():
    with pytest.raises(FigmentError, match=r"--gpus is 1\.5: Ray shares one GPU or gives whole ones"):
        make_engine("ray", None, None, 1.5)

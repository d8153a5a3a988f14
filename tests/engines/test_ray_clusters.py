"""A Ray cluster that starts from no GPU, whose autoscaler adds and ends machines (of Ray's own, pretended on this one); and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from figment import files
from figment.engines.ray import Ray, _ray
from figment.errors import FigmentError
from folders import rows
from workers import make

pytestmark = pytest.mark.slow

REPO = Path(__file__).parents[2]
TOKEN = "0" * 64  # where there is one, `ray start` asks for it (2.60); nobody needs to say RAY_AUTH_MODE=token
HEAD = "f" * 51 + "0" * 5  # the id that Ray's pretended machines expect of the one they start from


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """A head with one core and no GPU, which asks for a token, that may have two machines with a GPU each, and ends those that idle for three seconds.

    Not by :class:`ray.cluster_utils.AutoscalingCluster`, which ends every Ray on this machine, and wants a file that the wheel lacks.
    """
    ray = pytest.importorskip("ray")
    folder = Path(tempfile.mkdtemp(prefix="ray-"))  # a short path, since sockets are in it
    ip, port = ray.util.get_node_ip_address(), free_port()
    machines = {
        "ray.head.default": {"resources": {"CPU": 1}, "node_config": {}, "max_workers": 0},
        "gpu": {"resources": {"CPU": 1, "GPU": 1}, "node_config": {}, "max_workers": 2},
    }
    provider = {
        "type": "external",
        "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
        "gcs_address": f"{ip}:{port}",
        "head_node_id": HEAD,
        "launch_multiple": True,
        "use_node_id_as_ip": True,
        "disable_node_updaters": True,
        "disable_launch_config_check": True,
        "foreground_node_launch": True,
    }
    config = {
        "cluster_name": "pretended",
        "provider": provider,
        "max_workers": 2,
        "idle_timeout_minutes": 0.05,
        "available_node_types": machines,
        "head_node_type": "ray.head.default",
        **{key: {} for key in ("auth", "docker", "file_mounts")},
        **{key: [] for key in ("cluster_synced_files", "rsync_exclude", "rsync_filter", "initialization_commands")},
        **{f"{who}setup_commands": [] for who in ("", "head_", "worker_")},
        **{f"{who}_start_ray_commands": [] for who in ("head", "worker")},
        "upscaling_speed": 1.0,
    }
    (folder / "config.yaml").write_text(json.dumps(config))
    options = {
        "port": port,
        "ray-client-server-port": free_port(),
        "num-cpus": 1,
        "num-gpus": 0,
        "min-worker-port": 0,  # any
        "max-worker-port": 0,
        "dashboard-agent-listen-port": 0,
        "include-dashboard": "false",
        "object-store-memory": 80_000_000,
        "temp-dir": folder,
        "autoscaling-config": folder / "config.yaml",
    }
    environment = environ(
        RAY_FAKE_CLUSTER="1",
        RAY_enable_autoscaler_v2="1",
        RAY_CLOUD_INSTANCE_ID=HEAD,
        RAY_OVERRIDE_NODE_ID_FOR_TESTING=HEAD,
        RAY_USAGE_STATS_ENABLED="0",
        AUTOSCALER_UPDATE_INTERVAL_S="1",
    )
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
    with (folder / "said").open("w") as said:
        head = subprocess.Popen(
            [*command, *(f"--{name}={value}" for name, value in options.items())],
            env=environment,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        until(lambda: "Ray runtime started" in (folder / "said").read_text() or head.poll() is not None)
        assert head.poll() is None, (folder / "said").read_text()
        yield f"{ip}:{port}"
    finally:
        # With what a machine that left had started, which is nobody's child any more.
        os.killpg(head.pid, signal.SIGKILL)
        head.wait()
        shutil.rmtree(folder)


def environ(**more: str) -> dict[str, str]:
    """With the tests' modules at hand, no word of another cluster, its token, and workers that a busy machine does not starve."""
    own = {name: value for name, value in os.environ.items() if name not in ("RAY_ADDRESS", "RAY_AUTH_MODE")}
    return {
        **own,
        "RAY_AUTH_TOKEN": TOKEN,
        "PYTHONPATH": f"{REPO / 'src'}:{REPO / 'tests'}",
        "RAY_worker_niceness": "0",
        **more,
    }


def free_port() -> int:
    with socket.create_server(("", 0)) as own:
        return own.getsockname()[1]


def until(there, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < deadline, f"still not so after {seconds:.0f} s"
        time.sleep(0.1)


def python(code: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """A process of its own, since another test's may belong to another cluster."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, env=environ(**environment), capture_output=True, text=True, timeout=120)


FROM_NOTHING = """
import sys, time
from pathlib import Path
from figment.engines.ray import Ray, _ray
from workers import OnTwoMachines, make

address, folder, notes, seed = sys.argv[1], *map(Path, sys.argv[2:4]), int(sys.argv[4])
ray = _ray()
ray.init(address, log_to_driver=False, logging_level="ERROR")

def without_gpus():
    deadline = time.monotonic() + 60
    while ray.cluster_resources().get("GPU"):
        assert time.monotonic() < deadline
        time.sleep(0.2)

without_gpus()
make(folder, Ray(gpus=1), OnTwoMachines(notes, seed))
without_gpus()
print("all have left")
"""


def test_a_cluster_from_no_gpu_gets_machines_while_they_have_work(cluster, tmp_path):
    """The second is asked for by whoever waits; the one that leaves costs its shard and is replaced; all are let go at the end."""
    make(tmp_path / "one")
    expected = rows(tmp_path / "one")
    (notes := tmp_path / "notes").mkdir()
    done = python(FROM_NOTHING, cluster, tmp_path / "made", notes, expected[2 * 16 + 8]["seed"])
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "all have left"
    assert rows(tmp_path / "made") == expected and not files.leftovers(tmp_path / "made")
    nodes = {note.name for note in notes.iterdir()} - {"left"}
    assert len(nodes) >= 2 and {gpu for _, gpu in map(str.split, nodes)} == {"0"}


@pytest.mark.parametrize(("address", "said"), [("127.0.0.1:1", "Connection refused"), ("127.0.0.1", "no port in it")])
def test_a_client_server_that_is_not_there_is_said_at_once(address, said):
    pytest.importorskip("ray")
    pytest.importorskip("grpc", reason="ray:// needs grpcio, of the extra ray")
    with pytest.raises(FigmentError, match=f"^The Ray cluster ray://{address} cannot be joined: .*{said}.* port 10001"):
        list(Ray(address=f"ray://{address}")(len, ["a"], print))


def test_a_token_is_sent_where_there_is_one_and_nobody_said_otherwise(monkeypatch, tmp_path):
    pytest.importorskip("ray")
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        monkeypatch.setenv(name, "")  # so that what is set below is taken back
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    _ray()
    assert "RAY_AUTH_MODE" not in os.environ
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text(TOKEN)
    _ray()
    assert os.environ["RAY_AUTH_MODE"] == "token"
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    _ray()
    assert os.environ["RAY_AUTH_MODE"] == "disabled"


def test_ray_without_its_client_names_the_extra(monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FigmentError, match=r"'grpcio', .* pip install 'figment-vision\[ray\]'"):
        list(Ray(address="ray://127.0.0.1:1")(len, ["a"], print))

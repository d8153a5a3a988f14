"""A Ray cluster that starts from no GPU, whose autoscaler adds and ends machines (of Ray's own, pretended on this one); and ray://."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from figment import files
from figment.engines.ray import Ray
from figment.errors import FigmentError
from figment.recipe import load_recipe
from figment.run import make_images
from folders import rows
from workers import make

pytestmark = pytest.mark.slow

REPO = Path(__file__).parents[2]
HEAD = "f" * 51 + "0" * 5  # the id that Ray's pretended machines expect of the one they start from


class Cluster(NamedTuple):
    address: str
    client: str  # its ray:// address


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head with one core and no GPU, that may have two machines with a GPU each, and ends those that idle for three seconds.

    Not by :class:`ray.cluster_utils.AutoscalingCluster`, which ends every Ray on this machine, and wants a file that the wheel lacks.
    """
    ray = pytest.importorskip("ray")
    pytest.importorskip("grpc", reason="ray:// and its server need grpcio, of the extra ray")
    folder = Path(tempfile.mkdtemp(prefix="ray-"))  # a short path, since sockets are in it
    ip, (port, client) = ray.util.get_node_ip_address(), free_ports(2)
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
        "ray-client-server-port": client,
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
        yield Cluster(f"{ip}:{port}", f"ray://{ip}:{client}")
    finally:
        # With what a machine that left had started, which is nobody's child any more.
        os.killpg(head.pid, signal.SIGKILL)
        head.wait()
        shutil.rmtree(folder)


def environ(**more: str) -> dict[str, str]:
    """With the tests' modules at hand, no word of another cluster, and workers that a busy machine does not starve."""
    own = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return {**own, "PYTHONPATH": f"{REPO / 'src'}:{REPO / 'tests'}", "RAY_worker_niceness": "0", **more}


def free_ports(n: int) -> list[int]:
    sockets = [socket.create_server(("", 0)) for _ in range(n)]
    ports = [own.getsockname()[1] for own in sockets]
    for own in sockets:
        own.close()
    return ports


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
import grpc, ray
from ray.core.generated import autoscaler_pb2 as said, autoscaler_pb2_grpc
from figment.engines.ray import Ray, _most, _share
from workers import OnTwoMachines, make

address, folder, notes, seed = sys.argv[1], *map(Path, sys.argv[2:4]), int(sys.argv[4])
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
group = said.NodeGroupConfig(resources={"CPU": 1, "GPU": 1}, max_count=2)
with grpc.insecure_channel(address) as channel:  # as an autoscaler does that tells what it may add
    stub = autoscaler_pb2_grpc.AutoscalerStateServiceStub(channel)
    stub.ReportClusterConfig(said.ReportClusterConfigRequest(cluster_config=said.ClusterConfig(node_group_configs=[group])))
print(_share(_most(ray), None, None))
"""


def test_a_cluster_from_no_gpu_gets_machines_while_they_have_work(cluster, tmp_path):
    """The second is asked for by whoever waits; the one that leaves costs its shard and is replaced; all are let go at the end."""
    make(tmp_path / "one")
    expected = rows(tmp_path / "one")
    (notes := tmp_path / "notes").mkdir()
    done = python(FROM_NOTHING, cluster.address, tmp_path / "made", notes, expected[2 * 16 + 8]["seed"])
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == ["all have left", "{'num_gpus': 1.0, 'num_cpus': 1}"]
    assert rows(tmp_path / "made") == expected and not files.leftovers(tmp_path / "made")
    nodes = {note.name for note in notes.iterdir()} - {"left"}
    assert len(nodes) >= 2 and {gpu for _, gpu in map(str.split, nodes)} == {"0"}


VISIT = """
import sys
import ray
from figment.cli import main

address, recipe, out = sys.argv[1:]
sys.argv = ["figment", "generate", recipe, "--out", out, "--engine", "ray", "--address", address, "--gpus", "0"]
version, ray.__version__ = ray.__version__, "2.9.0"
try:
    main()
except SystemExit as end:
    print("another Ray:", end.code, flush=True)
ray.__version__ = version
main()
"""


def test_the_command_line_makes_images_from_outside_the_cluster(cluster, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    generate = "{kind: procedural, images_per_class: 8, shard_size: 4, height: 16, width: 16}"
    recipe.write_text(f"task: {{class_names: [bag, sandal]}}\nprompts: {{kind: templates}}\ngenerate: {generate}\n")
    make_images(load_recipe(recipe), tmp_path / "here")
    done = python(VISIT, cluster.client, recipe, tmp_path / "there")
    for late in ("Starting Ray client server failed", "ray client connection timeout"):
        if late in done.stdout:  # its own half a minute is over
            pytest.skip(f"Ray's client server does not answer in time on a machine this busy: {late}")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout  # of Ray itself no word
    error, code, *_ = done.stdout.splitlines()
    said = "Error: The Ray cluster ray://.* cannot be joined: Version mismatch: .* Ray: 2[.]9[.]0 .* the same Ray and Python .*[.]"
    assert re.fullmatch(said, error) and code == "another Ray: 2"
    assert rows(tmp_path / "there/images") == rows(tmp_path / "here/images")


@pytest.mark.parametrize(("address", "said"), [("127.0.0.1:1", "Connection refused"), ("127.0.0.1", "no port in it")])
def test_a_client_server_that_is_not_there_is_said_at_once(address, said):
    pytest.importorskip("ray")
    pytest.importorskip("grpc", reason="ray:// needs grpcio, of the extra ray")
    with pytest.raises(FigmentError, match=f"^The Ray cluster ray://{address} cannot be joined: .*{said}.* port 10001"):
        list(Ray(address=f"ray://{address}")(len, ["a"], print))


def test_ray_without_its_client_names_the_extra(monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FigmentError, match=r"'grpcio', .* pip install 'figment-vision\[ray\]'"):
        list(Ray(address="ray://127.0.0.1:1")(len, ["a"], print))

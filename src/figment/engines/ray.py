"""A Ray cluster: one actor for each GPU, or for each core where there are no GPUs."""

from __future__ import annotations

import importlib.util
import logging
import os
import pickle
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from figment.engines.behind import Later, ended
from figment.engines.crew import Event, work_on
from figment.engines.local import same_arithmetic
from figment.engines.sending import pickled, portable
from figment.errors import DeviceFailed, FigmentError, missing_extra
from figment.files import AGAIN
from figment.words import one_line

log = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")

MOST = 1_024  # actors that nobody asked for by number: some autoscalers know no end
PATIENCE = (
    30.0  # seconds without news before it is said where the cluster has no free place, and between looks at its size
)

TOKEN = (
    "If the cluster was started with a token, it must be here too: in RAY_AUTH_TOKEN, or ~/.ray/auth_token of the head."
)
JOINS = (
    "Check --address and RAY_ADDRESS with `ray status`: HOST:PORT, as `ray start` says it, and the same Ray and Python here as there."
    f" {TOKEN}"
)
VISITS = (
    "ray://HOST:PORT is Ray's client server: port 10001, unless `ray start --ray-client-server-port` was given another, and the same Ray"
    f" and Python here as there. {TOKEN}"
)


class Ray:
    """``workers`` actors, by default as many as the cluster has GPUs or can have, or cores where there are to be no GPUs.

    ``address`` is that of a cluster; by default RAY_ADDRESS, or the cluster this machine belongs to (``ray start``), or
    else one that is started here and ended with the work. ``gpus`` is what an actor asks for: 0 for none; by default a whole
    one, or an equal part where there are more workers. Nodes may come and go meanwhile: places that are new get workers.
    """

    def __init__(self, workers: int | None = None, address: str | None = None, gpus: float | None = None):
        self.workers, self.address, self.gpus = workers, address, gpus

    def __call__(
        self, job: Callable[[T, Callable[[int], None]], R | Later[R]], work: Sequence[T], advance: Callable[[int], Any]
    ) -> Iterator[tuple[T, R]]:
        if not work:
            return
        ray = _ray()
        with _cluster(ray, self.address):
            crew = _Actors(ray, pickled(job, ray.cloudpickle.dumps), self.workers, self.gpus)
            try:
                yield from work_on(crew, work, advance)
            finally:
                crew.end()


class _Actors:
    """The actors of a run, those that wait for a place among them."""

    spread = True

    def __init__(self, ray: Any, job: bytes, workers: int | None, gpus: float | None):
        self.ray, self.job, self.workers = ray, ray.put(job), workers
        self.share = _share(_most(ray), workers, gpus)
        self.actor = ray.remote(max_restarts=0, runtime_env={"env_vars": same_arithmetic()}, **self.share)(_Worker)
        self.hired: dict[int, Any] = {}  # number -> actor
        self.nodes: dict[int, str] = {}  # number -> the node that it is on
        self.told: dict[int, Callable[[int], Any]] = {}  # number -> who is told of its progress
        self.awaited: dict[Any, int] = {}  # what is to come of it -> number
        self.n, self.looked = 0, -PATIENCE
        self.count = 0

    def places(self) -> int:
        """As many as were asked for. Otherwise as the cluster has or can have, which is looked at now and then.

        Hardly any autoscaler tells how far it goes, but all add nodes for those who wait: so as many wait as have a place already.
        """
        if self.workers:
            return self.workers
        if time.monotonic() - self.looked >= PATIENCE:
            self.n, self.looked = _places(_most(self.ray), self.share), time.monotonic()
        return min(MOST, max(self.n, 2 * len(self.hired.keys() & self.nodes.keys())))

    def hire(self) -> int:
        actor, number = self.actor.remote(), self.count
        self.count += 1
        self.hired[number] = actor
        self.awaited[actor.start.remote(sys.path, self.job)] = number
        return number

    def give(self, worker: Any, piece: Any, advance: Callable[[int], Any]) -> None:
        self.told[worker] = advance
        self.awaited[self.hired[worker].do.remote(piece)] = worker

    def dismiss(self, worker: Any) -> None:
        self.ray.kill(self.hired.pop(worker))
        self.awaited = {reference: own for reference, own in self.awaited.items() if own != worker}

    def event(self, timeout: float | None) -> Event | None:
        """What any actor says. Those that find no place in a busy cluster do not keep the others from working."""
        wait = PATIENCE if timeout is None else min(timeout, PATIENCE)
        if not self.awaited:
            time.sleep(wait)
            return None
        done, _ = self.ray.wait(list(self.awaited), timeout=wait)
        if not done:
            if timeout is None and not self.nodes:
                log.info(f"waiting for a free place in the Ray cluster, for {self.share} each")
            return None
        worker = self.awaited.pop(done[0])
        try:
            kind, value, units = self.ray.get(done[0])
        except self.ray.exceptions.RayError as error:  # it died, or its node did
            self.dismiss(worker)
            how = str(error).partition("\n")[0].rstrip(".")  # what follows is long
            return Event(worker, "gone" if self._has_left(worker, error) else "lost", how)
        if kind == "ready":
            self.nodes[worker] = value
            return Event(worker, kind)
        if kind == "lost":
            self.dismiss(worker)
        elif kind == "done":
            self.told[worker](units)
        return Event(worker, kind, value)

    def _has_left(self, worker: int, error: Exception) -> bool:
        """Whether a dead worker's node is no part of the cluster any more, or was about to leave."""
        alive = {node["NodeID"] for node in self.ray.nodes() if node["Alive"]}
        return getattr(error, "preempted", False) or self.nodes.get(worker, "") not in {"", *alive}

    def end(self) -> None:
        """Raises FigmentError where a connection by ray:// is lost, whatever error that was before."""
        try:
            if not self.ray.is_initialized():  # it is known already, and kill would join or start another cluster
                raise ConnectionError
            for actor in self.hired.values():
                self.ray.kill(actor)
        except ConnectionError as error:  # after half a minute, in which Ray tried to have it again
            raise FigmentError(
                f"The connection to the Ray cluster was lost, and its workers ended with it. {AGAIN} What is started on the cluster itself"
                " (`ray job submit`) has no connection to lose."
            ) from error


class _Worker:
    """What an actor is. Ray pins it to its GPU before it loads the job."""

    def start(self, path: list[str], job: bytes) -> tuple[str, Any, int]:
        """Load the job, and say on which node. ``path`` is where the driver finds its modules: on its own machine they are found here
        too."""
        sys.path += [folder for folder in path if folder not in sys.path]
        try:
            self.job = pickle.loads(job)
            return "ready", _ray().get_runtime_context().get_node_id(), 0
        except Exception as error:
            return "failed", portable(error), 0

    def do(self, piece: Any) -> tuple[str, Any, int]:
        """What happened, the result or the error, and how many units of progress were reported."""
        units: list[int] = []
        try:
            return "done", ended(self.job(piece, units.append)), sum(units)
        except DeviceFailed as error:
            return "lost", str(error).partition(". ")[0], 0
        except Exception as error:
            return "failed", portable(error), 0


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # otherwise Ray warns about it
    if _has_token():  # `ray start` asks for it then (2.60), and who joins sends it only if told; others do not mind
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    try:
        import ray
    except ImportError as error:
        raise missing_extra("ray", "ray") from error
    return ray


def _has_token() -> bool:
    """Whether there is a token where Ray looks for one."""
    if "RAY_AUTH_TOKEN" in os.environ or "RAY_AUTH_TOKEN_PATH" in os.environ:
        return True
    return (Path.home() / ".ray" / "auth_token").is_file()


@contextmanager
def _cluster(ray: Any, address: str | None) -> Iterator[None]:
    """Join a cluster or start one, and leave it as it was found."""
    if ray.is_initialized():
        yield
        return
    where = address or os.environ.get("RAY_ADDRESS", "")
    visits = where.startswith("ray://")
    # Through ray:// most of what can be said of a cluster is refused, since it was started elsewhere.
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR} | ({} if visits else {"include_dashboard": False})
    try:
        _knock(where)
        logging.getLogger("ray.client_builder").setLevel(logging.ERROR)  # it speaks before it hears of logging_level
        ray.init(address=address, **quiet)
    except (OSError, RuntimeError, ValueError) as error:
        said = str(error).strip()
        if "Traceback" in said:  # the other side's
            said = said.splitlines()[-1]
        raise FigmentError(
            f"The Ray cluster {where or 'of this machine'} cannot be joined: {one_line(said).rstrip('. ')}."
            f" {VISITS if visits else JOINS} --address local starts a cluster for this run alone."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()  # ends a cluster that was started here, and only leaves one that was joined


def _knock(address: str) -> None:
    """Raise OSError where nobody listens at ``host:port`` (Ray itself would try for many minutes), or ray:// has no port."""
    place = address.removeprefix("ray://")
    host, colon, port = place.rpartition(":")
    if place != address:
        if importlib.util.find_spec("grpc") is None:
            raise missing_extra("grpcio", "ray")
        if not port.isdecimal() or not host:
            raise OSError("there is no port in it")
    if colon and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def _most(ray: Any) -> dict[str, float]:
    """What the cluster has, or can have where an autoscaler adds nodes: resource -> number."""
    now = dict(ray.cluster_resources())
    try:
        from ray._private.state import state  # as Ray Train asks for it; not every autoscaler says

        most = state.get_max_resources_from_cluster_config() or {}
    except Exception:  # not through ray://, and the name is not public: then --workers and --gpus say it
        most = {}
    return now | {kind: max(n, now.get(kind, 0.0)) for kind, n in most.items()}


def _share(resources: dict[str, float], workers: int | None, gpus: float | None) -> dict[str, float]:
    """What part of the cluster each actor asks for: a whole GPU or core, unless there are more workers."""
    kind = "GPU" if (resources.get("GPU") if gpus is None else gpus) else "CPU"
    places = max(1, int(resources.get(kind, 0)))
    part = 1 / -(-(workers or places) // places)
    if kind == "CPU":
        return {"num_cpus": part}
    return {"num_gpus": part if gpus is None else gpus, "num_cpus": 1}


def _places(resources: dict[str, float], share: dict[str, float]) -> int:
    """How many actors of such a share there is room for, of GPUs where they ask for some: cores are not counted then."""
    kind, part = ("GPU", share["num_gpus"]) if "num_gpus" in share else ("CPU", share["num_cpus"])
    return min(MOST, max(1, int(resources.get(kind, 0) / part)))

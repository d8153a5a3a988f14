"""A Ray cluster: one actor for each GPU, or for each core where there are no GPUs."""

from __future__ import annotations

import logging
import os
import pickle
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from figment.engines.local import same_arithmetic
from figment.engines.todo import Todo, pickled, portable
from figment.errors import DeviceFailed, FigmentError, missing_extra

log = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")

PATIENCE = 30.0  # seconds without a free place in the cluster before it is said


class Ray:
    """``workers`` actors, by default as many as the cluster has GPUs, or cores where it has none.

    ``address`` is that of a cluster; by default RAY_ADDRESS, or the cluster this machine belongs to (``ray start``), or
    else one that is started here and ended with the work. With more workers than GPUs they share them.
    """

    def __init__(self, workers: int | None = None, address: str | None = None):
        self.workers, self.address = workers, address

    def __call__(
        self, job: Callable[[T, Callable[[int], None]], R], work: Sequence[T], advance: Callable[[int], Any]
    ) -> Iterator[tuple[T, R]]:
        if not work:
            return
        ray = _ray()
        with _cluster(ray, self.address):
            crew = _Crew(ray, pickled(job, ray.cloudpickle.dumps), *_share(ray.cluster_resources(), self.workers))
            try:
                yield from crew.work_on(work, advance)
            finally:
                crew.dismiss()


class _Crew:
    """The actors, and what each of them is at."""

    def __init__(self, ray: Any, job: bytes, n: int, share: dict[str, float]):
        self.ray, self.job, self.n = ray, ray.put(job), n
        self.actor = ray.remote(max_restarts=0, runtime_env={"env_vars": same_arithmetic()}, **share)(_Worker)
        self.hired: list[Any] = []
        self.busy: dict[Any, tuple[Any, int | None]] = {}  # what is awaited -> actor, piece; None: it starts

    def work_on(self, work: Sequence[Any], advance: Callable[[int], Any]) -> Iterator[tuple[Any, Any]]:
        todo, left = Todo(work), len(work)
        for _ in range(min(self.n, left)):
            self.hire()
        while left:
            reference = self.next_answer()
            actor, piece = self.busy.pop(reference)
            try:
                kind, value, units = self.ray.get(reference)
            except self.ray.exceptions.RayError as error:  # it died, or its node did
                kind, value, units = "lost", str(error).partition("\n")[0].rstrip("."), 0  # what follows is long
            if kind == "lost":
                self.ray.kill(actor)
                todo.lost(piece, value)
                self.hire()
                continue
            if kind == "failed":
                raise value
            self.give(actor, todo)
            if piece is not None:
                left -= 1
                advance(units)
                yield work[piece], value

    def hire(self) -> None:
        actor = self.actor.remote()
        self.hired.append(actor)
        self.busy[actor.start.remote(sys.path, self.job)] = actor, None

    def give(self, actor: Any, todo: Todo) -> None:
        piece = todo.take()
        if piece is None:
            self.ray.kill(actor)
        else:
            self.busy[actor.do.remote(todo.work[piece])] = actor, piece

    def next_answer(self) -> Any:
        """Wait for any actor. Those that find no place in a busy cluster do not keep the others from working."""
        references = list(self.busy)
        done, _ = self.ray.wait(references, timeout=PATIENCE)
        if not done and all(piece is None for _, piece in self.busy.values()):
            log.info(f"waiting for a free place in the Ray cluster: {self.ray.available_resources()}")
        return (done or self.ray.wait(references)[0])[0]

    def dismiss(self) -> None:
        for actor in self.hired:
            self.ray.kill(actor)


class _Worker:
    """What an actor is. Ray pins it to its GPU before it loads the job."""

    def start(self, path: list[str], job: bytes) -> tuple[str, Any, int]:
        """Load the job. ``path`` is where the driver finds its modules: on its own machine they are found here too."""
        sys.path += [folder for folder in path if folder not in sys.path]
        try:
            self.job = pickle.loads(job)
            return "ready", None, 0
        except Exception as error:
            return "failed", portable(error), 0

    def do(self, piece: Any) -> tuple[str, Any, int]:
        """What happened, the result or the error, and how many units of progress were reported."""
        units: list[int] = []
        try:
            return "done", self.job(piece, units.append), sum(units)
        except DeviceFailed as error:
            return "lost", str(error).partition(". ")[0], 0
        except Exception as error:
            return "failed", portable(error), 0


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # otherwise Ray warns about it
    try:
        import ray
    except ImportError as error:
        raise missing_extra("ray", "ray") from error
    return ray


@contextmanager
def _cluster(ray: Any, address: str | None) -> Iterator[None]:
    """Join a cluster or start one, and leave it as it was found."""
    if ray.is_initialized():
        yield
        return
    try:
        _knock(address or os.environ.get("RAY_ADDRESS", ""))
        ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError) as error:
        where = address or os.environ.get("RAY_ADDRESS") or "of this machine"
        raise FigmentError(
            f"The Ray cluster {where} cannot be joined: {str(error).rstrip('.')}. Check --address and RAY_ADDRESS with `ray status`;"
            " --address local starts a cluster for this run alone."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()  # ends a cluster that was started here, and only leaves one that was joined


def _knock(address: str) -> None:
    """Raise OSError where nobody listens at ``host:port`` (Ray itself would try for many minutes)."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def _share(resources: dict[str, float], workers: int | None) -> tuple[int, dict[str, float]]:
    """The number of actors, and what part of the cluster each of them asks for."""
    kind = "GPU" if resources.get("GPU") else "CPU"
    places = max(1, int(resources.get(kind, 1)))
    n = workers or places
    part = 1 / -(-n // places)  # of one GPU or core: all of it, unless there are more workers
    return n, {"num_gpus": part, "num_cpus": 1} if kind == "GPU" else {"num_cpus": part}

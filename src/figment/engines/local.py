"""This machine: in the process itself, or in one process a device."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from queue import SimpleQueue
from typing import Any, TypeVar

from figment.engines.todo import Todo, pickled, portable
from figment.errors import DeviceFailed

T = TypeVar("T")
R = TypeVar("R")

GRACE = 5.0  # seconds between the end of a worker's pipe and its own
THE_END = b""  # told to a worker that is no longer needed


class Local:
    """One piece after another in this process, or ``workers`` of them at a time, each in a process of its own.

    Worker i has the i-th GPU to itself; with more workers than GPUs they share them, and all share the CPU's cores.
    """

    def __init__(self, workers: int = 1):
        self.workers = workers

    def __call__(
        self, job: Callable[[T, Callable[[int], None]], R], work: Sequence[T], advance: Callable[[int], Any]
    ) -> Iterator[tuple[T, R]]:
        if self.workers > 1:
            yield from _in_workers(job, work, advance, self.workers)
            return
        for piece in work:
            yield piece, job(piece, advance)


# ---- the parent ------------------------------------------------------------------------------------------------------


def _in_workers(
    job: Callable[[T, Callable[[int], None]], R], work: Sequence[T], advance: Callable[[int], Any], n: int
) -> Iterator[tuple[T, R]]:
    data, todo, environments = pickled(job), Todo(work), _environments(n)
    workers: dict[Connection, _Worker] = {}
    leaving: list[_Worker] = []

    def start(environment: Mapping[str, str]) -> None:
        worker = _Worker(environment)
        workers[worker.pipe] = worker

    try:
        for environment in environments[: len(work)]:
            start(environment)
        while workers:
            for pipe in wait(list(workers)):
                worker = workers[pipe]  # type: ignore[index]
                try:
                    kind, value = worker.pipe.recv()
                except (EOFError, OSError):  # the pipe ends with the process, after all that it had sent
                    worker.process.join(GRACE)  # so that it is known how it ended
                    worker.stop()
                    del workers[worker.pipe]
                    advance(-worker.advanced)
                    todo.lost(worker.piece, worker.last_words or worker.how_it_ended())
                    start(worker.environment)
                    continue
                if kind == "failed":
                    raise value
                if kind == "lost":
                    worker.last_words = value  # and now it ends
                    continue
                if kind == "advance":
                    worker.advanced += value
                    advance(value)
                    continue
                if kind == "ready":
                    worker.send(data)
                done, worker.piece, worker.advanced = worker.piece, todo.take(), 0
                if worker.piece is not None:
                    worker.send(pickle.dumps(work[worker.piece]))
                else:
                    worker.send(THE_END)
                    leaving.append(workers.pop(worker.pipe))
                if done is not None:
                    yield work[done], value
        for worker in leaving:
            worker.process.join(GRACE)
    finally:
        for worker in [*workers.values(), *leaving]:
            worker.stop()


class _Worker:
    """A process, the pipe to it, the piece it is at, and how many units of that it has reported."""

    def __init__(self, environment: Mapping[str, str]):
        self.environment, self.advanced = environment, 0
        self.piece: int | None = None
        self.last_words = ""
        context = get_context("spawn")  # a fork of a process with threads or CUDA in it may hang
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs,), daemon=True)
        with _changed_environment(environment), _no_interrupts():
            self.process.start()
        theirs.close()

    def send(self, data: bytes) -> None:
        with suppress(OSError):  # of one that is dead, which its end of the pipe tells next
            self.pipe.send_bytes(data)

    def stop(self) -> None:
        self.process.kill()  # nothing that it does needs a farewell: shards are whole or not there
        self.process.join()
        self.pipe.close()

    def how_it_ended(self) -> str:
        code = self.process.exitcode or 0
        if code >= 0:
            return f"exit status {code}"
        return f"{signal.strsignal(-code)}, signal {-code}"


def _environments(n: int) -> list[dict[str, str]]:
    """What is different in each worker's environment. It holds from a worker's first moment: torch reads it when imported."""
    common, gpus = same_arithmetic(), _gpus()
    return [{**common, **({"CUDA_VISIBLE_DEVICES": gpus[i % len(gpus)]} if gpus else {})} for i in range(n)]


def same_arithmetic() -> dict[str, str]:
    """The environment in which a worker's CPU rounds as this process does: with as many threads.

    Sums are taken in another order with another number of threads, and about one value in a hundred thousand then becomes
    another grey level. Threads that sleep while they wait let several workers share the cores at no loss; spinning, as is
    the default, they would slow one another down several times.
    """
    torch = sys.modules.get("torch")
    threads = {} if torch is None else {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    return {"OMP_WAIT_POLICY": "PASSIVE", **threads}


def _gpus() -> list[str]:
    """The GPUs this process may use, as CUDA_VISIBLE_DEVICES names them. A job without torch in it needs none."""
    torch = sys.modules.get("torch")
    n = torch.cuda.device_count() if torch is not None else 0
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    return [str(i) for i in range(n)] if given is None else given.split(",")[:n]


@contextmanager
def _changed_environment(changes: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _no_interrupts() -> Iterator[None]:
    """Control-C reaches every process of a terminal. A worker started in here does not hear it; its parent stops it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# ---- a worker --------------------------------------------------------------------------------------------------------


def _serve(pipe: Connection) -> None:
    """Ask for work, do it, and say what came of it, until the parent has no more."""
    told: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_listen, args=(pipe, told), daemon=True).start()
    _say(pipe, "ready")
    try:
        job = pickle.loads(told.get())
        while (piece := told.get()) != THE_END:
            _say(pipe, "done", job(pickle.loads(piece), partial(_say, pipe, "advance")))
    except DeviceFailed as error:
        _say(pipe, "lost", str(error).partition(". ")[0])
    except Exception as error:
        _say(pipe, "failed", portable(error))


def _say(pipe: Connection, kind: str, value: Any = None) -> None:
    try:
        pipe.send((kind, value))
    except OSError:  # nobody is there any more
        os._exit(1)


def _listen(pipe: Connection, told: SimpleQueue[bytes]) -> None:
    """Pass on what the parent says. Its end, even by kill -9, ends this process in the middle of its work.

    Nobody else holds the other end of the pipe, nor has this process inherited the parent's lock on the folder: a run
    that is started again finds neither a lock nor somebody who still writes.
    """
    try:
        while True:
            told.put(pipe.recv_bytes())
    except (EOFError, OSError):
        os._exit(1)

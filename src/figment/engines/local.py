"""This machine: in the process itself, or in one process a device."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from figment.engines.behind import Bench, Later
from figment.engines.crew import Event, work_on
from figment.engines.sending import pickled, portable
from figment.errors import DeviceFailed

T = TypeVar("T")
R = TypeVar("R")

GRACE = 5.0  # seconds between the end of a worker's pipe and its own
THE_END = b""  # told to a worker that is no longer needed
SAYING = threading.Lock()  # a worker's two threads have one pipe


class Local:
    """One piece after another in this process, or ``workers`` of them at a time, each in a process of its own.

    Worker i has the i-th GPU to itself; with more workers than GPUs they share them, and all share the CPU's cores.
    """

    def __init__(self, workers: int = 1):
        self.workers = workers

    def __call__(
        self, job: Callable[[T, Callable[[int], None]], R | Later[R]], work: Sequence[T], advance: Callable[[int], Any]
    ) -> Iterator[tuple[T, R]]:
        crew = _Processes(pickled(job), self.workers) if self.workers > 1 else _Here(job)
        try:
            yield from work_on(crew, work, advance)
        finally:
            crew.end()


class _Here:
    """This process, as a crew of one. What it is given it does when it is asked what happened."""

    spread = False

    def __init__(self, job: Callable[[Any, Callable[[int], None]], Any]):
        self.told: SimpleQueue[Event] = SimpleQueue()
        self.bench = Bench(job, lambda kind, value: self.told.put(Event("here", kind, value)))
        self.given: tuple[Any, Callable[[int], Any]] | None = None

    def places(self) -> int:
        return 1

    def hire(self) -> str:
        self.told.put(Event("here", "ready"))
        return "here"

    def give(self, worker: Hashable, piece: Any, advance: Callable[[int], Any]) -> None:
        self.given = piece, advance

    def dismiss(self, worker: Hashable) -> None:
        pass

    def event(self, timeout: float | None) -> Event | None:
        if self.given is not None and self.told.empty():
            given, self.given = self.given, None
            self.bench.do(*given)
        try:
            event = self.told.get(timeout=timeout)
        except Empty:
            return None
        if event.kind == "failed" and not isinstance(event.value, Exception):
            raise event.value
        return event

    def end(self) -> None:
        self.bench.wait()  # nothing that was made is lost, and nobody writes any more when the folder's lock is gone


# ---- the parent ------------------------------------------------------------------------------------------------------


class _Processes:
    """So many processes of this machine."""

    spread = False

    def __init__(self, job: bytes, n: int):
        self.job, self.n = job, n
        self.free = _environments(n)  # of workers that are not there
        self.workers: dict[Connection, _Worker] = {}
        self.leaving: list[_Worker] = []

    def places(self) -> int:
        return self.n

    def hire(self) -> _Worker:
        worker = _Worker(self.free.pop(0))
        self.workers[worker.pipe] = worker
        return worker

    def give(self, worker: Any, piece: Any, advance: Callable[[int], Any]) -> None:
        worker.advance = advance
        worker.send(pickle.dumps(piece))

    def dismiss(self, worker: Any) -> None:
        worker.send(THE_END)
        self.leaving.append(self._without(worker))

    def event(self, timeout: float | None) -> Event | None:
        for pipe in wait(list(self.workers), timeout):
            worker = self.workers[pipe]  # type: ignore[index]
            try:
                kind, value = worker.pipe.recv()
            except (EOFError, OSError):  # the pipe ends with the process, after all that it had sent
                worker.process.join(GRACE)  # so that it is known how it ended
                self._without(worker).stop()
                return Event(worker, "lost", worker.last_words or worker.how_it_ended())
            if kind == "lost":
                worker.last_words = value  # and now it ends
            elif kind == "advance":
                worker.advance(value)
            elif kind == "here":
                worker.send(self.job)
            else:
                return Event(worker, kind, value)
        return None

    def _without(self, worker: _Worker) -> _Worker:
        self.free.append(worker.environment)
        return self.workers.pop(worker.pipe)

    def end(self) -> None:
        for worker in self.leaving:
            worker.process.join(GRACE)
        for worker in [*self.workers.values(), *self.leaving]:
            worker.stop()


class _Worker:
    """A process, the pipe to it, and who is told of its progress."""

    def __init__(self, environment: dict[str, str]):
        self.environment, self.last_words = environment, ""
        self.advance: Callable[[int], Any]  # as soon as it has a piece
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
    _say(pipe, "here")
    data = told.get()
    if data == THE_END:
        return
    try:
        job = pickle.loads(data)
    except Exception as error:
        _say(pipe, "failed", portable(error))
        return
    lost: list[DeviceFailed] = []

    def say(kind: str, value: Any) -> None:
        if isinstance(value, DeviceFailed):
            lost.append(value)
            _say(pipe, "lost", str(value).partition(". ")[0])
            return
        try:
            _say(pipe, kind, portable(value) if kind == "failed" else value)
        except Exception as error:  # a result that cannot travel
            _say(pipe, "failed", portable(error))

    bench = Bench(lambda piece, advance: job(pickle.loads(piece), advance), say)
    _say(pipe, "ready")
    while not lost and (piece := told.get()) != THE_END:
        bench.do(piece, partial(_say, pipe, "advance"))
    bench.wait()


def _say(pipe: Connection, kind: str, value: Any = None) -> None:
    try:
        with SAYING:
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

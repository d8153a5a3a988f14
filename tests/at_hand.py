"""A command ``figment`` that is there at once: each call is a process forked from one that has imported it (`warm`), where a new
Python takes seconds. It has the arguments, folder, environment, standard streams and exit status of whoever called it."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Thread

from warm import CONTEXT

#: What a script calls. Ctrl-C reaches it alone, and it hands it on.
COMMAND = """#!{python} -SE
import json, os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({place!r})
called = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(server, [len(called).to_bytes(4, "big")], [0, 1, 2])
server.sendall(called)
while True:
    try:
        sys.exit(int(server.recv(8) or 70))
    except KeyboardInterrupt:
        server.sendall(b"^C")
"""


@contextmanager
def figment_on_path(folder: Path) -> Iterator[Path]:
    """Write the command ``figment`` into a folder, for the front of somebody's ``PATH``, and answer it while the block runs."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "socket"))
        server.listen()
        command = folder / "figment"
        command.write_text(COMMAND.format(python=sys.executable, place=str(folder / "socket")))
        command.chmod(0o755)
        Thread(target=_answer, args=(server,), daemon=True).start()
        yield folder
        server.shutdown(socket.SHUT_RDWR)


def _answer(server: socket.socket) -> None:
    while True:
        try:
            call, _ = server.accept()
        except OSError:  # the end
            return
        Thread(target=_serve, args=(call,), daemon=True).start()


def _serve(call: socket.socket) -> None:
    with call:
        size, fds, _, _ = socket.recv_fds(call, 4, 3)
        told = call.recv(int.from_bytes(size, "big"), socket.MSG_WAITALL)
        streams = [Connection(fd) for fd in fds]  # what multiprocessing can hand to a child
        process = CONTEXT.Process(target=_run, args=(*json.loads(told), streams))
        process.start()
        for stream in streams:
            stream.close()
        call.sendall(str(_ended(process, call)).encode())


def _ended(process: BaseProcess, call: socket.socket) -> int:
    """Its exit status; until then it gets every Ctrl-C, and is ended where whoever called it has gone."""
    while process.sentinel not in wait([process.sentinel, call]):
        assert process.pid is not None
        os.kill(process.pid, signal.SIGINT if call.recv(2) else signal.SIGKILL)
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def _run(arguments: list[str], folder: str, environment: dict[str, str], streams: list[Connection]) -> None:
    from figment import cli

    for own, stream in enumerate(streams):
        os.dup2(stream.fileno(), own)
    sys.stdout, sys.stderr = (open(fd, "w", encoding="utf-8", closefd=False) for fd in (1, 2))  # noqa: SIM115 - to the end
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["figment", *arguments]
    cli.main()

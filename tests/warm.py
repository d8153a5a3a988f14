"""Child processes that are there at once: forked from a server that has imported what they need, where a new Python takes seconds.

The server is no fork of the tests' own process, which has threads, and a GPU perhaps.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence
from multiprocessing import get_context, set_start_method
from multiprocessing.process import BaseProcess

CONTEXT = get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "accelerate",
        "figment.cli",
        "figment.generate.finetune",
        "figment.learners.clip_head.learner",
        "figment.learners.pretrain.learner",
        "figment.run",
        "timm",
        "transformers.models.clip.modeling_clip",
    ]
)


def python(code: str, *arguments: object, path: Sequence[object] = (), **environment: str) -> BaseProcess:
    """Start what ``python -c CODE ARGUMENTS`` would, with more places to import from. It leads a process group of its own."""
    own = [str(argument) for argument in arguments], [str(place) for place in path], {**os.environ, **environment}
    process = CONTEXT.Process(target=_run, args=(code, *own))
    process.start()
    return process


def ended(process: BaseProcess, seconds: float = 300.0) -> int:
    """Its exit status, negative for a signal."""
    process.join(seconds)
    assert process.exitcode is not None, f"still there after {seconds:.0f} s"
    return process.exitcode


def launched(n: int, code: str, *arguments: object, path: Sequence[object] = ()) -> None:
    """Run the code in ``n`` processes that find one another, as ``torchrun`` would start them."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": str(n), "LOCAL_WORLD_SIZE": str(n), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    ranks = [python(code, *arguments, path=path, RANK=str(r), LOCAL_RANK=str(r), **common) for r in range(n)]
    assert [ended(rank) for rank in ranks] == [0] * n


def _run(code: str, arguments: list[str], path: list[str], environment: dict[str, str]) -> None:
    os.setsid()
    set_start_method(None, force=True)  # its own children start as those of any Python do
    os.environ.clear()
    os.environ.update(environment)
    sys.argv, sys.path[:0] = ["-c", *arguments], path
    exec(compile(code, "-c", "exec"), {"__name__": "__main__"})
